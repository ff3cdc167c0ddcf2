def init():
    return (1,

def run(data):
    return data
