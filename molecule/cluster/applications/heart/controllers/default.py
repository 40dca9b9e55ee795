import platform


def beat():
    """For balancers: web2py answers, and makes no session."""
    session.forget(response)
    return platform.node()


def who():
    """Which host has the session, and how often it was asked."""
    session.count = (session.count or 0) + 1
    return response.json(
        {"host": platform.node(), "count": session.count, "client": request.client, "https": request.is_https}
    )


def fail():
    raise RuntimeError("on purpose")


def eat():
    """Takes memory until the kernel ends this process."""
    taken = []
    while True:
        taken.append(b"x" * (16 << 20))
