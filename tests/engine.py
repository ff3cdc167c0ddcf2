"""The real container engine of this machine, for tests that need one."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import closing

import docker
import pytest
from django.conf import settings as live

BASE = "python:3.11-slim"


def engine_url() -> str:
    """Where an engine answers, or "" when none does."""
    url = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        with closing(docker.DockerClient(base_url=url, timeout=10)) as client:
            client.ping()
    except Exception as error:  # noqa: BLE001 -- whatever it is, there is none
        print("no container engine:", error)
        return ""
    return url


def tiny_image(client, tag):
    """An image with one file in it and nothing that runs."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("hello.txt")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"hello"))
    repository, _, name = tag.partition(":")
    label = f'LABEL portway.test="{live.HOME.installation}"'
    client.api.import_image_from_data(data.getvalue(), repository=repository, tag=name, changes=[label, 'CMD ["/x"]'])
    return client.images.get(tag).id


def steps_left(client, text):
    """Containers and layers on the engine whose command holds this text; others may use the engine meanwhile."""
    found = [each for each in client.api.containers(all=True) if text in each["Command"]]
    for image in client.api.images(all=True, quiet=True):
        try:
            history = client.api.inspect_image(image)["ContainerConfig"]["Cmd"]
        except docker.errors.ImageNotFound:
            continue
        found += [image] if text in str(history) else []
    return found


def clean(client):
    """Remove what builds of this test run left on the engine."""
    mine = live.HOME.installation
    for container in client.containers.list(all=True, filters={"label": f"portway.build={mine}"}):
        container.remove(force=True, v=True)
    for label in (f"portway.built-by={mine}", f"portway.test={mine}"):
        for image in client.images.list(all=True, filters={"label": label}):
            for tag in image.tags or [image.id]:
                try:
                    client.images.remove(tag, force=True)
                except docker.errors.APIError as error:
                    print("left behind:", tag, error.explanation)


def leave_no_network():
    """Networks outlive their containers, and an engine has addresses for about thirty of them."""
    url = engine_url()
    if url:
        with closing(docker.DockerClient(base_url=url, timeout=60)) as client:
            client.networks.prune(filters={"label": f"portway.installation={live.HOME.installation}"})


@pytest.fixture
def engine(settings):
    """The engine's address; Portway uses it in this test. What the test leaves there is removed."""
    url = engine_url()
    if not url:
        pytest.skip("no container engine answers")
    settings.DOCKER_URL = url
    settings.BUILD_NETWORK = "host"  # what a machine's own bridge reaches is not what these tests are about
    yield url
    with closing(docker.DockerClient(base_url=url, timeout=60)) as client:
        clean(client)


@pytest.fixture
def docker_client(engine):
    """The engine as tests look at it. Needs the base image, which tools/bootstrap makes."""
    with closing(docker.DockerClient(base_url=engine, timeout=60)) as client:
        try:
            client.images.get(BASE)
        except docker.errors.ImageNotFound:
            pytest.skip(f"the engine has no image {BASE}")
        yield client
