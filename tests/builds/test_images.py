"""Environments for containers, on the real engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from apps.builds import domain, images
from apps.builds.domain import EnvironmentSpec
from apps.builds.models import Build, ImageFacts
from apps.core.errors import Problem
from tests.engine import BASE, tiny_image

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.docker, pytest.mark.usefixtures("docker_client")]


def ensure(lines=None, check=lambda: None, **spec):
    log = (lines if lines is not None else []).append
    return domain.ensure(EnvironmentSpec(**spec), driver="docker", log=log, check=check)


def run_in(client, runnable, code):
    """What a container of that image prints, with what a replica gets mounted."""
    folders = {str(each): {"bind": str(each), "mode": "ro"} for each in (runnable.path, runnable.overlay) if each}
    out = client.containers.run(
        runnable.image,
        [str(runnable.python), "-c", code],
        volumes=folders,
        network_mode="none",
        user="10001:10001",
        read_only=True,
        cap_drop=["ALL"],
        remove=True,
        entrypoint=[],
    )
    return out.decode().strip()


def leftovers(client, settings):
    label = f"portway.build={settings.HOME.installation}"
    return client.containers.list(all=True, filters={"label": label})


def test_packages_are_installed_by_the_images_own_python(docker_client, settings):
    lines = []
    made = ensure(lines, conda_file="dependencies: [python=3.9, {pip: [six==1.17.0]}]")
    assert made.image == docker_client.images.get(BASE).id
    assert run_in(docker_client, made, "import six; print(six.__version__)") == "1.17.0"
    overlay = f"import sys; sys.path.append({str(made.overlay)!r}); import granian; print('there')"
    assert run_in(docker_client, made, overlay) == "there"
    assert any("Python 3.9 is asked for but image" in line for line in lines)
    assert list(made.path.glob("lib/*/site-packages/__pycache__/six*.pyc"))
    build = Build.objects.get()
    assert (build.driver, build.image, build.image_id) == ("docker", BASE, made.image)
    assert leftovers(docker_client, settings) == []

    again = []
    assert ensure(again, requirements="six==1.17.0") == made
    assert not any("resolving" in line for line in again)


def test_processes_and_containers_never_share_an_environment():
    inside = ensure(requirements="six==1.17.0")
    beside = domain.ensure(EnvironmentSpec(requirements="six==1.17.0"), log=lambda _: None, check=lambda: None)
    assert inside.path != beside.path
    assert beside.image == ""


def test_an_unknown_package_is_the_users_fault_in_a_container_too(docker_client, settings):
    with pytest.raises(Problem) as failed:
        ensure(requirements="portway-no-such-package-zz==1.0")
    assert failed.value.code == "environment-failed"
    assert "portway-no-such-package-zz" in failed.value.message
    assert leftovers(docker_client, settings) == []


def test_an_index_that_does_not_answer_is_the_systems_fault_in_a_container_too(settings):
    settings.BUILD_INDEX_URL = "http://127.0.0.1:9/simple"
    settings.UV_CACHE_DIR = str(Path(settings.HOME.uploads) / "no-cache")
    with pytest.raises(Problem) as failed:
        ensure(requirements="six==1.16.0")
    assert failed.value.code == "build-unavailable"


def test_a_canceled_build_leaves_no_container(docker_client, settings):
    running = []

    def check():
        found = leftovers(docker_client, settings)
        if any(each.attrs["Path"] == "/opt/portway/uv" for each in found):
            running.append(found)
            raise Problem("canceled")

    with pytest.raises(Problem, match="canceled"):
        ensure(requirements="scipy", check=check)
    assert running
    assert leftovers(docker_client, settings) == []


def test_a_container_that_was_left_by_a_killed_builder_is_replaced(docker_client, settings, monkeypatch):
    made = ensure(requirements="six==1.17.0")
    shutil.rmtree(made.path)
    stray = []
    create = domain.engine._create

    def twice(api, job):
        if not stray:
            stray.append(create(api, job))
            domain.engine.remove(api, job.name)
        return create(api, job)

    monkeypatch.setattr(domain.engine, "_create", twice)
    assert ensure(requirements="six==1.17.0").path.exists()


def test_an_image_alone_is_looked_into_once(docker_client, monkeypatch):
    made = ensure(image=BASE)
    assert (made.path, made.image) == (None, docker_client.images.get(BASE).id)
    assert run_in(docker_client, made, "print('hello')") == "hello"
    assert made.overlay.is_dir()
    assert ImageFacts.objects.get().python == str(made.python)
    monkeypatch.setattr(images, "look", lambda *_: pytest.fail("looked again"))
    assert ensure(image=BASE) == made


def test_an_image_without_python_runs_what_it_brings(docker_client):
    image = tiny_image(docker_client, "portway-test-tiny:1")
    lines = []
    made = ensure(lines, image="portway-test-tiny:1")
    assert (made.image, made.path, made.python, made.overlay) == (image, None, None, None)
    assert any("no Python" in line for line in lines)
    with pytest.raises(Problem) as failed:
        ensure(image="portway-test-tiny:1", requirements="six")
    assert failed.value.code == "environment-failed"
    assert "has no Python 3.10 or newer" in failed.value.message


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "[]",
        "null",
        '[[[3, 11], "a", "b", "c", "d"], "/usr/bin/../python", 3]',
        '[[[3, 11], "../../x", "b", "c", "d"], "/usr/bin/python3", "3.11.2"]',
        '[[[3, 11], "a", "b", "c", "d"], "--python", "3.11.2"]',
        '[[[3, 11], "a", "b", "c", "d"], "/usr/bin/python3", "3.11.2; rm"]',
        '[[["3", 11], "a", "b", "c", "d"], "/usr/bin/python3", "3.11.2"]',
    ],
)
def test_what_an_image_says_of_itself_is_not_believed(printed):
    assert images.understood(printed) is None


def test_an_image_that_nobody_has_is_explained(settings):
    with pytest.raises(Problem) as failed:
        ensure(image="localhost:9/portway/nothing-here:1")
    assert failed.value.code == "image-unavailable"
    assert "connection refused" in failed.value.evidence
    settings.PULL_IMAGES = False
    with pytest.raises(Problem, match="cannot be had") as failed:
        ensure(image="localhost:9/portway/nothing-here:1")
    assert "PORTWAY_PULL_IMAGES" in failed.value.message


def test_an_id_or_an_image_of_another_build_is_no_name(docker_client):
    image = docker_client.images.get(BASE).id
    for name in (image, image[7:19], "portway/x/y:1", "-v", "a b", "../x", "A/B", ""):
        if name:
            with pytest.raises(Problem) as failed:
                ensure(image=name)
            assert failed.value.code in {"bad-field", "image-unavailable", "image-missing"}, name


def test_an_engine_that_is_away_is_the_systems_fault(settings):
    for url in ("", "unix:///nowhere.sock", "tcp://127.0.0.1:9"):
        settings.DOCKER_URL = url
        with pytest.raises(Problem) as failed:
            ensure(image=BASE)
        assert failed.value.code == "driver-unavailable"


def test_processes_refuse_what_needs_a_container():
    for spec in (EnvironmentSpec(image=BASE), EnvironmentSpec(context="0" * 64)):
        with pytest.raises(Problem) as failed:
            domain.ensure(spec, log=lambda _: None, check=lambda: None)
        assert failed.value.code == "unsupported"
        assert "Docker compute" in failed.value.message


def test_an_image_that_writes_links_into_its_environment_reaches_nothing_of_ours(docker_client, settings, tmp_path):
    """Its Python is ours to call, so it may do anything to the folder it is given."""
    victim = Path(settings.HOME.environments) / "victim"
    victim.write_text("mine")
    evil = f"""#!/bin/sh
for name in .complete requirements.lock; do
  for at in {settings.HOME.environments}/*/; do ln -sf {victim} "$at$name" 2>/dev/null; done
done
exec /usr/bin/python3 "$@"
"""
    context = tmp_path / "context"
    context.mkdir()
    (context / "evil").write_text(evil)
    (context / "Dockerfile").write_text(
        f"FROM {BASE}\nRUN rm -f /usr/local/bin/python*\nCOPY evil /usr/local/bin/python3\n"
        "RUN chmod 755 /usr/local/bin/python3\n"
        f"LABEL portway.test={settings.HOME.installation}\n"
    )
    docker_client.images.build(path=str(context), tag="portway-test-evil:1", rm=True)
    made = ensure(image="portway-test-evil:1", requirements="six==1.17.0")
    assert victim.read_text() == "mine"
    assert not (made.path / ".complete").is_symlink()
    assert json.loads((made.path / ".complete").read_text())["python"]
    victim.unlink()
    assert list((Path(settings.HOME.environments) / "caches").iterdir())
