greeting = "set by the model"
