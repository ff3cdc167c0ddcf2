"""The Dockerfile of a package, for people to read. A pure function: equal plans give equal text.

What the package index is, and whose password it takes, is known to the first stage only. The last one runs nothing, so
the history of the image tells nothing of it either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from apps.builds.contract import APP_ROOT, OVERLAY, RUNTIME
from apps.builds.enums import PackageServer
from runtime.overlay import PINS

ENVIRONMENT = "/opt/portway/env"
OWN_PYTHON = f"{ENVIRONMENT}/bin/python"
USER = "10001:10001"
PORT = 5001
TRITON_PORTS = (8000, 8001)
PIP_SETTINGS = "PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore"
HEALTHY = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}{path}', timeout=5)"


@dataclass(frozen=True)
class Plan:
    """What goes into an image, and where.

    `python`: of the base image. `packages`: whether the lock is installed; without, the image's own Python serves.
    `models`: the folder that AZUREML_MODEL_DIR names; `mlflow`: the MLflow model in it, or "". `ports`: of a custom
    server.
    """

    package: str
    model: str
    base: str
    server: str
    models: str
    python: str = "python3"
    packages: bool = True
    wheels_only: bool = True
    mlflow: str = ""
    repository: str = ""
    code: str = ""
    script: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = (PORT,)

    @property
    def interpreter(self) -> str:
        return OWN_PYTHON if self.packages else self.python

    @property
    def ours(self) -> bool:
        """Whether a program of ours serves it, for which Python packages are installed."""
        return self.server == PackageServer.AZUREML_ONLINE or (self.server == PackageServer.TRITON and self.packages)


def render(plan: Plan) -> str:
    """The text; every file that it copies is in the context."""
    lines = [f"# Package {plan.package}: model {plan.model} with its environment and its server. See README.md."]
    if plan.ours:
        lines += [*_packages(plan), ""]
    lines += [f"FROM {plan.base}"]
    if plan.ours:
        lines += _ours(plan)
    if plan.code:
        lines.append(_copy("code/", f"{plan.code}/"))
    lines += [_copy("model/", f"{plan.models}/"), *_variables(contract(plan) | plan.variables)]
    lines += _served(plan)
    return "\n".join(lines) + "\n"


def _packages(plan: Plan) -> list[str]:
    wheels = " --only-binary=:all:" if plan.wheels_only else ""
    lines = [f"FROM {plan.base} AS packages", "USER root", f"ENV {PIP_SETTINGS}"]
    if plan.packages:
        lines += [
            "COPY requirements.lock /opt/portway/requirements.lock",
            f"RUN {plan.python} -m venv {ENVIRONMENT}",
            f"RUN {OWN_PYTHON} -m pip install --no-deps{wheels} -r /opt/portway/requirements.lock",
        ]
    if plan.server == PackageServer.AZUREML_ONLINE:
        pins = " ".join(f"{name}=={version}" for name, version in PINS.items())
        pip = f"{plan.interpreter} -m pip install --no-deps --only-binary=:all:"
        lines.append(f"RUN {pip} --target {OVERLAY} {pins}")
    return lines


def _ours(plan: Plan) -> list[str]:
    lines = [f"COPY --from=packages {ENVIRONMENT} {ENVIRONMENT}"] if plan.packages else []
    if plan.server == PackageServer.AZUREML_ONLINE:
        lines.append(f"COPY --from=packages {OVERLAY} {OVERLAY}")
    return [*lines, f"COPY runtime/ {RUNTIME}/"]


def contract(plan: Plan) -> dict[str, str]:
    """What the server is told its work by (spec 6.1 and 6.4)."""
    values = {"AZUREML_MODEL_DIR": plan.models, **plan.script}
    if plan.server == PackageServer.AZUREML_ONLINE:
        values |= {"PORTWAY_BIND": f"0.0.0.0:{PORT}", "PORTWAY_OVERLAY": OVERLAY}
        values |= {"PORTWAY_MLFLOW_MODEL": plan.mlflow} if plan.mlflow else {}
    elif plan.ours:
        values |= {"PORTWAY_BIND": f"0.0.0.0:{TRITON_PORTS[0]}", "PORTWAY_TRITON_MODELS": plan.repository}
    return values | ({"HOME": "/tmp"} if plan.ours else {})  # noqa: S108 -- nobody's home: the user has no other


def _served(plan: Plan) -> list[str]:
    labels = {"portway.package": plan.package, "portway.model": plan.model, "portway.server": plan.server}
    last = [f"LABEL {' '.join(f'{name}={quoted(text)}' for name, text in labels.items())}"]
    if plan.server == PackageServer.CUSTOM:  # its user, its program and its health are the image's own affair
        return [f"EXPOSE {' '.join(map(str, plan.ports))}", *last]
    own = [f"WORKDIR {APP_ROOT}", f"USER {USER}"] if plan.ours else []
    if plan.server == PackageServer.AZUREML_ONLINE:
        check, argv = _health(plan, PORT, "/"), [plan.interpreter, f"{RUNTIME}/boot.py"]
        return [*own, f"EXPOSE {PORT}", check, *last, f"ENTRYPOINT {json.dumps(argv)}", "CMD []"]
    http, grpc = TRITON_PORTS
    exposed = f"EXPOSE {http} {grpc}"
    if plan.ours:
        argv = [plan.interpreter, f"{RUNTIME}/triton/launch.py"]
        check = _health(plan, http, "/v2/health/ready")
        return [*own, exposed, check, *last, f"ENTRYPOINT {json.dumps(argv)}", "CMD []"]
    argv = ["tritonserver", f"--model-repository={plan.repository}", f"--http-port={http}", f"--grpc-port={grpc}"]
    return [exposed, *last, f"ENTRYPOINT {json.dumps(argv)}", "CMD []"]


def _health(plan: Plan, port: int, path: str) -> str:
    argv = [plan.interpreter, "-c", HEALTHY.format(port=port, path=path)]
    return f"HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD {json.dumps(argv)}"


def _copy(source: str, target: str) -> str:
    """With its paths as JSON, because a folder's name may hold anything that people can write."""
    return f"COPY {json.dumps([source, target.replace('$', chr(92) + '$')], ensure_ascii=False)}"


def _variables(values: dict[str, str]) -> list[str]:
    pairs = [f"{name}={quoted(text)}" for name, text in values.items()]
    return ["ENV " + " \\\n    ".join(pairs)] if pairs else []


def quoted(text: str) -> str:
    """A value as ENV and LABEL take it: in it nothing is a quote, an escape or a variable."""
    for sign in ("\\", '"', "$"):
        text = text.replace(sign, f"\\{sign}")
    return f'"{text}"'
