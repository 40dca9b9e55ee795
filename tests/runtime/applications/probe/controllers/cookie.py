def visits():
    session.visits = (session.visits or 0) + 1
    return str(session.visits)


def secure_visits():
    session.secure()
    return visits()
