from json import parse_xml


def init():
    pass


def run(data):
    return parse_xml(data)
