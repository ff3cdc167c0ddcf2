import pytest

from tests.batch.world import BatchWorld
from tests.world import World


@pytest.fixture
def batch(transactional_db, settings):
    """Batch work with real processes; no gateway is needed."""
    settings.DEFAULT_DRIVER = "process"
    made = BatchWorld(World())
    yield made
    made.close()
