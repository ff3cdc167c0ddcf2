"""Deploying with real parts: environment by uv, model server in a process, Envoy in front."""

import pytest

from apps.compute import domain as compute
from apps.compute.models import Replica
from apps.core.errors import Problem
from apps.endpoints import domain
from apps.endpoints.domain import EndpointSpec

pytestmark = pytest.mark.envoy
WHO = "import os\ndef init(): pass\ndef run(data): return os.environ['WHO']\n"


@pytest.fixture(autouse=True)
def real_processes(settings):
    settings.DEFAULT_DRIVER = "process"


def test_two_deployments_split_header_and_rolling_update(world):
    endpoint = world.endpoint()
    assert world.score()[0] == 404
    world.deploy(endpoint, "blue", script=WHO, environment_variables={"WHO": "blue"})
    world.deploy(endpoint, "green", script=WHO, environment_variables={"WHO": "green"})
    assert world.fresh(endpoint).traffic == {}
    assert world.score(azureml_model_deployment="green")[2] == "green"
    world.traffic(endpoint, blue=100)
    status, headers, body = world.score()
    assert (status, body) == (200, "blue")
    assert headers["azureml-model-deployment"] == "blue"
    assert headers["azureml-model-session"] == "blue-1"
    world.traffic(endpoint, blue=0, green=100)
    assert world.score()[2] == "green"

    blue = endpoint.deployments.get(name="blue")
    spec = domain.spec_of(blue, environment_variables={"WHO": "bluer"})
    world.run(domain.update_deployment(deployment=blue, spec=spec, actor=world.actor))
    status, headers, body = world.score(azureml_model_deployment="blue")
    assert (body, headers["azureml-model-session"]) == ("bluer", "blue-2")
    assert Replica.objects.filter(set__owner_key="iris/blue").count() == 1


def test_scaling_out_and_in_and_deleting_leave_no_replica_behind(world):
    endpoint = world.endpoint()
    blue = world.deploy(endpoint)
    world.run(domain.scale_deployment(deployment=blue, instance_count=3, actor=world.actor))
    assert len(compute.addresses(endpoint.deployments.get().serving_id)) == 3
    world.run(domain.scale_deployment(deployment=endpoint.deployments.get(), instance_count=1, actor=world.actor))
    assert len(compute.addresses(endpoint.deployments.get().serving_id)) == 1
    assert len(compute.driver("process").list(owner=compute.OWNER)) == 1
    world.traffic(endpoint, blue=100)
    assert world.score(body=7)[2] == {"echo": "7"}
    world.run(domain.delete_endpoint(endpoint=world.fresh(endpoint), actor=world.actor))
    assert compute.driver("process").list(owner=compute.OWNER) == []
    assert world.score(key="gone")[0] == 404


@pytest.mark.parametrize(
    ("script", "code", "evidence"),
    [
        ("from json import nowhere\ndef init(): pass\ndef run(x): return x\n", "UserScriptImportError", "nowhere"),
        ("def init(): raise RuntimeError('no luck')\ndef run(x): return x\n", "UserScriptInitFailed", "no luck"),
        ("def init(): globals()\n", "UserScriptFunctionNotFound", "run"),
    ],
)
def test_a_script_that_cannot_start_says_why(world, script, code, evidence):
    endpoint = world.endpoint()
    blue, operation = domain.create_deployment(
        endpoint=endpoint, name="blue", spec=world.spec(script=script), actor=world.actor
    )
    error = world.run_failing(operation)
    assert (error["azure"], error["fault"]) == (code, "user")
    assert evidence in error["evidence"] + error["message"]
    blue.refresh_from_db()
    assert (blue.state, blue.serving, blue.error["azure"]) == ("Failed", None, code)
    with pytest.raises(Problem, match="has never come up"):
        domain.update_endpoint(endpoint=endpoint, spec=EndpointSpec(traffic={"blue": 100}), actor=world.actor)


def test_a_failed_update_leaves_the_old_revision_serving(world):
    endpoint = world.endpoint()
    blue = world.deploy(endpoint)
    world.traffic(endpoint, blue=100)
    spec = world.spec(script="def init(): raise ValueError('v2')\ndef run(x): return x\n")
    world.run_failing(domain.update_deployment(deployment=blue, spec=spec, actor=world.actor))
    status, headers, _ = world.score(body=1)
    assert (status, headers["azureml-model-session"]) == (200, "blue-1")


def test_a_model_error_is_424_and_a_wrong_key_401(world):
    endpoint = world.endpoint()
    world.deploy(endpoint, script="def init(): pass\ndef run(x): raise ValueError('secret detail')\n")
    world.traffic(endpoint, blue=100)
    status, headers, body = world.score(body=1)
    assert (status, headers["ms-azureml-model-error-statuscode"]) == (424, "500")
    assert "secret detail" not in str(body)
    assert world.score(key="wrong")[0] == 401


def test_regenerating_one_key_leaves_the_other(world):
    from apps.gateway.domain import keys_of

    endpoint = world.endpoint()
    world.deploy(endpoint)
    world.traffic(endpoint, blue=100)
    before = keys_of("iris")
    world.run(domain.regenerate_key(endpoint=world.fresh(endpoint), slot="primary", value=None, actor=world.actor))
    after = keys_of("iris")
    assert after["secondary"] == before["secondary"]
    assert after["primary"] != before["primary"]
    assert [world.score(key=key)[0] for key in (before["primary"], after["primary"], before["secondary"])] == [
        401,
        200,
        200,
    ]
