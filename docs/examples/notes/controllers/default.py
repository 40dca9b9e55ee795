import time


def index():
    """All notes, and a form for another one."""
    form = SQLFORM(db.note).process()
    if form.accepted:
        redirect(URL("index"))
    return {"form": form, "notes": db(db.note).select(orderby=~db.note.id, limitby=(0, 20))}


def download():
    """The attachment of a note, from wherever uploads are."""
    return response.download(request, db)


def visits():
    """How often this visitor has been here."""
    session.visits = (session.visits or 0) + 1
    return str(session.visits)


def clock():
    """The time, computed at most once a minute by all processes together."""
    return cache.ram("clock", lambda: repr(time.time()), time_expire=60)


def counter():
    """A number that all processes share."""
    return str(cache.ram.increment("counter"))
