import json


def init():
    global weights
    weights = json.load(open('/home/anna/model/weights.json'))


def run(data):
    return weights
