def fail():
    seen = XML("<b>naïve</b>")
    raise RuntimeError(f"broken on purpose: {seen}")


def fail_without_database():
    def refuse(*_args, **_options):
        raise RuntimeError("no tables today")

    db.define_table = refuse
    raise RuntimeError("broken on purpose")
