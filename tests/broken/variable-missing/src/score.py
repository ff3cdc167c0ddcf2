import os


def init():
    global flavour
    flavour = os.environ['MODEL_FLAVOUR']


def run(data):
    return flavour
