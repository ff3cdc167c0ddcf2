import pytest

from tests.gateway.world import World


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One Envoy per module, with the usual endpoints published before it started."""
    world = World(tmp_path_factory.mktemp("g"))
    try:
        published = world.publish(world.endpoints())
        assert published.accepted is None
        world.start()
        world.healthy("dep__main__blue", 2)
        yield world
    finally:
        world.close()


@pytest.fixture
def world(running):
    """The running gateway with a clean record of what its upstreams saw."""
    running.clear()
    return running
