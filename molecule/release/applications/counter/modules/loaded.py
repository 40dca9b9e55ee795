# web2py's processes read this once, and the model at each request.
VERSION = "v1"
