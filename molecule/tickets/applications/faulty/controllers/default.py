def index():
    return "well"


def controller():
    number = request.vars.number or "0\N{NULL} gefährlich ☃"[:1]
    return 1 / int(number)


def imported():
    import no_such_module_anywhere

    return no_such_module_anywhere


def view():
    return {"text": "grün"}
