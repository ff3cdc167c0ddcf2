import urllib.request


def init():
    global vocabulary
    vocabulary = urllib.request.urlopen('https://models.example.com/vocabulary.json', timeout=5).read()


def run(data):
    return len(vocabulary)
