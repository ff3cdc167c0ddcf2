def init():
    pass


def predict(data):
    return data
