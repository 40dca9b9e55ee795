# Another version of the application has another number here and in modules/.
VERSION = "v1"
