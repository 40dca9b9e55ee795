db = DAL("sqlite://storage.sqlite")
db.define_table("document", Field("title"), Field("content", "upload"))

if request.controller == "cookie":
    session.connect(request, response, cookie_key="a key of the test")
if request.controller == "stored":
    request.tickets_db = db
