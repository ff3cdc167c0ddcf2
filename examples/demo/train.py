"""Train the two models of the demo on the diabetes data that scikit-learn ships: `train.py <folder>`.

Writes <folder>/blue and <folder>/green, both MLflow models, and <folder>/sample.json, a request body.
"""

import importlib.metadata
import json
import sys
import warnings
from pathlib import Path

from mlflow.models import infer_signature
from mlflow.sklearn import save_model
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge

NEEDED = ("mlflow-skinny", "numpy", "pandas", "scikit-learn", "scipy", "cloudpickle")


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    features, target = load_diabetes(return_X_y=True, as_frame=True)
    sample = features.head(2)
    requirements = [f"{name}=={importlib.metadata.version(name)}" for name in NEEDED]
    models = {"blue": Ridge(alpha=0.5), "green": GradientBoostingRegressor(n_estimators=60, random_state=0)}
    for name, model in models.items():
        model.fit(features, target)
        save_model(
            model,
            folder / name,
            signature=infer_signature(features, model.predict(sample)),
            input_example=sample,
            serialization_format="cloudpickle",
            pip_requirements=requirements,
        )
    body = {"input_data": {"columns": list(sample.columns), "data": sample.round(4).values.tolist()}}
    (folder / "sample.json").write_text(json.dumps(body))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
