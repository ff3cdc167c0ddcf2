"""Which models may answer several requests with one predict: those whose rows do not know of each other.

The list is short on purpose. A pyfunc of unknown make may normalise over the batch, keep state or call out; it is never
batched. From scikit-learn, xgboost, lightgbm and catboost only their own classes count: a user's subclass, a callable
parameter or a FunctionTransformer is user code again.
"""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

PREDICT_FUNCTIONS = frozenset({"predict", "predict_proba", "predict_log_proba"})
_LOADERS = {
    "mlflow.sklearn": ("sklearn",),
    "mlflow.xgboost": ("xgboost", "sklearn"),
    "mlflow.lightgbm": ("lightgbm", "sklearn"),
    "mlflow.catboost": ("catboost",),
}
_CODE = (FunctionType, MethodType, BuiltinFunctionType)


def is_row_wise(model: Any) -> bool:
    """Whether this loaded pyfunc's rows are independent, as far as we can be sure."""
    packages = _LOADERS.get(loader(model))
    if packages is None or predict_function(model) not in PREDICT_FUNCTIONS:
        return False
    raw = raw_model(model)
    return raw is not None and _own(raw, packages)


def loader(model: Any) -> str:
    return str(_pyfunc_flavor(model).get("loader_module", ""))


def predict_function(model: Any) -> str:
    return str(_pyfunc_flavor(model).get("predict_fn", "predict"))


def _pyfunc_flavor(model: Any) -> dict[str, Any]:
    return dict(model.metadata.flavors.get("python_function", {}))


def raw_model(model: Any) -> Any:
    """The estimator or booster inside the pyfunc, None when this MLflow does not hand it out."""
    implementation = getattr(model, "_model_impl", None)
    get = getattr(implementation, "get_raw_model", None)
    if get is not None:
        return get()
    for name in ("sklearn_model", "xgb_model", "lgb_model", "cb_model"):
        if hasattr(implementation, name):
            return getattr(implementation, name)
    return None


def _own(value: Any, packages: tuple[str, ...]) -> bool:
    kind = type(value)
    if kind.__module__.partition(".")[0] not in packages or kind.__name__ == "FunctionTransformer":
        return False
    get_params = getattr(value, "get_params", None)
    if get_params is None:
        return True  # a Booster: no parameters that could be code
    return all(_harmless(item, packages) for item in get_params(deep=True).values())


def _harmless(item: Any, packages: tuple[str, ...]) -> bool:
    if isinstance(item, (list, tuple)):
        return all(_harmless(part, packages) for part in item)
    if isinstance(item, _CODE):
        return False
    if hasattr(item, "get_params") and not isinstance(item, type):
        kind = type(item)
        return kind.__module__.partition(".")[0] in packages and kind.__name__ != "FunctionTransformer"
    return True
