"""scikit-learn models of MLflow served without importing MLflow or pandas, where that cannot change an answer.

Those two imports are most of a replica's start and 100 MB of its memory, and a plain request needs neither. A model
goes direct only when its structure makes sure that MLflow would give its estimator the very same numbers:

- MLmodel is plain (see mlmodel.py): no code paths, params, type hints or model config; the model's file is inside.
- The signature is plain: required numeric or boolean columns with unique names, or one unnamed float matrix. Strings,
  dates, binary and optional columns never go direct.
- The pickle names only scikit-learn, numpy and scipy (and harmless builtins): no user code runs while it is loaded.
- The estimator, or each step of a flat Pipeline, is one of `_CLASSES` itself, not a subclass. These read their input
  through check_array by position. ColumnTransformer, FunctionTransformer, stacking, voting and searches are not there.
- All parameters are plain values: no functions, no other estimators. No transformer has a set_output() configuration.
- Fitted names are the signature's, in its order; only the first step has names. The number of columns agrees.
- predict is predict, predict_proba or predict_log_proba; on sample rows it gives one array, without any warning.
- Python and scikit-learn are those the model was saved with.

Everything else raises, and MLflow loads the model as if this module were not there, with its own messages.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any, Callable

from . import fastpath, mlmodel, pins, rowwise
from .imports import postponed
from .log import log
from .mlmodel import Metadata, NotPlainError

_CLASSES = frozenset(
    # linear models
    "LinearRegression Ridge RidgeCV RidgeClassifier RidgeClassifierCV Lasso LassoCV ElasticNet ElasticNetCV "
    "BayesianRidge ARDRegression HuberRegressor TheilSenRegressor SGDClassifier SGDRegressor LogisticRegression "
    "LogisticRegressionCV Perceptron PoissonRegressor GammaRegressor TweedieRegressor QuantileRegressor LinearSVC "
    "LinearSVR SVC SVR NuSVC NuSVR LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis PLSRegression "
    # trees and their ensembles
    "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor RandomForestClassifier "
    "RandomForestRegressor ExtraTreesClassifier ExtraTreesRegressor GradientBoostingClassifier "
    "GradientBoostingRegressor HistGradientBoostingClassifier HistGradientBoostingRegressor IsolationForest "
    # others
    "KNeighborsClassifier KNeighborsRegressor GaussianNB MultinomialNB ComplementNB BernoulliNB MLPClassifier "
    "MLPRegressor KMeans MiniBatchKMeans GaussianMixture "
    # transformers
    "StandardScaler MinMaxScaler MaxAbsScaler RobustScaler Normalizer Binarizer PolynomialFeatures PowerTransformer "
    "QuantileTransformer SplineTransformer KBinsDiscretizer PCA IncrementalPCA TruncatedSVD SimpleImputer "
    "VarianceThreshold SelectKBest SelectPercentile".split()
)
_TRUSTED_ROOTS = frozenset({"sklearn", "numpy", "scipy", "collections", "_codecs", "copyreg"})
_TRUSTED_BUILTINS = frozenset(
    {"bool", "bytearray", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "slice"}
)
_PLAIN = (type(None), bool, int, float, str)


class Direct:
    """A model that answers plain rows; it has the two attributes of a fast path."""

    way = "array, without MLflow"

    def __init__(self, metadata: Metadata, layout: fastpath.Layout, call: Callable[[Any], Any]) -> None:
        self.metadata = metadata
        self.layout = layout
        self._call = call
        self._array = fastpath.numbers(layout)

    def predict(self, rows: list[list[Any]]) -> Any:
        return self._call(self._array(rows))


def load(folder: Path) -> Direct:
    """The model in `folder`; NotPlainError or any other Exception when MLflow must load it."""
    for package in ("mlflow", "pandas"):
        _demand(importlib.util.find_spec(package), f"{package} is not in the environment")
    # Whoever sets MLflow's own gate gets MLflow's own check of it.
    _demand("MLFLOW_ALLOW_PICKLE_DESERIALIZATION" not in os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION is set")
    metadata = mlmodel.read(folder)
    layout = fastpath.layout_of(metadata.get_input_schema())
    if layout is None or "str" in layout.dtypes:
        raise NotPlainError("its signature is not one of plain numbers")
    name = metadata.flavors["python_function"].get("predict_fn", "predict")
    _demand(name in rowwise.PREDICT_FUNCTIONS, f"it answers with {str(name)[:50]}")
    _demand_versions(metadata)
    with postponed("pandas"):
        estimator = _read(folder, metadata)
    _demand_certain(estimator, layout)
    found = Direct(metadata, layout, getattr(fastpath.without_names(estimator), name))
    _try(found)
    _warn_of_packages(folder)
    return found


def _demand(fine: Any, reason: str) -> None:
    if not fine:
        raise NotPlainError(reason)


def _demand_versions(metadata: Metadata) -> None:
    """With other versions an old pickle may mean something else, and MLflow's warnings are wanted at the start."""
    saved = str(metadata.flavors["python_function"].get("python_version", ""))
    _demand(saved.split(".")[:2] == [str(part) for part in sys.version_info[:2]], f"it was saved with Python {saved}")
    saved = str(metadata.flavors["sklearn"].get("sklearn_version", ""))
    current = pins.installed().get("scikit-learn")
    _demand(saved == current, f"it was saved with scikit-learn {saved} and the environment has {current}")


def _warn_of_packages(folder: Path) -> None:
    found = pins.mismatches(folder / "requirements.txt")
    if found:
        log.warning(
            "Detected one or more mismatches between the model's dependencies and the current Python environment:\n%s",
            "\n".join(f" - {line}" for line in found),
        )


def _read(folder: Path, metadata: Metadata) -> Any:
    home = folder.resolve()
    file = (home / str(metadata.flavors["python_function"].get("model_path"))).resolve()
    _demand(home in file.parents and file.is_file(), "its model file is not in its folder")
    kind = metadata.flavors["sklearn"].get("serialization_format", "pickle")
    if kind == "skops":
        import skops.io

        return skops.io.load(file, trusted=None)
    _demand(kind in {"pickle", "cloudpickle"}, f"its serialization format is {str(kind)[:50]}")
    with file.open("rb") as stream:
        return _Unpickler(stream).load()


class _Unpickler(pickle.Unpickler):
    """Refuses whatever is not a library's own, before any of it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        root = module.partition(".")[0]
        known = name in _TRUSTED_BUILTINS if root in {"builtins", "__builtin__"} else root in _TRUSTED_ROOTS
        _demand(known and "." not in name, f"its pickle names {module[:60]}.{name[:60]}")
        return super().find_class(module, name)


def _demand_certain(estimator: Any, layout: fastpath.Layout) -> None:
    steps = [estimator]
    if _is_own(estimator, {"Pipeline"}):
        _demand(estimator.memory is None, "its Pipeline has a cache")
        steps = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
        _demand(steps, "its Pipeline is empty")
    for number, step in enumerate(steps):
        kind = type(step).__name__
        _demand(_is_own(step, _CLASSES), f"{kind} is not known to be certain")
        _demand(all(map(_is_plain, step.get_params(deep=False).values())), f"{kind} has a parameter that is not plain")
        held = vars(step)
        _demand("_sklearn_output_config" not in held, f"{kind} has an output configuration")
        _demand(held.get("_preprocessor") is None, f"{kind} treats columns by their kind")
        names = held.get("feature_names_in_")
        if names is not None and layout.names is not None:
            _demand(number == 0, f"{kind} wants names from the step before it")
            _demand(list(names) == layout.names, "it was fitted with other names than the signature's")
    _demand("_sklearn_output_config" not in vars(estimator), "it has an output configuration")
    _demand(getattr(steps[0], "n_features_in_", None) == layout.width, "the signature is not as wide as the model")


def _is_own(value: Any, names: Any) -> bool:
    kind = type(value)
    if kind.__name__ not in names or kind.__module__.partition(".")[0] != "sklearn":
        return False
    return getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if type(value).__module__ == "numpy":
        return getattr(value, "dtype", None) is not None and value.dtype.kind in "biufU"
    return isinstance(value, _PLAIN) or type(value).__name__ == "RandomState"


def _try(found: Direct) -> None:
    """The first predict is the slowest; it also shows what comes out."""
    samples = found.layout.samples
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = found.predict(samples)
    _demand(type(values).__name__ == "ndarray" and values.shape[:1] == (len(samples),), "its answer is not one array")
    _demand(values.dtype.kind in "biufUO", "its answer is of a special kind")


def difference(found: Direct, proved: fastpath.FastPath) -> str:
    """How the two answer sample rows differently; empty when they agree."""
    import numpy as np

    samples = found.layout.samples
    ours, theirs = np.asarray(found.predict(samples)), np.asarray(proved.predict(samples))
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{theirs.dtype}{theirs.shape} instead of {ours.dtype}{ours.shape}"
    # The last bits depend on the order of columns in memory, for MLflow's own frames too.
    same = np.allclose(ours, theirs, rtol=1e-6, equal_nan=True) if ours.dtype.kind == "f" else (ours == theirs).all()
    return "" if same else f"{theirs.tolist()} instead of {ours.tolist()}"[:500]
