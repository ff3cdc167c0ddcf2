"""Makes model/model.pkl: the first half of a pickle."""

import pickle
from pathlib import Path

whole = pickle.dumps([f'word {number}' for number in range(40)], protocol=4)
file = Path(__file__).with_name('model') / 'model.pkl'
file.parent.mkdir(exist_ok=True)
file.write_bytes(whole[: len(whole) // 2])
