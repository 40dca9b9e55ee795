# `db` is there already: the deployment has connected it. Nothing here says where the database, the sessions, the
# uploads or the cached values are.
db.define_table(
    "note",
    Field("title", requires=IS_NOT_EMPTY()),
    # With `uploads: database` the file goes into the database, otherwise into the folder uploads/.
    Field("attachment", "upload"),
    Field("created", "datetime", default=request.now),
)
