"""Which server a deployment runs, and what that asks of its compute."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.utils.translation import gettext as _

from apps.core.errors import Problem
from apps.endpoints.contents import Served, contents_of
from apps.registry.enums import ModelType

PROPERTY = "portway.server"
GRPC_PORT = "portway.grpcPort"
PROPERTIES = (PROPERTY, GRPC_PORT)  # of a deployment; a change of one needs new replicas
PORT_MOST = 65_535


class Server(StrEnum):
    PORTWAY = "portway"  # our own: scoring scripts and MLflow models
    AZUREML = "azureml-inference-server-http"  # Microsoft's, for scoring scripts
    TRITON = "triton"
    CONTAINER = "container"  # whatever the image starts, on the routes of its inference_config


CHOICES = (Server.PORTWAY, Server.AZUREML)
"""What `portway.server` in a deployment's properties may name; the others follow from model and environment."""


def server_of(served: Served) -> Server:
    own = contents_of(served)
    if own.environment is not None and own.environment.inference_config:
        return Server.CONTAINER
    if own.code is None and own.model is not None and own.model.type == ModelType.TRITON:
        return Server.TRITON
    if own.properties.get(PROPERTY) == Server.AZUREML:
        return Server.AZUREML
    return Server.PORTWAY


def needs_container(served: Served) -> bool:
    """Whether only compute with containers can run it."""
    environment = served.environment
    if environment is None:
        return False
    packages = bool(environment.conda_file or environment.requirements)
    return bool(environment.inference_config or environment.build_context_id or (environment.image and not packages))


def grpc_port(served: Served) -> int | None:
    """The port on which a container of the user's own speaks gRPC, if they named one."""
    text = served.properties.get(GRPC_PORT, "")
    return int(text) if text else None


def check(served: Served) -> None:
    """Raises Problem "bad-field", "environment-needed" or "unsupported" when no server can run it."""
    named = served.properties.get(PROPERTY, Server.PORTWAY)
    target = f"properties.{PROPERTY}"
    if named not in CHOICES:
        reason = f"must be {' or '.join(CHOICES)}, not {named}"
        raise Problem("bad-field", field=target, reason=reason, target=target)
    own = contents_of(served)
    if named == Server.AZUREML and own.package is not None and own.package.copies:
        reason = "the image of this package has Portway's server in it, which has the same contract"
        raise Problem("bad-field", field=target, reason=reason, target=target)
    if named == Server.AZUREML and own.code is None:
        raise Problem("bad-field", field=target, reason="this server needs a scoring script", target=target)
    _check_grpc(served)
    server = server_of(served)
    if server is Server.CONTAINER:
        _check_container(served.environment)
    elif own.code is None and server is not Server.TRITON and not _is_mlflow(own.model):
        reason = (
            "without a scoring script, MLflow models, Triton models, and images whose environment has an "
            "inference_config can be deployed"
        )
        hint = _("Give a scoring script, or register the model as mlflow_model or triton_model if it is one.")
        raise Problem("unsupported", what="This deployment", reason=reason, hint=hint, target="codeConfiguration")


def _is_mlflow(model: Any) -> bool:
    return model is not None and model.type == ModelType.MLFLOW


def _check_container(environment: Any) -> None:
    if not environment.image and not environment.build_context_id:
        reason = "inference_config describes the server of an image; give an image or a Dockerfile too"
        raise Problem("bad-field", field="environmentId", reason=reason, target="environmentId")


def _check_grpc(served: Served) -> None:
    target = f"properties.{GRPC_PORT}"
    text = served.properties.get(GRPC_PORT, "")
    if not text:
        return
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(PORT_MOST)) and 1 <= int(text) <= PORT_MOST):
        raise Problem("bad-field", field=target, reason=f"must be a port, 1 to {PORT_MOST}", target=target)
    if server_of(served) is not Server.CONTAINER:
        reason = "is for images with an inference_config; Triton speaks gRPC by itself"
        raise Problem("bad-field", field=target, reason=reason, target=target)
