def index():
    return {"message": T("Welcome to web2py!"), "version": request.global_settings.web2py_version}
