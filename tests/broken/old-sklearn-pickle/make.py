"""Makes model/model.pkl with scikit-learn 1.2.2: run it in an environment with that version and numpy<2."""

import pickle
from pathlib import Path

from sklearn.tree import DecisionTreeClassifier

tree = DecisionTreeClassifier(max_depth=2).fit([[0, 0], [1, 1], [2, 0]], [0, 1, 0])
file = Path(__file__).with_name('model') / 'model.pkl'
file.parent.mkdir(exist_ok=True)
file.write_bytes(pickle.dumps(tree, protocol=4))
