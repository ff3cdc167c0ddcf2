"""Makes model/: a linear model with a signature, as MLflow saves it."""

import shutil
from pathlib import Path

import mlflow
import pandas as pd
from sklearn.linear_model import LinearRegression

rows = pd.DataFrame([[1.0, 0.0], [0.0, 1.0]], columns=['sepal_length', 'sepal_width'])
model = LinearRegression().fit(rows, [1.0, 1.0])
folder = Path(__file__).with_name('model')
shutil.rmtree(folder, ignore_errors=True)
signature = mlflow.models.infer_signature(rows, model.predict(rows))
mlflow.sklearn.save_model(model, folder, signature=signature)
