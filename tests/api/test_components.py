"""Components on the wire: the SDK's own requests, what cannot be registered, and who sees what."""

import copy

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Membership, Workspace
from apps.core.errors import Problem
from apps.endpoints.users import users_of
from apps.registry import components, domain
from apps.registry.models import Code, CodeVersion, Component, ComponentVersion, Environment
from tests.factories import make_environment, make_tree

pytestmark = pytest.mark.django_db(transaction=True)
ARM = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/portway"
    "/providers/Microsoft.MachineLearningServices/workspaces"
)
DEFAULT = f"{ARM}/default"
SHORT = "/api/v1/workspaces/lab/components"
CODE = "761e0b42-e02f-4380-acaf-1ea065b95c9a"
STEP = "cdf5f677-e1da-ef26-097a-aa3e1c26fb00"

# the three bodies as azure-ai-ml 1.35.2 sends them
INLINE = {
    "properties": {
        "componentSpec": {
            "command": "python hello.py",
            "code": f"azureml:{DEFAULT}/codes/{CODE}/versions/1",
            "environment": "azureml://registries/azureml/environments/sklearn-1.5/labels/latest",
            "name": "azureml_anonymous",
            "version": "1",
            "is_deterministic": True,
            "type": "command",
            "_source": "YAML.JOB",
        },
        "isAnonymous": True,
        "isArchived": False,
        "properties": {},
        "tags": {},
    }
}
PIPELINE = {
    "properties": {
        "componentSpec": {
            "name": "hello_batch",
            "version": "1",
            "$schema": "https://azuremlschemas.azureedge.net/latest/pipelineComponent.schema.json",
            "display_name": "Hello Batch component",
            "type": "pipeline",
            "jobs": {
                "main_job": {
                    "name": "main_job",
                    "type": "command",
                    "_source": "YAML.JOB",
                    "componentId": f"{DEFAULT}/components/azureml_anonymous/versions/{STEP}",
                }
            },
            "_source": "YAML.COMPONENT",
            "sourceJobId": None,
        },
        "isAnonymous": False,
        "properties": {},
        "tags": {},
    }
}
FROM_JOB = {
    "properties": {
        "componentSpec": {
            "source_job_id": "batchjob-000000000001",
            "name": "azureml_anonymous",
            "version": "1",
            "type": "pipeline",
            "_source": "CLASS",
            "jobs": {},
            "sourceJobId": "batchjob-000000000001",
        },
        "isAnonymous": True,
        "properties": {},
        "tags": {},
    }
}
COMMAND = {
    "type": "command",
    "display_name": "Score",
    "command": "score ${{inputs.data}} --n ${{inputs.n}} $[[--word ${{inputs.word}}]] ${{outputs.scores}}",
    "environment": "azureml:sklearn@latest",
    "inputs": {
        "data": {"type": "uri_folder"},
        "n": {"type": "integer", "default": "3", "min": 1, "max": 5},
        "word": {"type": "string", "optional": True, "enum": ["a", "b"]},
    },
    "outputs": {"scores": {"type": "uri_folder", "mode": "upload"}},
    "resources": {"instance_count": 2},
}
GRAPH = {
    "type": "pipeline",
    "inputs": {"data": {"type": "uri_folder"}, "n": {"type": "integer", "default": 2}},
    "outputs": {"scores": {"type": "uri_folder", "mode": "upload"}},
    "jobs": {
        "first": {
            "type": "command",
            "component": "azureml:score@latest",
            "inputs": {"data": {"path": "${{parent.inputs.data}}", "mode": "download"}, "n": 4, "word": "a"},
            "outputs": {"scores": {"type": "uri_folder", "mode": "upload"}},
            "compute": "azureml:cpu",
            "environment_variables": {"A": "b"},
            "resources": {"instance_count": 3},
        },
        "second": {
            "component": COMMAND,
            "inputs": {"data": "${{parent.jobs.first.outputs.scores}}", "n": "${{parent.inputs.n}}"},
            "outputs": {"scores": "${{parent.outputs.scores}}"},
        },
        "third": {
            "component": "azureml:score:1",
            "inputs": {"data": {"type": "uri_folder", "path": "azureml:data:1", "mode": "direct"}},
            "outputs": {"scores": None},
        },
    },
}


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


@pytest.fixture
def sdk(api, people):
    """The workspace of the captured requests, with the code and the environment they name."""
    workspace = Workspace.objects.create(name="default")
    Membership.objects.create(user=people["dan"], workspace=workspace, role="data-scientist")
    make_environment(workspace, "sklearn-1.5", "7")
    asset = Code.objects.create(workspace=workspace, name=CODE)
    CodeVersion.objects.create(asset=asset, version="1", tree=make_tree())
    return workspace


@pytest.fixture
def environment(workspace):
    return make_environment(workspace)


def put(api, spec, name="score", version="1", **properties):
    body = {"properties": {"componentSpec": spec, **properties}}
    return api.put(f"{SHORT}/{name}/versions/{version}", body, format="json")


def test_the_requests_of_the_sdk(api, sdk):
    made = api.put(f"{DEFAULT}/components/azureml_anonymous/versions/{STEP}", INLINE, format="json")
    assert made.status_code == 201, made.content
    spec = made.json()["properties"]["componentSpec"]
    assert spec["code"] == INLINE["properties"]["componentSpec"]["code"]
    assert spec["environment"] == f"azureml:{DEFAULT}/environments/sklearn-1.5/versions/7"
    assert (made.json()["name"], made.json()["properties"]["isAnonymous"]) == (STEP, True)

    pipeline = api.put(f"{DEFAULT}/components/hello_batch/versions/1", PIPELINE, format="json")
    assert pipeline.status_code == 201, pipeline.content
    assert pipeline.json()["id"] == f"{DEFAULT}/components/hello_batch/versions/1"
    shown = pipeline.json()["properties"]["componentSpec"]
    assert shown["display_name"] == "Hello Batch component"
    node = shown["jobs"]["main_job"]
    assert node["componentId"] == PIPELINE["properties"]["componentSpec"]["jobs"]["main_job"]["componentId"]
    for path, body in ((f"azureml_anonymous/versions/{STEP}", INLINE), ("hello_batch/versions/1", PIPELINE)):
        assert api.put(f"{DEFAULT}/components/{path}", body, format="json").status_code == 200
    graph = components.graph_of(ComponentVersion.objects.get(asset__name="hello_batch"))
    assert graph.order() == ("main_job",)


def test_the_name_of_anonymous_components_is_for_those_alone(api, sdk):
    url = f"{DEFAULT}/components/azureml_anonymous/versions/{STEP}"
    named = {"properties": INLINE["properties"] | {"isAnonymous": False}}
    refused = api.put(url, named, format="json")
    assert (refused.status_code, "kept for what pipelines" in refused.json()["error"]["message"]) == (400, True)
    assert not Component.objects.exists()
    assert api.put(url, INLINE, format="json").status_code == 201


def test_a_job_becomes_a_component_and_the_next_one_takes_its_place(api, sdk, monkeypatch):
    url = f"{DEFAULT}/components/azureml_anonymous/versions/1"
    assert api.put(url, FROM_JOB, format="json").status_code == 404
    asked = []
    jobs = [PIPELINE, PIPELINE, INLINE]

    def of_job(workspace, name):
        asked.append((workspace, name))
        return jobs.pop(0)["properties"]["componentSpec"]

    monkeypatch.setattr(components, "_sources", [])
    components.from_job_with(of_job)
    api.put(f"{DEFAULT}/components/azureml_anonymous/versions/{STEP}", INLINE, format="json")
    assert api.put(url, FROM_JOB, format="json").status_code == 201
    assert asked == [(sdk, "batchjob-000000000001")]
    first = ComponentVersion.objects.get(version="1")
    assert api.put(url, FROM_JOB, format="json").status_code == 200
    replaced = api.put(url, FROM_JOB, format="json")
    assert replaced.status_code == 201, replaced.content
    assert replaced.json()["properties"]["componentSpec"]["type"] == "command"
    first.refresh_from_db()
    assert first.type == "pipeline"  # whoever uses it keeps it
    assert first.version != "1"


def test_a_component_reads_back_as_it_can_be_put_again(api, workspace, environment):
    for name, spec in (("score", COMMAND), ("all", GRAPH)):
        made = put(api, spec, name, tags={"a": "b"}, description="what it does")
        assert made.status_code == 201, made.content
        shown = api.get(f"{SHORT}/{name}/versions/1").json()
        assert shown == made.json()
        shown["properties"]["isArchived"] = True
        archived = api.put(f"{SHORT}/{name}/versions/1", shown, format="json")
        assert archived.status_code == 200, archived.content
        assert archived.json()["properties"]["isArchived"] is True
        shown["properties"]["isArchived"] = False
        assert api.put(f"{SHORT}/{name}/versions/1", shown, format="json").status_code == 200
    assert put(api, COMMAND).status_code == 200
    assert put(api, {**COMMAND, "command": "other ${{inputs.data}}"}).status_code == 409
    listed = api.get(f"{SHORT}/all/versions").json()["value"]
    assert [each["name"] for each in listed] == ["1"]
    assert {each["name"] for each in api.get(SHORT).json()["value"]} == {"score", "all", "azureml_anonymous"}
    assert api.get(f"{SHORT}/score").json()["properties"]["latestVersion"] == "1"


def test_a_pipeline_keeps_the_versions_it_was_made_with(api, workspace, environment):
    put(api, COMMAND)
    put(api, GRAPH, "all")
    assert put(api, {**COMMAND, "command": "newer"}, version="2").status_code == 201
    version = ComponentVersion.objects.get(asset__name="all")
    graph = components.graph_of(version)
    rows = components.resolve(graph, workspace)
    assert (str(rows["first"]), str(rows["third"])) == ("score:1", "score:1")
    assert rows["second"].is_anonymous
    assert rows["second"].environment == environment
    assert components.digest(rows["second"]) == components.digest(rows["first"])
    assert components.digest(ComponentVersion.objects.get(version="2")) != components.digest(rows["first"])
    assert graph.order().index("first") < graph.order().index("second")
    assert graph.steps["first"].compute == "cpu"


def test_what_a_step_brings_along_follows_the_newest_environment(api, workspace, environment):
    spec = {"type": "pipeline", "jobs": {"a": {"component": COMMAND, "inputs": {"data": {"path": "a"}}}}}
    assert put(api, spec, "all").status_code == 201
    assert put(api, spec, "all").status_code == 200
    newer = make_environment(workspace, version="2")
    assert put(api, spec, "all").status_code == 409
    assert put(api, spec, "all", "2").status_code == 201
    found = [each.environment for each in ComponentVersion.objects.filter(is_anonymous=True).order_by("created_at")]
    assert found == [environment, newer]


def test_what_is_used_cannot_be_deleted(api, workspace, environment):
    put(api, COMMAND)
    put(api, GRAPH, "all")
    refused = api.delete(f"{SHORT}/score/versions/1")
    assert (refused.status_code, "all:1" in refused.json()["error"]["message"]) == (409, True)
    assert "component score:1" in users_of(environment)
    assert api.delete(f"{SHORT}/all/versions/1").status_code == 204
    assert api.delete(f"{SHORT}/score/versions/1").status_code == 204


def test_only_one_who_may_write_can_register(api, people, workspace, environment):
    api.force_authenticate(people["rita"])
    assert put(api, COMMAND).status_code == 403
    api.force_authenticate(people["charlie"])
    assert put(api, COMMAND).status_code == 404
    assert not Component.objects.exists()


def test_nothing_of_another_workspace_can_be_named(api, people, workspace, environment):
    other = Workspace.objects.get(name="other")
    make_environment(other, "secret")
    put(api, COMMAND)
    there = f"{ARM}/other"
    for spec in (
        {**COMMAND, "environment": f"{there}/environments/secret/versions/1"},
        {**COMMAND, "environment": "azureml:secret:1"},
        {"type": "pipeline", "jobs": {"a": {"component": f"{there}/components/score/versions/1"}}},
        {"type": "pipeline", "jobs": {"a": {"component": "azureml:score:1", "compute": f"{there}/computes/cpu"}}},
    ):
        answer = put(api, spec, "taken")
        assert answer.status_code == 400, answer.content
    assert not Component.objects.filter(name="taken").exists()


@pytest.mark.parametrize("name", ["Score", "1score", "sc-ore", "score.x", "a" * 256])
def test_names_are_stricter_than_of_other_assets(api, environment, name):
    assert put(api, COMMAND, name).status_code == 400


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({"colour": "red"}, "colour"),
        ({"type": "sweep"}, "type"),
        ({"environment": None}, "environment"),
        ({"environment": {"image": "a"}}, "environment"),
        ({"environment": "azureml:none:1"}, "environment"),
        ({"code": "./src"}, "code"),
        ({"distribution": {"type": "mpi"}}, "distribution"),
        ({"command": "a ${{inputs.none}}"}, "command"),
        ({"command": "a \\\n b"}, "command"),
        ({"inputs": {"home": {"type": "string"}}}, "inputs.home"),
    ],
    ids=str,
)
def test_a_refusal_says_which_field(api, environment, change, target):
    answer = put(api, {**COMMAND, **change})
    assert (answer.status_code, answer.json()["error"].get("target")) == (400, target), answer.content


def test_a_pipeline_that_fails_leaves_nothing_behind(api, environment):
    put(api, COMMAND)
    made = set(ComponentVersion.objects.values_list("pk", flat=True))
    broken = copy.deepcopy(GRAPH)
    broken["jobs"]["third"]["inputs"] = {}
    answer = put(api, broken, "all")
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, "jobs.third.inputs.data")
    broken = copy.deepcopy(GRAPH)
    broken["jobs"]["second"]["component"]["environment"] = "azureml:none:1"
    answer = put(api, broken, "all")
    assert answer.json()["error"]["target"] == "jobs.second.component.environment"
    assert set(ComponentVersion.objects.values_list("pk", flat=True)) == made
    assert not Component.objects.filter(name__in=["all", components.ANONYMOUS]).exists()


def test_a_pipeline_does_not_bring_along_without_bound(api, environment, monkeypatch):
    monkeypatch.setattr(domain, "MOST_BROUGHT", 1)
    inner = {"type": "pipeline", "jobs": {"a": {"component": COMMAND, "inputs": {"data": {"path": "a"}}}}}
    answer = put(api, {"type": "pipeline", "jobs": {"a": {"component": inner}}}, "nested")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "OutOfQuota")
    monkeypatch.setattr(domain, "MOST_BROUGHT", 2)
    assert put(api, {"type": "pipeline", "jobs": {"a": {"component": inner}}}, "nested").status_code == 201
    monkeypatch.setattr(components, "MOST_PARTS", 0)
    assert put(api, {"type": "pipeline", "jobs": inner["jobs"]}, "nested", "2").status_code == 400


def test_the_component_of_a_job_is_no_part_of_another(workspace, environment, people):
    with pytest.raises(Problem):
        components.find("azureml:azureml_anonymous:1", workspace=workspace, field="component")


NASTY = [None, True, -1, 0, 1.5, 10**30, "", " ", "x" * 70_000, "a\nb", "../..", "${{", "$[[", [], [1], {}]
NASTY += [{"a": {"b": 1}}, {"type": []}, {"path": {}}, {"value": "${{parent.inputs.x}}"}, {"a-b": None}, {"": 1}]


def places(value, at=()):
    """The path of everything in a document."""
    yield at
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*at, key))


@pytest.mark.parametrize("place", [*places(COMMAND)], ids=".".join)
def test_every_field_of_a_command_with_every_kind_of_value(api, environment, place):
    attack(api, COMMAND, place)
    assert Environment.objects.count() == 1


@pytest.mark.parametrize("place", [*places({**GRAPH, "sourceJobId": None})], ids=".".join)
def test_every_field_of_a_pipeline_with_every_kind_of_value(api, environment, place):
    put(api, COMMAND)
    attack(api, GRAPH, place)


def attack(api, good, place):
    before = set(ComponentVersion.objects.values_list("pk", flat=True))
    for value in NASTY:
        body = copy.deepcopy(good) if place else value
        at = body
        for key in place[:-1]:
            at = at[key]
        if place:
            at[place[-1]] = value
        answer = put(api, body, "attacked")
        assert answer.status_code in {200, 201, 400, 404}, (value, answer.content[:300])
        if answer.status_code in {200, 201}:
            assert put(api, answer.json()["properties"]["componentSpec"], "attacked").status_code == 200, value
            row = ComponentVersion.objects.get(asset__name="attacked")
            if row.type == "pipeline":
                components.graph_of(row).order()
            Component.objects.filter(name__in=["attacked", components.ANONYMOUS]).delete()
        assert answer.json().get("error", {"message": "made"})["message"], value
        assert set(ComponentVersion.objects.values_list("pk", flat=True)) == before, value
