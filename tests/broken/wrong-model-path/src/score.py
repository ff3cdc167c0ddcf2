import json
import os


def init():
    global weights
    with open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'model.json')) as stream:
        weights = json.load(stream)


def run(data):
    return weights
