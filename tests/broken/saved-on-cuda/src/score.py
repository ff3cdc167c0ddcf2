def init():
    # the words of torch.load
    raise RuntimeError(
        'Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. '
        'If you are running on a CPU-only machine, please use torch.load with map_location'
    )


def run(data):
    return data
