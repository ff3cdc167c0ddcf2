import json


def init():
    global weights
    weights = json.load(open('weights.json'))


def run(data):
    return weights
