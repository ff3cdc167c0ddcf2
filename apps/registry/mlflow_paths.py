"""What of MLflow's addresses is open, and whether a request only reads. Standard library only: two processes ask this.

A list of what is allowed: webhooks, gateway, jobs, scorers, prompt optimisation, demos and everything a later MLflow
adds stay shut until somebody opens them here.
"""

from __future__ import annotations

import re
from enum import StrEnum

PREFIX = "/mlflow"


class Access(StrEnum):
    READ = "read"
    WRITE = "write"
    REGISTRY = "registry"  # a write that may make a model version


API = re.compile(
    r"/(?:ajax-)?api/(?:2\.0|3\.0)/(?P<product>mlflow|mlflow-artifacts)/(?P<head>[a-z-]+)(?:/(?P<rest>.*))?", re.DOTALL
)
PAGES = {"", "/", "/health", "/version", "/get-artifact", "/model-versions/get-artifact"}
OPEN = {
    "experiments",
    "runs",
    "metrics",
    "artifacts",
    "registered-models",
    "model-versions",
    "logged-models",
    "upload-artifact",
}
READ_ONLY = {"server-info", "workspaces", "traces", "datasets"}
ARTIFACTS = {"artifacts", "mpu", "presigned"}
REGISTRY = {"registered-models", "model-versions"}
SEARCHES = {"search", "search-datasets", "get-latest-versions", "presigned-download-url", "batchGetInfos"}
SHUT = {"create-promptlab-run"}
READS = {"GET", "HEAD", "OPTIONS"}


def classify(method: str, path: str) -> Access | None:
    """What a request does, by its decoded path with the prefix; None when it is not open at all."""
    below = path.removeprefix(PREFIX)
    if below in PAGES or below.startswith("/static-files/"):
        return Access.READ if method in READS else None
    if below == "/graphql":  # the UI's way to read runs and experiments; its schema has no mutation but an echo
        return Access.READ if method in READS | {"POST"} else None
    match = API.fullmatch(below)
    if match is None:
        return None
    if match["product"] == "mlflow-artifacts":
        return _artifacts(method, match["head"])
    return _tracking(method, match["head"], match["rest"] or "")


def _artifacts(method: str, head: str) -> Access | None:
    if head not in ARTIFACTS:
        return None
    return Access.READ if method in READS else Access.WRITE


def _tracking(method: str, head: str, rest: str) -> Access | None:
    reads = method in READS or (method == "POST" and rest in SEARCHES)
    if head in READ_ONLY:
        return Access.READ if reads else None
    if head not in OPEN or rest in SHUT:
        return None
    if reads:
        return Access.READ
    return Access.REGISTRY if head in REGISTRY else Access.WRITE
