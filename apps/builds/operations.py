"""Recipes that build environments, and that take them and packages away."""

from __future__ import annotations

from django.conf import settings

from apps.builds import domain, prune, uv
from apps.builds.models import Package
from apps.builds.packaging import domain as packaging
from apps.builds.versions import driver_of, spec_of
from apps.core import disk
from apps.core.errors import Problem
from apps.core.operations import Run, handles
from apps.registry.models import EnvironmentVersion


@handles("environment.build", steps=("environment",), cancelable=True)
def build_environment(run: Run) -> None:
    version = EnvironmentVersion.objects.select_related("asset").filter(pk=run.payload["environment"]).first()
    if version is None:
        raise Problem("not-found", kind="environment", name=run.operation.target)
    with run.step("environment"):
        spec = spec_of(version)
        driver = run.payload.get("driver") or driver_of(spec)
        domain.ensure(spec, driver=driver, log=run.log, check=run.check, operation=run.operation)


@handles(packaging.KIND, steps=("environment", "image"), failed=packaging.undo, cancelable=True)
def package_model(run: Run) -> None:
    related = ("environment__asset__workspace", "model__asset", "code", "image")
    row = Package.objects.select_related(*related).filter(pk=run.payload["environment"]).first()
    if row is None:
        raise Problem("not-found", kind="environment", name=run.operation.target)
    with run.step("environment"):
        packaging.resolve(row, log=run.log, check=run.check, operation=run.operation)
    with run.step("image"):
        packaging.build_image(row, log=run.log, check=run.check)
        packaging.finish(row)


@handles("environments.prune", steps=("prune",), cancelable=True)
def prune_environments(run: Run) -> None:
    """One after the other; a cancel keeps those whose turn has not come."""
    with run.step("prune"):
        prune.sweep_trash()
        for key in run.payload["keys"]:
            run.check()
            why = prune.remove(key)
            run.log(f"{key[:12]}: kept, {why}" if why else f"{key[:12]}: removed")


@handles("packages.prune", steps=("prune",), cancelable=True)
def prune_packages(run: Run) -> None:
    with run.step("prune"):
        folder = prune.cache_folder()
        before = disk.measure(folder, seconds=20.0)
        run.log(f"{folder}: {before.total // 2**20} MiB")
        try:
            uv.run(
                ["cache", "prune"],
                cache=settings.UV_CACHE_DIR,
                timeout_s=prune.CACHE_S,
                log=run.log,
                check=run.check,
            )
        except uv.UvError as error:
            raise Problem("build-unavailable", reason="uv could not prune its cache.", evidence=str(error)) from None
        dropped = prune.prune_apart()
        if dropped:
            run.log(f"caches of {dropped} images removed")
        run.log(f"now {disk.measure(folder, seconds=20.0).total // 2**20} MiB")
