import json

from sklearn.linear_model import LinearRegression


def init():
    global model
    model = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])


def run(data):
    return model.predict(json.loads(data)['rows']).tolist()
