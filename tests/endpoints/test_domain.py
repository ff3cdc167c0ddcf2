"""Verbs on endpoints and deployments as rows: what they refuse, and that they look at the rows as they are now."""

import pytest

from apps.compute.domain import seed_instance_types
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec, EndpointSpec
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway import domain as gateway
from apps.registry import scripts
from apps.registry.domain import register_code
from tests.factories import make_deployment, make_endpoint, make_model
from tests.world import tree_of

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "a-key-of-twenty-chars"


@pytest.fixture(autouse=True)
def sizes(db):
    seed_instance_types()


def create(workspace, name="iris", **spec):
    return domain.create_endpoint(workspace=workspace, name=name, spec=EndpointSpec(**spec), actor=None)[0]


def test_a_key_left_of_an_earlier_endpoint_of_that_name_opens_nothing(workspace):
    gateway.set_key("iris", "primary", "planted by a stranger")
    create(workspace)
    assert "planted by a stranger" not in gateway.keys_of("iris").values()
    assert len(gateway.keys_of("iris")) == 2


def test_an_endpoint_that_is_gone_is_not_found_and_gets_no_key(workspace):
    endpoint = make_endpoint(workspace, "iris", keys=False)
    stale = OnlineEndpoint.objects.get(pk=endpoint.pk)
    endpoint.delete()
    calls = [
        lambda: domain.regenerate_key(endpoint=stale, slot="primary", value=KEY, actor=None),
        lambda: domain.update_endpoint(endpoint=stale, spec=EndpointSpec(description="x"), actor=None),
        lambda: domain.delete_endpoint(endpoint=stale, actor=None),
        lambda: domain.create_deployment(
            endpoint=stale, name="blue", spec=DeploymentSpec(model=make_model(workspace)), actor=None
        ),
    ]
    for call in calls:
        with pytest.raises(Problem) as caught:
            call()
        assert caught.value.code == "not-found"
    assert gateway.keys_of("iris") == {}
    assert not Operation.objects.exists()


def test_traffic_that_came_meanwhile_protects_from_deletion(workspace):
    endpoint = make_endpoint(workspace, "iris")
    make_deployment(endpoint, "blue")
    stale = OnlineDeployment.objects.select_related("endpoint").get()
    OnlineEndpoint.objects.update(traffic={"blue": 100})
    with pytest.raises(Problem) as caught:
        domain.delete_deployment(deployment=stale, actor=None)
    assert caught.value.code == "has-traffic"


def test_a_deployment_that_is_gone_is_not_found(workspace):
    blue = make_deployment(make_endpoint(workspace, "iris"), "blue")
    OnlineDeployment.objects.all().delete()
    for call in (
        lambda: domain.scale_deployment(deployment=blue, instance_count=2, actor=None),
        lambda: domain.delete_deployment(deployment=blue, actor=None),
    ):
        with pytest.raises(Problem, match="There is no deployment"):
            call()


@pytest.mark.parametrize("keys", [{"primary": "short"}, {"secondary": "x" * 513}])
def test_initial_keys_keep_the_rule_of_regenerated_ones(workspace, keys):
    with pytest.raises(Problem, match="16 to 512"):
        create(workspace, keys=keys)
    assert not OnlineEndpoint.objects.exists()


def test_keys_that_would_have_no_effect_are_refused(workspace):
    with pytest.raises(Problem, match="does not use keys"):
        create(workspace, keys={"primary": KEY}, auth_mode="AMLToken")
    endpoint = make_endpoint(workspace, "rose")
    before = gateway.keys_of("rose")
    with pytest.raises(Problem, match="when the endpoint is made"):
        domain.update_endpoint(endpoint=endpoint, spec=EndpointSpec(keys={"primary": KEY}), actor=None)
    assert gateway.keys_of("rose") == before


def test_asking_again_for_what_failed_tries_again(workspace):
    blue = make_deployment(make_endpoint(workspace, "iris"), "blue")
    OnlineDeployment.objects.update(revision=2, state="Failed")
    blue.refresh_from_db()
    domain.update_deployment(deployment=blue, spec=domain.spec_of(blue), actor=None)
    blue.refresh_from_db()
    assert (blue.revision, blue.state) == (3, "Updating")


def test_what_serves_is_scaled_without_a_new_revision(workspace):
    blue = make_deployment(make_endpoint(workspace, "iris"), "blue")
    domain.scale_deployment(deployment=blue, instance_count=3, actor=None)
    blue.refresh_from_db()
    assert (blue.revision, blue.state) == (1, "Scaling")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("period", "PT999999999S"),
        ("period", "PT0S"),
        ("timeout", "PT2H"),
        ("initialDelay", "P9D"),
        pytest.param("failureThreshold", 10**400, id="beyond-floats"),
        ("successThreshold", 10**9),
    ],
)
@pytest.mark.parametrize("probe", ["liveness_probe", "readiness_probe"])
def test_a_probe_has_bounds(workspace, probe, field, value):
    endpoint = make_endpoint(workspace, "iris")
    spec = DeploymentSpec(model=make_model(workspace), **{probe: {field: value}})
    with pytest.raises(Problem) as caught:
        domain.create_deployment(endpoint=endpoint, name="blue", spec=spec, actor=None)
    assert caught.value.target == f"{probe.replace('_probe', 'Probe')}.{field}"


def test_the_wait_in_the_queue_has_a_bound(workspace):
    spec = DeploymentSpec(model=make_model(workspace), max_queue_wait_ms=10**12)
    with pytest.raises(Problem, match="maxQueueWait"):
        domain.create_deployment(endpoint=make_endpoint(workspace, "iris"), name="blue", spec=spec, actor=None)


@pytest.mark.parametrize(
    ("script", "text", "code"),
    [
        ("score.py", "x = " + "-" * 200_000 + "1\n", "script-syntax"),
        ("score.py", "#" * 5_000_001, "bad-field"),
        ("a" * 300 + ".py", "", "script-missing"),
    ],
)
def test_a_script_made_to_hurt_the_checker_is_refused(workspace, script, text, code):
    made, _ = register_code(workspace=workspace, name="code", tree=tree_of(**{"score.py": text or "x"}), actor=None)
    with pytest.raises(Problem) as caught:
        scripts.check(made, script)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "values",
    [
        {"environment_variables": {"PORTWAY_OVERLAY": "/tmp"}},
        {"environment_variables": {"AZUREML_MODEL_DIR": "/tmp"}},
        {"model_mount_path": "/opt/portway"},
        {"model_mount_path": "/usr/lib"},
        {"model_mount_path": "/var/models/"},
        {"model_mount_path": "/var/../usr"},
    ],
)
def test_what_could_never_start_is_refused_before_anything_is_started(workspace, values):
    spec = DeploymentSpec(model=make_model(workspace), **values)
    with pytest.raises(Problem) as caught:
        domain.create_deployment(endpoint=make_endpoint(workspace, "iris"), name="blue", spec=spec, actor=None)
    assert caught.value.target in {"environmentVariables", "modelMountPath"}
    assert not Operation.objects.exists()
