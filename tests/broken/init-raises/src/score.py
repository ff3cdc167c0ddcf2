def init():
    threshold = 3
    if threshold > 2:
        raise RuntimeError('no luck')


def run(data):
    return data
