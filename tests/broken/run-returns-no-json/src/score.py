def init():
    pass


def run(data):
    return object()
