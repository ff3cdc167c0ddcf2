"""From a deployment's row and its built environment to the recipe of its replicas."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from apps.builds.domain import Runnable
from apps.compute import domain as compute
from apps.compute.domain import Recipe
from apps.compute.quantities import Size
from apps.core.durations import duration_ms
from apps.endpoints.contents import Contents, contents_of
from apps.endpoints.models import OnlineDeployment
from apps.endpoints.recipes.checks import without_effect
from apps.endpoints.recipes.common import Parts
from apps.endpoints.recipes.servers import BY_SERVER
from apps.endpoints.servers import Server

__all__ = ["assemble", "build", "without_effect"]


def build(deployment: OnlineDeployment, runnable: Runnable, server: Server) -> tuple[Recipe, list[str]]:
    """The recipe, and a sentence for everything that is not quite as asked."""
    instance = compute.instance_type(deployment.instance_type, also=deployment.instance_type)
    size, notes = compute.size_of(instance, deployment.resources)
    return assemble(deployment, runnable, server, size, contents_of(deployment)), notes


def assemble(
    deployment: OnlineDeployment, runnable: Runnable, server: Server, size: Size, contents: Contents
) -> Recipe:
    """The recipe for one size of instance. Asks no database: the deployment may be one that is in none."""
    parts = Parts(
        contents,
        env={
            "SERVICE_NAME": deployment.endpoint.name,
            "SERVICE_VERSION": str(deployment.revision),
            "AML_APP_INSIGHTS_ENABLED": "false",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    values = BY_SERVER[server](deployment, runnable, parts)
    if runnable.contained:
        parts.mounts.clear()
        parts.env["PORTWAY_BIND"] = ""  # on its socket, as every replica; the image alone listens on a port
    parts.env |= contents.environment_variables  # checked when they were given
    return Recipe(
        env=parts.env,
        mounts=tuple(parts.mounts),
        cpu_milli=size.cpu_milli,
        mem_bytes=size.mem_bytes,
        gpus=size.gpus,
        image=runnable.image,
        start_deadline_s=settings.START_DEADLINE_S,
        liveness_s=liveness_s(deployment.liveness_probe),
        labels={
            **deployment.tags,
            "workspace": deployment.endpoint.workspace.name,
            "endpoint": deployment.endpoint.name,
            "deployment": deployment.name,
        },
        **({"probe_s": probe_s(deployment), "egress": deployment.egress} | values),
    )


def probe_s(deployment: OnlineDeployment) -> float:
    """How long one question may take: the readiness probe's timeout, a second when it says nothing."""
    asked = deployment.readiness_probe.get("timeout")
    return min(10.0, duration_ms(asked) / 1000) if asked else 1.0


def liveness_s(probe: dict[str, Any]) -> float:
    """How long a ready server may be silent: period x failure threshold (defaults of spec 3.2: 10 s x 30)."""
    period = duration_ms(probe["period"]) / 1000 if probe.get("period") else 10.0
    return period * float(probe.get("failureThreshold") or 30)
