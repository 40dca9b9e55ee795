# ruff: noqa: F821 (web2py gives an action its names)


def index():
    return {"message": T("Welcome to web2py!"), "version": request.global_settings.web2py_version}
