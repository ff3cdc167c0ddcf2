"""A broken project as its user has it: a deployment.yml in the shape of `az ml`, the files it names, and what we owe.

`expect.yml` says when it fails (`create`: the request is refused; `timeline`: the operation fails; `request`: a call to
the model fails; `remark`: nothing fails, the timeline warns), with which code, whose fault it is, and patterns of the
evidence and of the next step. `needs` names what a machine must guarantee for it, `within_s` is for readers.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from apps.registry import storage
from apps.registry.domain import register_code, register_environment, register_model

HERE = Path(__file__).parent
TYPES = ("custom_model", "mlflow_model", "triton_model")
LARGEST = 20_000  # bytes of a file; what is larger is made by make.py


@dataclass(frozen=True)
class Project:
    folder: Path
    deployment: dict[str, Any]
    expect: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    def text(self, path: str) -> str:
        return (self.folder / path).read_text()


def load(folder: Path, **replaced: str) -> Project:
    """`replaced`: what stands for names that only the test knows, such as the address of its registry."""
    text = (folder / "deployment.yml").read_text()
    for name, value in replaced.items():
        text = text.replace(name, value)
    return Project(folder, yaml.safe_load(text), yaml.safe_load((folder / "expect.yml").read_text()))


def every() -> list[Project]:
    return [load(file.parent) for file in sorted(HERE.glob("*/expect.yml"))]


def tree(folder: Path, *, within: str = "") -> Any:
    """A stored copy of a folder; `within` keeps it as a level of that name, as registering a model does."""
    with storage.scratch() as room:
        shutil.copytree(folder, room / "copy" / within, dirs_exist_ok=True)
        return storage.adopt(room / "copy")


def register(world: Any, project: Project) -> dict[str, Any]:
    """Register what the deployment names; the body of its PUT. Raises Problem, as registering by REST does."""
    asked, folder = project.deployment, project.folder
    common = {"workspace": world.workspace, "actor": world.actor}
    properties: dict[str, Any] = {
        "endpointComputeType": "Managed",
        "instanceType": asked["instance_type"],
        "environmentVariables": asked.get("environment_variables", {}),
        "properties": asked.get("properties", {}),
        "egressPublicNetworkAccess": asked.get("egress_public_network_access", "enabled"),
    }
    if isinstance(asked.get("model"), str):
        properties["model"] = asked["model"]
    elif asked.get("model"):
        path = asked["model"]["path"]
        kind = TYPES.index(asked["model"].get("type", "custom_model"))
        register_model(
            name="model",
            tree=tree(folder / path, within=path),
            path=path,
            type=TYPES[kind],
            **common,
        )
        properties["model"] = "azureml:model:1"
    if asked.get("code_configuration"):
        register_code(name="code", tree=tree(folder / asked["code_configuration"]["code"]), **common)
        script = asked["code_configuration"]["scoring_script"]
        properties["codeConfiguration"] = {"codeId": "azureml:code:1", "scoringScript": script}
    if asked.get("environment"):
        register_environment(name="environment", **_environment(project), **common)
        properties["environmentId"] = "azureml:environment:1"
    if asked.get("resources"):
        sides = asked["resources"]
        properties["containerResourceRequirements"] = {
            "containerResourceRequests": sides["requests"],
            "containerResourceLimits": sides["limits"],
        }
    if asked.get("request_settings"):
        seconds = asked["request_settings"]["request_timeout_ms"] / 1000
        properties["requestSettings"] = {"requestTimeout": f"PT{seconds}S"}
    return {"location": "local", "sku": {"capacity": asked.get("instance_count", 1)}, "properties": properties}


def _environment(project: Project) -> dict[str, Any]:
    asked = project.deployment["environment"]
    found: dict[str, Any] = {"image": asked.get("image", "")}
    if asked.get("conda_file"):
        found["conda_file"] = project.text(asked["conda_file"])
    if asked.get("build"):
        found["build_context"] = tree(project.folder / asked["build"]["path"])
        found["dockerfile_path"] = asked["build"].get("dockerfile_path", "")
    routes = asked.get("inference_config")
    if routes:
        kinds = ("liveness", "readiness", "scoring")
        found["inference_config"] = {f"{kind}Route": routes[f"{kind}_route"] for kind in kinds}
    return found
