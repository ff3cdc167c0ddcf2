def init():
    global model
    model = joblib.load('model.pkl')


def run(data):
    return data
