"""The image of a package: built from its context, found again, and sent to other machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from django.utils import timezone

from apps.builds import engine, imagebuild, images
from apps.builds.enums import BuildState
from apps.builds.models import Build, Package
from apps.builds.packaging.context import as_tree
from apps.builds.packaging.plan import plan_of
from apps.builds.spec import Check, EnvironmentSpec, Log, Runnable
from apps.builds.versions import spec_of
from apps.core.errors import Problem

SAVE_S = 3600.0
CHUNK = 1 << 20


def ensure(package: Package, *, log: Log, check: Check) -> Build:
    """The package's image, built now or found on the engine. Raises what `imagebuild.ensure` raises."""
    known = package.image
    if known is not None and _is_there(known):
        Build.objects.filter(pk=known.pk).update(last_used_at=timezone.now())  # prune sees that it is wanted
        log(f"image {known.image}, {known.image_id[:19]}")
        return known
    base = ""
    if package.environment.build_context_id:
        base = imagebuild.ensure(spec_of(package.environment), log=log, check=check)[0].image
    tree = as_tree(package, plan_of(package, base=base))
    spec = EnvironmentSpec(context=tree.pk, dockerfile="Dockerfile", name=package.environment.asset.name)
    build, _made = imagebuild.ensure(spec, log=log, check=check, given=(base,))
    Package.objects.filter(pk=package.pk).update(image=build)
    package.image = build
    return build


def _is_there(build: Build) -> bool:
    if build.state != BuildState.SUCCEEDED or not build.image_id:
        return False
    with engine.connected() as api:
        return bool(images.identify(api, build.image_id))


def runnable(package: Package, *, log: Log, check: Check) -> Runnable:
    """The image as something to start replicas of. Nothing of this machine is mounted into it."""
    build = ensure(package, log=log, check=check)
    plan = plan_of(package)
    python = Path(plan.interpreter) if plan.ours else None
    return Runnable(build.key, None, python, None, build.image_id, contained=True)


def check_saved(package: Package) -> Build:
    """The image that `saved` sends. Raises Problem "unsupported", "image-unavailable" or "driver-unavailable"."""
    build = package.image
    if not package.copies or build is None:
        reason = "its model is in no image"
        hint = "Package the model with mode copy, or export the build context and build it anywhere."
        raise Problem("unsupported", what="Exporting the image of this package", reason=reason, hint=hint)
    if package.environment.build_context_id and imagebuild.secrets():
        reason = "the Dockerfile it is based on was built with build arguments, and its history may hold their secrets"
        hint = "Export the build context and build it where it is to run."
        raise Problem("unsupported", what="Exporting the image of this package", reason=reason, hint=hint)
    with engine.connected() as api:
        _check_tag(api, build)
    return build


def _check_tag(api: engine.Api, build: Build) -> None:
    """It is sent with its name, so the name must mean what we built."""
    if not build.image_id or images.identify(api, build.image) != build.image_id:
        reason = "the container engine does not have it any more; a deployment on Docker compute builds it again"
        raise Problem("image-unavailable", image=build.image, reason=reason)


def saved(build: Build) -> Iterator[bytes]:
    """What `docker load` takes, chunk by chunk as the engine gives it."""
    with engine.connected(SAVE_S) as api:
        _check_tag(api, build)
        parts = api.get_image(build.image, chunk_size=CHUNK)
        try:
            yield from parts
        finally:
            parts.close()
