session.name = "Jürgen ☃ 書"
if request.vars.where == "model":
    raise LookupError("Ärger im Modell: ☃\N{NULL}\ud800 <script>alert(1)</script>")
