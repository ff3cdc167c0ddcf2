def init():
    import cv2

    cv2.setNumThreads(1)


def run(data):
    return data
