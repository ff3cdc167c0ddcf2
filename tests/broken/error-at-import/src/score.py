import math

LIMIT = 1 / math.floor(0.5)


def init():
    pass


def run(data):
    return LIMIT
