"""The environment that work on a cluster needs, built for the compute its nodes run on."""

from __future__ import annotations

from apps.batch.models import Cluster
from apps.builds import domain as builds
from apps.builds.domain import Runnable
from apps.builds.versions import spec_of
from apps.compute import domain as compute
from apps.core.operations import Run
from apps.endpoints.environments import of_mlflow_model
from apps.registry.models import EnvironmentVersion, ModelVersion


def built(
    run: Run, *, cluster: Cluster, environment: EnvironmentVersion | None, model: ModelVersion | None
) -> tuple[Runnable, str]:
    """(environment, driver); without an environment, what an MLflow model declares.

    Raises:
        Problem: what `builds.ensure` and `compute.place` raise, "environment-needed".
    """
    spec = spec_of(environment) if environment is not None else of_mlflow_model(model)
    instance = compute.instance_type(cluster.instance_type, also=cluster.instance_type)
    driver = compute.place(
        cluster.workspace, needs_container=spec.needs_container, gpus=instance.gpus, isolation=instance.isolation
    )
    return builds.ensure(spec, driver=driver, log=run.log, check=run.check, operation=run.operation), driver
