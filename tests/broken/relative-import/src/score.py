from . import features


def init():
    pass


def run(data):
    return features.one(data)
