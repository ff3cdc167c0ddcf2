"""Images are pruned like environments: those we built, when nobody uses them, and pulled ones only when chosen."""

from __future__ import annotations

import os
import uuid
from datetime import timedelta

import docker
import pytest
from django.utils import timezone

from apps.builds import domain, prune
from apps.builds.cache import apart
from apps.builds.domain import EnvironmentSpec
from apps.builds.models import Build, ImageFacts
from apps.compute.models import ReplicaSet
from apps.core.errors import Problem
from tests.engine import BASE, steps_left, tiny_image
from tests.world import tree_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.docker, pytest.mark.usefixtures("docker_client")]


@pytest.fixture
def built():
    def make(line="RUN echo x"):
        spec = EnvironmentSpec(context=tree_of(Dockerfile=f"FROM {BASE}\n{line}\n").pk, name="pruned")
        runnable = domain.ensure(spec, driver="docker", log=lambda _: None, check=lambda: None)
        Build.objects.update(last_used_at=timezone.now() - timedelta(days=40))
        return Build.objects.get(image_id=runnable.image)

    return make


def there(client, name):
    try:
        return bool(client.images.get(name))
    except docker.errors.ImageNotFound:
        return False


def test_an_unused_image_goes_with_its_row(built, docker_client):
    build = built()
    assert [each.build for each in prune.plan(unused_days=30).goes] == [build]
    assert prune.remove(build.pk) == ""
    assert not there(docker_client, build.image)
    assert not Build.objects.exists()
    assert not ImageFacts.objects.filter(pk=build.image_id).exists()
    assert there(docker_client, BASE)


def test_an_image_in_use_stays(built, docker_client):
    build = built()
    made = ReplicaSet.objects.create(owner_key="iris/blue", revision=1, driver="docker", spec={"image": build.image_id})
    assert prune.plan(unused_days=30).goes == []
    assert "used by iris/blue" in prune.remove(build.pk)
    made.delete()
    container = docker_client.containers.create(build.image, ["sleep", "1"])
    assert "needs it" in prune.remove(build.pk)
    container.remove()
    assert there(docker_client, build.image)
    assert prune.remove(build.pk) == ""


def test_what_is_called_so_by_now_is_not_ours_to_remove(built, docker_client):
    build = built()
    tiny_image(docker_client, build.image)
    assert prune.remove(build.pk) == ""
    assert there(docker_client, build.image)
    docker_client.images.remove(build.image, force=True)
    docker_client.images.remove(build.image_id, force=True)


def test_a_pulled_image_goes_only_when_it_is_chosen(docker_client):
    image = tiny_image(docker_client, "portway-test-pulled:1")
    build = Build.objects.create(
        key="p" * 64,
        kind="pulled",
        driver="docker",
        state="succeeded",
        image="portway-test-pulled:1",
        image_id=image,
        last_used_at=timezone.now() - timedelta(days=400),
    )
    assert prune.plan(unused_days=1).goes == []
    assert prune.plan(budget_bytes=0).goes == []
    assert [each.build for each in prune.plan(keys=[build.pk]).goes] == [build]
    assert prune.remove(build.pk) == ""
    assert not there(docker_client, "portway-test-pulled:1")


def test_the_layers_of_a_failed_build_go_with_it(docker_client):
    mark = uuid.uuid4().hex
    spec = EnvironmentSpec(context=tree_of(Dockerfile=f"FROM {BASE}\nRUN echo {mark} > /x\nRUN exit 1\n").pk)
    with pytest.raises(Problem):
        domain.ensure(spec, driver="docker", log=lambda _: None, check=lambda: None)
    assert len(steps_left(docker_client, mark)) == 1
    Build.objects.update(last_used_at=timezone.now() - timedelta(days=40))
    assert prune.remove(Build.objects.get().pk) == ""
    assert steps_left(docker_client, mark) == []


def test_an_image_that_is_gone_already_takes_its_row_along(built, docker_client):
    build = built()
    docker_client.images.remove(build.image, force=True)
    assert prune.remove(build.pk) == ""
    assert not Build.objects.exists()


def test_caches_of_images_go_when_nobody_built_for_an_hour():
    old, fresh = apart() / "old", apart() / "fresh"
    for folder in (old, fresh):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    assert prune.prune_apart() == 1
    assert (old.exists(), fresh.exists()) == (False, True)
    fresh.rmdir()
