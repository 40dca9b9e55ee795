# What the contract asks of web2py, the real one and the stand-in.


def index():
    return "index of the contract"


def page():
    return {"message": "<" + greeting + ">"}


def seen():
    return response.json(
        {
            "application": request.application,
            "args": list(request.args),
            "client": request.client,
            "function": request.function,
            "is_https": bool(request.is_https),
            "is_local": bool(request.is_local),
            "method": request.env.request_method,
            "port": request.env.server_port,
            "word": request.vars.word,
        }
    )


def visits():
    session.visits = (session.visits or 0) + 1
    return str(session.visits)


def refuse():
    raise HTTP(403, "refused by the action")


def fail():
    raise ValueError("failed on purpose")
