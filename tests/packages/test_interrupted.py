"""Packaging killed with -9 before or after any of its steps, and run again, ends in the same state."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from apps.builds.models import Build, Package
from apps.builds.packaging import domain as packaging
from apps.core import operations
from apps.core.models import Operation, OperationState, OperationStep
from apps.registry.models import EnvironmentVersion
from tests.endpoints.test_interrupted import run_and_die
from tests.engine import docker_client, engine  # noqa: F401 -- fixtures
from tests.packages.parts import Parts

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
POINTS = [(step, when) for step in operations.steps_of(packaging.KIND) for when in ("begin", "end")]


def state():
    images = Build.objects.filter(kind="image").values_list("image", "state")
    rows = Package.objects.values_list("environment__asset__name", "environment__version", "image__image", "python")
    versions = EnvironmentVersion.objects.filter(package__isnull=False).count()
    return list(rows), list(images), versions, Package.objects.filter(ready_at=None).count()


def finish(operation):
    operation.refresh_from_db()
    assert operation.state == OperationState.RUNNING
    Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert operation.state == OperationState.SUCCEEDED, operation.error
    assert operation.attempt == 2
    done = OperationStep.objects.filter(operation=operation, state="done").values_list("name", flat=True)
    assert set(done) == set(operations.steps_of(packaging.KIND))


@pytest.mark.docker
@pytest.mark.parametrize(("step", "when"), POINTS, ids=["-".join(point) for point in POINTS])
def test_a_copy(docker_client, workspace, people, step, when):  # noqa: F811
    parts = Parts(workspace, people["olga"])
    _, operation = parts.package(spec=parts.script(mode="copy"))
    run_and_die(operation, step, when)
    finish(operation)
    rows, images, versions, waiting = state()
    ((name, version, image, python),) = rows
    assert (name, version, versions, waiting) == ("pkg", "1", 1, 0)
    assert python
    assert images == [(image, "succeeded")]
    assert image.startswith(f"portway/{settings.HOME.installation}/pkg:")


@pytest.mark.parametrize(("step", "when"), POINTS, ids=["-".join(point) for point in POINTS])
def test_a_download(workspace, people, step, when):
    parts = Parts(workspace, people["olga"])
    _, operation = parts.package()
    run_and_die(operation, step, when)
    finish(operation)
    rows, images, versions, waiting = state()
    assert [row[:3] for row in rows] == [("pkg", "1", None)]
    assert (images, versions, waiting) == ([], 1, 0)


def test_a_cancel_in_the_middle_leaves_nothing(workspace, people):
    parts = Parts(workspace, people["olga"])
    _, operation = parts.package()
    run_and_die(operation, "image", "begin")
    operations.cancel(Operation.objects.get(pk=operation.pk), actor=people["olga"])
    Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert operation.state == OperationState.CANCELED
    assert not Package.objects.exists()
