# What the scenarios ask web2py itself: how it sees a request, and whether each part of it works behind a front end.
import hashlib
import time


def index():
    return {"message": "probe"}


def request_info():
    return response.json(
        {
            "is_https": bool(request.is_https),
            "is_local": bool(request.is_local),
            "client": request.client,
            "port": request.env.server_port,
            "url": URL("index", host=True),
        }
    )


def visits():
    session.visits = (session.visits or 0) + 1
    return str(session.visits)


def form():
    form = FORM(INPUT(_name="word", requires=IS_NOT_EMPTY()), INPUT(_type="submit"))
    if form.process().accepted:
        session.word = form.vars.word
    return {"form": form, "word": session.word or ""}


def upload():
    session.forget(response)
    return hashlib.sha256(request.vars.file.file.read()).hexdigest()


def slow():
    session.forget(response)
    time.sleep(min(float(request.args(0)), 20))
    return "done"


def fail():
    raise RuntimeError("on purpose")
