import features


def init():
    pass


def run(data):
    return features.NAMES
