def one(value):
    return value
