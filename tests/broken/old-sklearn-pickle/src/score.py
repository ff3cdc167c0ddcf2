import os
import pickle


def init():
    global model
    with open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'model', 'model.pkl'), 'rb') as stream:
        model = pickle.load(stream)


def run(data):
    return str(model)
