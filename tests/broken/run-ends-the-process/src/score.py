import os


def init():
    pass


def run(data):
    print('going down', flush=True)
    os._exit(5)
