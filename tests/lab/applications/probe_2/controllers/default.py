# What the scenarios ask web2py itself: how it sees a request, and whether each part of it works behind a front end.
import os
import time



def index():
    return dict(message="probe")


def request_info():
    return response.json(
        dict(
            is_https=bool(request.is_https),
            is_local=bool(request.is_local),
            client=request.client,
            port=request.env.server_port,
            host=request.env.http_host,
            url=URL("index", host=True),
            release=os.path.realpath(os.path.join(request.folder, "controllers")),
            pid=os.getpid(),
        )
    )


def visits():
    session.visits = (session.visits or 0) + 1
    return str(session.visits)


def form():
    form = FORM(INPUT(_name="word", requires=IS_NOT_EMPTY()), INPUT(_type="submit"))
    if form.process().accepted:
        session.word = form.vars.word
    return dict(form=form, word=session.word or "")


def upload():
    session.forget(response)
    import hashlib

    upload = request.vars.file
    return hashlib.sha256(upload.file.read()).hexdigest()


def slow():
    session.forget(response)
    time.sleep(min(float(request.args(0) or 1), 20))
    return "done"


def fail():
    raise RuntimeError("on purpose")


def secrets():
    return open(os.path.join(request.folder, "private", "secret.txt")).read()
