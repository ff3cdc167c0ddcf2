"""What is said of the container engine."""

import pytest

from apps.compute import domain as compute
from apps.core import health


@pytest.fixture(autouse=True)
def fresh(db):
    compute.driver.cache_clear()
    yield
    compute.driver.cache_clear()


def engine_finding():
    return next(each for each in health.findings() if each.name == "container engine")


def test_no_engine_is_needed():
    assert (engine_finding().tone, engine_finding().text) == ("idle", "not configured")


def test_one_that_does_not_answer_is_said_with_what_to_do(settings, tmp_path):
    settings.DOCKER_URL = f"unix://{tmp_path}/none.sock"
    found = engine_finding()
    assert (found.tone, found.fine) == ("failed", False)
    assert "does not answer" in found.text
    assert "PORTWAY_DOCKER=off" in found.advice


@pytest.mark.docker
def test_the_engine_tells_its_version_storage_and_control_groups(docker_client):
    found = engine_finding()
    info = docker_client.info()
    assert found.text == (f"Docker {info['ServerVersion']}, storage {info['Driver']}, cgroup v{info['CgroupVersion']}")
    assert found.fine
