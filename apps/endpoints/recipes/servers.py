"""One recipe for each kind of server: what is started, where it listens, how it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apps.builds.contract import RUNTIME
from apps.builds.domain import Runnable
from apps.endpoints.models import OnlineDeployment
from apps.endpoints.recipes.common import Parts
from apps.endpoints.servers import Server, grpc_port

LONGEST_PROBE_S = 10.0
TRITON_GRACE_S = 15.0  # it waits for requests in flight, then for its models
TRITON_PORTS = (8000, 8001)

Values = dict[str, Any]
"""Fields of `compute.domain.Recipe`."""


def portway(deployment: OnlineDeployment, runnable: Runnable, parts: Parts) -> Values:
    """Our scoring server: a scoring script, or an MLflow model without one."""
    python = parts.add_runtime(runnable)
    parts.add_overlay(runnable)
    parts.add_model()
    parts.add_code()
    parts.env |= {
        "PORTWAY_MAX_CONCURRENCY": str(deployment.max_concurrent_requests),
        "PORTWAY_SESSION": f"{deployment.name}-{deployment.revision}",
    }
    own = parts.contents
    if own.code is None and own.model is not None:
        parts.env["PORTWAY_MLFLOW_MODEL"] = str(Path(parts.env["AZUREML_MODEL_DIR"], own.model.path))
    return {"argv": (python, f"{RUNTIME}/boot.py")}


def azureml(deployment: OnlineDeployment, runnable: Runnable, parts: Parts) -> Values:
    """Microsoft's server. Its one worker answers no probe while it scores: asking must wait as long as a request."""
    python = parts.add_runtime(runnable)
    parts.add_model()
    parts.add_code()
    config = f"{RUNTIME}/azureml/gunicorn_conf.py"
    return {
        "argv": (python, "-m", "gunicorn", "-c", config, "portway_azureml:app"),
        "ready_path": "/",
        "probe_s": min(LONGEST_PROBE_S, deployment.request_timeout_ms / 1000 + 1),
        "idle_s": 1.5,  # below gunicorn's 2 s
    }


def triton(_deployment: OnlineDeployment, runnable: Runnable, parts: Parts) -> Values:
    """The tritonserver of the built packages; with an image of the user's, the one in it."""
    parts.add_model()
    model = parts.contents.model
    repository = str(Path(parts.env["AZUREML_MODEL_DIR"], model.path if model is not None else ""))
    asked = {
        "ready_path": "/v2/health/ready",
        "live_path": "/v2/health/live",
        "score_path": "/",
        "grace_s": TRITON_GRACE_S,
        "idle_s": 20.0,
    }
    if runnable.path is None and not (runnable.contained and runnable.python):
        http, grpc = TRITON_PORTS
        argv = ("tritonserver", f"--model-repository={repository}", f"--http-port={http}", f"--grpc-port={grpc}")
        return asked | {"argv": argv, "port": http, "grpc_port": grpc, "image_user": True}
    python = parts.add_runtime(runnable)
    parts.env["PORTWAY_TRITON_MODELS"] = repository
    if not runnable.image:  # its ports are on loopback, which processes that may reach out share with each other
        asked["egress"] = False
    return asked | {"argv": (python, f"{RUNTIME}/triton/launch.py"), "grpc_port": TRITON_PORTS[1]}


def container(deployment: OnlineDeployment, _runnable: Runnable, parts: Parts) -> Values:
    """Any server: the image's own command, asked on the routes of its inference_config (spec 6.4)."""
    parts.add_model()
    parts.add_code()
    environment = deployment.environment
    routes = environment.inference_config if environment is not None else None
    if routes is None:
        raise ValueError("a container without inference_config")
    score, ready, live = routes["scoringRoute"], routes["readinessRoute"], routes["livenessRoute"]
    return {
        "argv": (),
        "image_user": True,
        "port": score["port"],
        "ready_port": ready["port"],
        "ready_path": ready["path"],
        "live_port": live["port"],
        "live_path": live["path"],
        "score_path": score["path"],
        "grpc_port": grpc_port(deployment),
        "idle_s": 1.5,  # whatever it is, few servers close idle connections sooner
    }


BY_SERVER = {
    Server.PORTWAY: portway,
    Server.AZUREML: azureml,
    Server.TRITON: triton,
    Server.CONTAINER: container,
}
