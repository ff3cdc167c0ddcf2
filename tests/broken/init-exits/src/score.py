import os


def init():
    print('settings not found', flush=True)
    os._exit(4)


def run(data):
    return data
