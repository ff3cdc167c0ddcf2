"""Names of images."""

import pytest

from apps.core.errors import Problem
from apps.registry.names import check_image


@pytest.mark.parametrize(
    "name", ["portway/a/b:1", "docker.io/portway/a/b:1", "index.docker.io/portway/a", "docker.io/library/portway/a:1"]
)
def test_images_of_builds_have_no_other_name(name):
    with pytest.raises(Problem) as failed:
        check_image(name)
    assert "built here" in failed.value.message


def test_other_images_are_fine():
    for name in ("docker.io/library/python:3.11", "localhost:9/portway/a:1", "docker.io/team/portway:1"):
        assert check_image(name) == name
