"""From a package's row to what its image is made of."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from django.conf import settings

from apps.builds.contract import code_folder, model_folder, script_variables
from apps.builds.enums import PackageServer
from apps.builds.models import Package
from apps.builds.packaging.dockerfile import Plan
from apps.builds.versions import spec_of
from apps.registry.enums import ModelType

MINOR = re.compile(r"\d+\.\d+")


def image_name(package: Package) -> str:
    """A name that every container engine takes, for people to build it under."""
    return re.sub(r"[^a-z0-9]+", "-", package.environment.asset.name.lower()).strip("-")[:100] or "package"


def has_packages(package: Package) -> bool:
    return package.server != PackageServer.CUSTOM and spec_of(package.environment).has_packages


def plan_of(package: Package, *, base: str = "") -> Plan:
    """`base`: the image of a base environment that is a Dockerfile, where it has been built."""
    model, folder = package.model, model_folder(package.model, package.mount_path)
    inside = str(PurePosixPath(folder, model.path))
    mlflow = package.server == PackageServer.AZUREML_ONLINE and package.code is None and model.type == ModelType.MLFLOW
    return Plan(
        package=str(package),
        model=str(model),
        base=base or base_of(package),
        server=package.server,
        models=folder,
        python=package.interpreter or "python3",
        packages=has_packages(package),
        wheels_only=not settings.ALLOW_SOURCE_BUILDS,
        mlflow=inside if mlflow else "",
        repository=inside if package.server == PackageServer.TRITON else "",
        code=code_folder(package.code) if package.code else "",
        script=script_variables(package.code, package.scoring_script) if package.code else {},
        variables=package.environment_variables,
        ports=_ports(package),
    )


def base_of(package: Package) -> str:
    """The image it is made from. A Dockerfile's has no name elsewhere: who builds it there gives it this one."""
    environment = package.environment
    if environment.build_context_id:
        return f"{image_name(package)}-base"
    return environment.image or _python_image(package.python)


def _python_image(version: str) -> str:
    """The installation's own, unless the lock was made for another Python."""
    wanted, own = MINOR.match(version), MINOR.search(settings.BASE_IMAGE.rpartition(":")[2])
    if wanted is None or own is None or wanted[0] == own[0]:
        return str(settings.BASE_IMAGE)
    return f"python:{wanted[0]}-slim"


def _ports(package: Package) -> tuple[int, ...]:
    config = package.environment.inference_config or {}
    return tuple(dict.fromkeys(each["port"] for each in config.values() if isinstance(each, dict) and "port" in each))
