from sklearn.linear_model import LinearRegression


def init():
    global model
    model = LinearRegression()


def run(data):
    return str(model)
