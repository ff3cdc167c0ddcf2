"""The OpenAPI document is sound, and no request made from it can bring a 5xx."""

import pytest
import schemathesis
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, given, seed, settings
from schemathesis.checks import not_a_server_error

from apps.accounts.domain import create_token
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_cluster, make_job, make_node

EXAMPLES = 15  # per operation; a longer search is one number away
KNOWN = {"workspace": "lab", "endpoint": "iris", "deployment": "blue", "name": "plain", "version": "1"}
KNOWN |= {"compute": "cpu", "node": "cpu-1", "job": "job-1", "number": 0, "path": "predictions.csv"}


@pytest.mark.envoy
def test_nothing_made_from_the_schema_brings_a_5xx(world):
    world.deploy(world.endpoint())
    cluster = make_cluster(world.workspace, tier="LowPriority")
    make_node(cluster)
    blue = make_batch_deployment(make_batch_endpoint(world.workspace, "iris"), cluster=cluster)
    make_job(blue, parts=2, state="Completed")
    _, token = create_token(user=world.actor, name="t")
    headers = {"Authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", get_wsgi_application(), headers=headers)
    seen = [attack(result.ok(), headers) for result in schema.get_all_operations()]
    assert len(seen) > 65
    assert sum(seen) > 65 * EXAMPLES / 2


def attack(operation, headers):
    """Send what can be made from one operation; half of the time to objects that exist. Returns how many requests."""
    sent = 0

    @seed(7)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def send(case):
        nonlocal sent
        sent += 1
        if sent % 2:
            case.path_parameters |= {key: value for key, value in KNOWN.items() if key in case.path_parameters}
        case.call_and_validate(headers=headers, checks=[not_a_server_error])

    send()
    return sent


def test_the_document_has_no_warning(tmp_path):
    call_command("spectacular", "--file", str(tmp_path / "openapi.yaml"), "--validate", "--fail-on-warn")
