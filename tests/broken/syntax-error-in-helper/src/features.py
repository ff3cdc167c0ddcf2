def scale(value):
    retrun value
