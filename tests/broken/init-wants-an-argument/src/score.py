def init(context):
    pass


def run(data):
    return data
