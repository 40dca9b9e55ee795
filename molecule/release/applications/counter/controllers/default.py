import time

import loaded


def index():
    return VERSION


def visits():
    """How often this visitor has been here, and which version answers, as read now and as loaded."""
    session.visits = (session.visits or 0) + 1
    return f"{session.visits} {VERSION} {loaded.VERSION} {request.env.web2py_version}"


def slow():
    time.sleep(float(request.args(0)))
    return VERSION
