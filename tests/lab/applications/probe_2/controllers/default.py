# What the scenarios ask web2py itself: how it sees a request, and whether each part of it works behind a front end.
import hashlib
import os
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
    return hashlib.file_digest(request.vars.file.file, "sha256").hexdigest()


def digest():
    session.forget(response)
    return hashlib.file_digest(request.body, "sha256").hexdigest()


def stream():
    """Stream that many times the same MiB."""
    session.forget(response)
    part = bytes(range(256)) * 4096
    response.headers["Content-Type"] = "application/octet-stream"
    return (part for _ in range(int(request.args(0))))


def page():
    """A page of that many bytes."""
    session.forget(response)
    return "x" * int(request.args(0))


def echo():
    session.forget(response)
    return f"echo of {request.args(0)}"


def count():
    """Count the requests for a name; how many there were is asked with `counted`."""
    session.forget(response)
    with open(os.path.join(request.folder, "cache", f"count_{request.args(0)}"), "a") as file:
        file.write("x")
    return "counted"


def counted():
    session.forget(response)
    path = os.path.join(request.folder, "cache", f"count_{request.args(0)}")
    return str(os.path.getsize(path) if os.path.exists(path) else 0)


@request.restful()
def rest():
    session.forget(response)

    def answer(*arguments, **_variables):
        response.headers["X-Method"] = request.env.request_method
        response.status = {"POST": 201, "DELETE": 202}.get(request.env.request_method, 200)
        return f"{request.env.request_method} {'/'.join(arguments)} {request.body.read().decode()}"

    return dict.fromkeys(("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"), answer)


def slow():
    session.forget(response)
    time.sleep(min(float(request.args(0)), 20))
    return "done"


def fail():
    raise RuntimeError("on purpose")
