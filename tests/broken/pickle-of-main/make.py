"""Makes model/model.pkl: the pickle of a class of the script that runs."""

import pickle
from pathlib import Path


class Scaler:
    factor = 2

    def __init__(self):
        self.offset = 1


file = Path(__file__).with_name('model') / 'model.pkl'
file.parent.mkdir(exist_ok=True)
file.write_bytes(pickle.dumps(Scaler(), protocol=4))
