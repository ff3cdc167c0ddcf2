"""Every attempt to make an environment version runnable is kept: who, when, how long, and what came of it."""

from __future__ import annotations

import pytest

from apps.builds import domain, history, versions
from apps.builds.models import Attempt, Build
from apps.core import operations
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.core.operations import LeaseLost
from apps.registry.domain import register_environment
from tests.engine import BASE
from tests.world import tree_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def register(workspace, people):
    def made(**spec):
        return register_environment(workspace=workspace, name="env", actor=people["dan"], **spec)[0]

    return made


def build(version, actor, driver=""):
    operation = versions.start_build(version=version, actor=actor, driver=driver)
    operations.run(operation.pk)
    operation.refresh_from_db()
    return operation


def outcomes(version):
    return [each.outcome for each in history.of(version)]


def test_built_then_found_then_failed(register, people):
    version = register(requirements="six==1.17.0")
    first = build(version, people["dan"])
    assert first.state == "succeeded", first.error
    build(version, people["olga"])
    assert outcomes(version) == ["found", "built"]
    newest, oldest = history.of(version)
    assert (newest.operation.actor, oldest.operation) == (people["olga"], first)
    assert newest.build == oldest.build == Build.objects.get()
    assert oldest.seconds > 0
    assert oldest.driver == "fake"

    bad = register(requirements="portway-no-such-package-zz==1")
    operation = build(bad, people["dan"])
    attempt = history.of(bad).get()
    assert (attempt.outcome, attempt.error["code"]) == ("failed", operation.error["code"])


def test_a_cancel_and_a_crash_and_a_lost_lease_are_told_apart(register, monkeypatch):
    version = register(requirements="six==1.17.0")
    for raised, outcome in (
        (Problem("canceled"), "canceled"),
        (LeaseLost(), "interrupted"),
        (ValueError("x"), "failed"),
    ):

        def fail(*_args, raised=raised, **_more):
            raise raised

        monkeypatch.setattr(domain.packages, "read", fail)
        with pytest.raises(type(raised)):
            domain.ensure(versions.spec_of(version), log=lambda _: None, check=lambda: None)
        assert outcomes(version)[0] == outcome


def test_what_a_killed_runner_left_is_told_to_be_interrupted(register, people):
    version = register(requirements="six==1.17.0")
    ended = Operation.objects.create(kind="environment.build", workspace="lab", target="t", lock="l", state="failed")
    running = Operation.objects.create(kind="environment.build", workspace="lab", target="u", lock="m", state="running")
    left = Attempt.objects.create(version=version, driver="process", operation=ended)
    live = Attempt.objects.create(version=version, driver="process", operation=running)
    assert history.sweep() == 1
    assert {each.pk: each.outcome for each in Attempt.objects.all()} == {left.pk: "interrupted", live.pk: "running"}


def test_an_operation_that_is_run_again_has_one_running_attempt(register):
    version = register(requirements="six==1.17.0")
    operation = Operation.objects.create(
        kind="environment.build", workspace="lab", target="t", lock="l", state="running"
    )
    Attempt.objects.create(version=version, driver="process", operation=operation)
    quiet = {"log": lambda _: None, "check": lambda: None}
    domain.ensure(versions.spec_of(version), operation=operation, **quiet)
    assert outcomes(version) == ["built", "interrupted"]


def test_history_goes_with_its_version_and_is_bounded(register, monkeypatch):
    monkeypatch.setattr(history, "KEPT", 3)
    version = register(requirements="six==1.17.0")
    for _ in range(5):
        domain.ensure(versions.spec_of(version), log=lambda _: None, check=lambda: None)
    assert Attempt.objects.count() == 3
    version.delete()
    assert not Attempt.objects.exists()


def test_without_an_engine_an_image_cannot_be_built(register, people):
    for spec in ({"image": "python:3.11-slim"}, {"build_context": tree_of(Dockerfile="FROM x")}):
        version = register(**spec)
        assert "no container engine" in versions.outlook(version).problem.message
        with pytest.raises(Problem) as refused:
            versions.start_build(version=version, actor=people["dan"])
        assert refused.value.code == "unsupported"
    with pytest.raises(Problem) as refused:
        versions.start_build(version=version, actor=people["dan"], driver="process")
    assert "process compute" in refused.value.message


@pytest.mark.docker
def test_a_version_is_built_for_containers_when_only_they_can_run_it(register, people, docker_client):
    version = register(build_context=tree_of(Dockerfile=f"FROM {BASE}\nRUN echo from the step\n"))
    operation = build(version, people["dan"])
    assert operation.state == "succeeded", operation.error
    assert "from the step" in operation.steps.get().log
    attempt = history.of(version).get()
    assert (attempt.driver, attempt.outcome, attempt.build.kind) == ("docker", "built", "image")
    assert attempt.image_id == attempt.build.image_id
    assert versions.outlook(version).build == attempt.build

    packages = register(requirements="six==1.17.0")
    assert build(packages, people["dan"], driver="docker").state == "succeeded"
    assert history.of(packages).get().build.driver == "docker"


@pytest.mark.docker
def test_a_cancel_of_the_operation_ends_the_build(register, people, docker_client):
    import threading

    from django.db import connection

    version = register(build_context=tree_of(Dockerfile=f"FROM {BASE}\nRUN echo begun; sleep 170\n"))
    operation = versions.start_build(version=version, actor=people["dan"])

    def work():
        try:
            operations.run(operation.pk)
        finally:
            connection.close()

    runner = threading.Thread(target=work)
    runner.start()
    pause = threading.Event()
    seen = any("begun" in "".join(operation.steps.values_list("log", flat=True)) or pause.wait(0.2) for _ in range(200))
    operations.cancel(operation, actor=people["dan"])
    runner.join(timeout=60)
    operation.refresh_from_db()
    assert seen
    assert operation.state == "canceled"
    assert outcomes(version) == ["canceled"]
