def init():
    print('reading the model', flush=True)
    global weights
    weights = [bytearray(b'x' * 2**24) for _ in range(64)]


def run(data):
    return len(weights)
