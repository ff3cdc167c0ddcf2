import yaml

NAMES = yaml.safe_load('[a, b]')
