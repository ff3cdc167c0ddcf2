"""Pipelines over REST with the bodies that the SDK sends: jobs sent by themselves, deployments of finished ones."""

import pytest
from rest_framework.test import APIClient

from apps.batch.models import BatchDeployment, Job
from apps.core.models import Operation
from apps.registry.models import ComponentVersion
from tests.api.batch_bodies import ARM, DROP, PIPELINE, SHORT, paths, with_changes
from tests.batch.conftest import batch  # noqa: F401 -- a fixture
from tests.batch.parts import make_batch_endpoint, make_cluster, make_component
from tests.batch.pipes import ended, prepare_and_score

pytestmark = pytest.mark.django_db(transaction=True)
FORESTS = f"{ARM}/batchEndpoints/forests"
JOB = f"{ARM}/jobs/dreamy_shelf_581gknx5cw"
COMPONENT = f"{ARM}/components/hello_batch/versions/1"
SENT = {  # wire-captures: job-create-pipeline
    "properties": {
        "computeId": f"{ARM}/computes/batch-cluster",
        "componentId": COMPONENT,
        "displayName": "hello-pipeline-batch-job",
        "tags": {},
        "description": "This job demonstrates how to run the a pipeline component in a pipeline job.",
        "properties": {},
        "experimentName": "hello-pipeline-batch",
        "jobs": {},
        "isArchived": False,
        "inputs": {},
        "outputs": {},
        "settings": {"_source": "REMOTE.WORKSPACE.JOB"},
        "jobType": "Pipeline",
    }
}
WEIRD = [None, "", "x" * 200, -1, 0, 2**40, 1.5, True, [], {}, [{}], {"a": {"b": []}}, "PT", "\u0663", "azureml:x"]


def client_of(user):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(user)
    return client


@pytest.fixture
def api(people):
    return client_of(people["carl"])


@pytest.fixture
def hello(workspace):
    make_cluster(workspace, "batch-cluster")
    return make_component(workspace)


def test_a_job_as_the_sdk_sends_it(api, hello):
    made = api.put(f"{JOB}?api-version=2024-01-01-preview", SENT, format="json")
    assert made.status_code == 201, made.content
    shown = made.json()
    sent = SENT["properties"]
    assert (shown["id"], shown["name"]) == (JOB, "dreamy_shelf_581gknx5cw")
    properties = shown["properties"]
    for name in ("computeId", "displayName", "description", "experimentName", "jobType", "inputs", "outputs"):
        assert properties[name] == sent[name], name
    assert properties["status"] == "NotStarted"
    assert properties["settings"] == {
        "default_compute": "batch-cluster",
        "default_datastore": "workspaceblobstore",
        "continue_on_step_failure": True,
        "force_rerun": False,
    }
    step = properties["jobs"]["main_job"]
    assert (step["type"], step["status"], step["reusedFrom"]) == ("command", "NotStarted", None)
    assert api.get(step["componentId"]).status_code == 200
    assert api.get(JOB).json() == shown
    assert api.get(f"{SHORT}/jobs").json()["value"][0]["properties"]["jobs"] == {}  # steps are told one job at a time
    assert Operation.objects.get().kind == "job.prepare"
    again = api.put(JOB, {"properties": {**sent, "displayName": "other"}}, format="json")
    assert (again.status_code, again.json()["properties"]["displayName"]) == (200, "other")
    assert api.put(JOB, again.json(), format="json").status_code == 200
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"properties.jobType": "Command"}, "only pipeline jobs can be sent"),
        ({"properties.jobType": DROP}, "only pipeline jobs can be sent"),
        ({"properties.componentId": "azureml:nothing:1"}, "no nothing:1"),
        ({"properties.componentId": COMPONENT.replace("lab", "other")}, "workspace other"),
        ({"properties.computeId": f"{ARM}/computes/none"}, "no cluster 'none'"),
        ({"properties.inputs": {"x": {"jobInputType": "literal", "value": "1"}}}, "x"),
        ({"properties.settings": {"color": 1}}, "settings.color"),
        ({"properties.colour": 1}, "colour"),
        ({"location": "here"}, "location"),
    ],
)
def test_what_cannot_be_sent_is_400_and_says_why(api, hello, change, told):
    answer = api.put(JOB, with_changes(SENT, change), format="json")
    assert answer.status_code == 400, answer.content
    assert told in answer.json()["error"]["message"]
    assert not Job.objects.exists()
    assert not Operation.objects.exists()


def test_a_reader_sends_no_job(people, hello):
    assert client_of(people["rita"]).put(JOB, SENT, format="json").status_code == 403
    assert client_of(people["charlie"]).put(JOB, SENT, format="json").status_code == 404
    assert not Job.objects.exists()


def test_no_value_of_any_field_is_a_5xx_or_leaves_half_of_a_job(api, hello):
    inline = with_changes(
        SENT,
        {
            "properties.componentId": DROP,
            "properties.inputs": {"words": {"jobInputType": "literal", "value": "x"}},
            "properties.jobs": {"one": {"type": "pipeline", "componentId": COMPONENT, "inputs": {}}},
        },
    )
    for body in (SENT, inline):
        for field in paths(body):
            for value in [*WEIRD, DROP]:
                answer = api.put(JOB, with_changes(body, {field: value}), format="json")
                assert answer.status_code in {201, 400}, (field, value, answer.content)
                assert Job.objects.count() == Operation.objects.count() == (answer.status_code == 201), (field, value)
                if answer.status_code == 201:
                    assert api.get(JOB).status_code == 200, (field, value)
                Job.objects.all().delete()
                Operation.objects.all().delete()
    assert api.put(f"{SHORT}/jobs/a b", SENT, format="json").status_code == 400


def test_steps_with_their_state_in_the_job_and_in_run_history(batch):  # noqa: F811 -- the fixture
    prepare_and_score(batch)
    batch.agent()
    api = client_of(batch.actor)
    uri = batch.files(1)
    body = {"properties": {"inputData": {"input_data": {"jobInputType": "UriFolder", "uri": uri}}}}
    names = []
    for _ in range(2):
        made = api.post("/batch/pipes/jobs", body, format="json")
        assert made.status_code == 201, made.content
        ended(batch, Job.objects.get(name=made.json()["name"]))
        names.append(made.json()["name"])
    first, second = (api.get(f"{ARM}/jobs/{name}").json()["properties"] for name in names)
    assert first["inputs"]["input_data"] == {"jobInputType": "uri_folder", "mode": None, "uri": uri}
    prep, score = first["jobs"]["prep"], first["jobs"]["score"]
    assert (prep["status"], prep["componentId"]) == ("Completed", f"{ARM}/components/prepare/versions/1")
    assert prep["inputs"]["data"] == {"job_input_type": "literal", "value": "${{parent.inputs.input_data}}"}
    assert score["inputs"]["data"]["value"] == "${{parent.jobs.prep.outputs.prepared}}"
    assert score["outputs"]["scores"] == {"job_output_type": "literal", "value": "${{parent.outputs.scores}}"}
    assert second["jobs"]["prep"]["reusedFrom"] == prep["jobName"]
    runs = api.get(f"/history/v1.0{ARM}/runs/{names[1]}/children").json()["value"]
    told = {(each["displayName"], each["runId"], each["status"]) for each in runs}
    assert told == {(name, step["jobName"], "Completed") for name, step in second["jobs"].items()}

    def definition(name):
        spec = {"name": "azureml_anonymous", "version": "1", "type": "pipeline", "_source": "CLASS", "jobs": {}}
        body = {"componentSpec": {**spec, "sourceJobId": name}, "isAnonymous": True, "properties": {}, "tags": {}}
        url = f"{ARM}/components/azureml_anonymous/versions/1"
        answer = api.put(url, {"properties": body}, format="json")
        assert answer.status_code in {200, 201}, answer.content
        return url

    third = with_changes(body, {"properties.inputData.score_mode": {"jobInputType": "Literal", "value": "replace"}})
    names.append(api.post("/batch/pipes/jobs", third, format="json").json()["name"])
    ended(batch, Job.objects.get(name=names[2]))
    for source, name in ((names[0], "one"), (names[2], "two")):
        sent = with_changes(
            PIPELINE,
            {
                "properties.deploymentConfiguration.componentId.assetId": definition(source),
                "properties.deploymentConfiguration.settings.default_compute": "cpu",
            },
        )
        answer = api.put(f"{ARM}/batchEndpoints/pipes/deployments/{name * 2}", sent, format="json")
        assert answer.status_code == 201, answer.content
        batch.inner.run_all()
    one, two = (BatchDeployment.objects.get(name=name) for name in ("oneone", "twotwo"))
    modes = [each.component.spec["inputs"]["score_mode"]["default"] for each in (one, two)]
    assert modes == ["append", "replace"]
    assert two.component.version == "1"
    shown = api.get(f"{ARM}/batchEndpoints/pipes/deployments/oneone").json()["properties"]["deploymentConfiguration"]
    assert api.get(shown["componentId"]["assetId"]).status_code == 200


def test_a_deployment_of_what_is_no_pipeline_of_the_workspace_is_400(api, workspace, hello):
    make_batch_endpoint(workspace)
    step = hello.parts.get()
    assert ComponentVersion.objects.filter(type="command").count() == 1
    place = "properties.deploymentConfiguration"
    for change, told in (
        ({f"{place}.componentId.assetId": f"azureml:{step.asset.name}:{step.version}"}, "is a command component"),
        ({f"{place}.componentId.assetId": "azureml:nothing:1"}, "no nothing:1"),
        ({f"{place}.componentId.assetId": COMPONENT.replace("lab", "other")}, "workspace other"),
        ({f"{place}.componentId": DROP}, "names the pipeline component"),
        ({f"{place}.settings.component_id": COMPONENT}, "settings.component_id"),
        ({f"{place}.settings.force_rerun": "maybe"}, "true or false"),
        ({f"{place}.settings.default_datastore": "nowhere"}, "no datastore"),
    ):
        answer = api.put(f"{FORESTS}/deployments/hello", with_changes(PIPELINE, change), format="json")
        assert (answer.status_code, told in answer.json()["error"]["message"]) == (400, True), answer.content
    assert not BatchDeployment.objects.exists()


def test_a_job_is_sent_once_more_by_its_id(api, hello):
    api.put(JOB, SENT, format="json")
    again = {"jobType": "Pipeline", "sourceJobId": JOB, "experimentName": ""}
    made = api.put(f"{ARM}/jobs/again", {"properties": again}, format="json")
    assert made.status_code == 201, made.content
    first, second = (api.get(f"{ARM}/jobs/{name}").json()["properties"] for name in (JOB.rpartition("/")[2], "again"))
    for name in ("jobs", "settings", "inputs", "displayName", "experimentName"):
        assert {**second, "jobs": second["jobs"].keys()}[name] == {**first, "jobs": first["jobs"].keys()}[name], name
    for source in (f"{ARM}/jobs/nothing", JOB.replace("lab", "other"), 3):
        refused = api.put(f"{ARM}/jobs/third", {"properties": again | {"sourceJobId": source}}, format="json")
        assert refused.status_code == 400, refused.content


def test_what_is_given_beside_the_id_of_a_job_is_heeded(batch):  # noqa: F811 -- the fixture
    prepare_and_score(batch)
    make_cluster(batch.workspace, "second")
    api, uri = client_of(batch.actor), batch.files(1)
    words = {"score_mode": {"jobInputType": "literal", "value": "sent"}}
    sent = {
        "jobType": "Pipeline",
        "componentId": "azureml:flow:1",
        "computeId": "azureml:cpu",
        "displayName": "first",
        "experimentName": "nights",
        "tags": {"a": "b"},
        "inputs": {"input_data": {"jobInputType": "uri_folder", "uri": uri}, **words},
        "outputs": {"scores": {"jobOutputType": "uri_folder", "uri": batch.uri("mine/one")}},
        "settings": {"force_rerun": True},
    }
    first = api.put(f"{ARM}/jobs/first", {"properties": sent}, format="json")
    assert first.status_code == 201, first.content

    def once_more(name, **given):
        body = {"jobType": "Pipeline", "sourceJobId": f"{ARM}/jobs/first", **given}
        answer = api.put(f"{ARM}/jobs/{name}", {"properties": body}, format="json")
        return answer, answer.json().get("properties")

    _, same = once_more("same", outputs={"scores": {"jobOutputType": "uri_folder"}})
    assert same["outputs"]["scores"]["uri"] == batch.uri("mine/one")
    assert same["settings"] == first.json()["properties"]["settings"]
    _, changed = once_more(
        "changed",
        displayName="second",
        description="otherwise",
        experimentName="days",
        tags={"c": "d"},
        properties={"e": "f"},
        computeId=f"{ARM}/computes/second",
        inputs={"score_mode": {"jobInputType": "literal", "value": "other"}},
        outputs={"scores": {"jobOutputType": "uri_folder", "uri": batch.uri("mine/two")}},
        settings={"continue_on_step_failure": False},
    )
    shown = {name: changed[name] for name in ("displayName", "description", "experimentName", "tags")}
    assert shown == {"displayName": "second", "description": "otherwise", "experimentName": "days", "tags": {"c": "d"}}
    assert changed["properties"]["e"] == "f"
    assert changed["inputs"]["score_mode"]["value"] == "other"
    assert changed["inputs"]["input_data"]["uri"] == uri
    assert changed["outputs"]["scores"]["uri"] == batch.uri("mine/two")
    assert changed["settings"] == {
        "default_compute": "second",
        "default_datastore": "workspaceblobstore",
        "continue_on_step_failure": False,
        "force_rerun": True,
    }
    assert once_more("third", settings={"default_compute": "second"})[1]["settings"]["default_compute"] == "second"
    for given, told in (
        ({"settings": {"default_compute": "nowhere"}}, "no cluster 'nowhere'"),
        ({"computeId": f"{ARM}/computes/nowhere"}, "no cluster 'nowhere'"),
        ({"settings": {"color": 1}}, "settings.color"),
        ({"inputs": {"nobody": words["score_mode"]}}, "inputs.nobody"),
        ({"outputs": {"nothing": {}}}, "outputs.nothing"),
        ({"outputs": {"scores": 3}}, "outputs.scores"),
        ({"tags": 3}, "tags"),
    ):
        refused, _ = once_more("refused", **given)
        assert (refused.status_code, told in refused.json()["error"]["message"]) == (400, True), refused.content
    assert not Job.objects.filter(name="refused").exists()


def test_places_that_we_gave_a_job_are_not_those_of_the_next_one(batch):  # noqa: F811 -- the fixture
    prepare_and_score(batch)
    api = client_of(batch.actor)
    sent = {
        "jobType": "Pipeline",
        "componentId": "azureml:flow:1",
        "computeId": "azureml:cpu",
        "inputs": {"input_data": {"jobInputType": "uri_folder", "uri": batch.files(1)}},
    }
    shown = api.put(f"{ARM}/jobs/first", {"properties": sent}, format="json").json()["properties"]
    body = {**shown, "sourceJobId": "first", "jobs": {}, "settings": {}}
    body.pop("interactionEndpoints")
    made = api.put(f"{ARM}/jobs/again", {"properties": body}, format="json")
    assert made.status_code == 201, made.content
    again = made.json()["properties"]
    assert again["outputs"]["scores"]["uri"] == batch.uri("azureml/again/scores")
    assert again["inputs"] == shown["inputs"]


def test_nor_are_those_that_steps_left_which_were_not_run_again(batch):  # noqa: F811 -- the fixture
    prepare_and_score(batch)
    api = client_of(batch.actor)
    data = {"jobInputType": "uri_folder", "uri": batch.files(1)}
    sent = {
        "jobType": "Pipeline",
        "componentId": "azureml:flow:1",
        "computeId": "azureml:cpu",
        "inputs": {"input_data": data},
    }
    shown = api.put(f"{ARM}/jobs/first", {"properties": sent}, format="json").json()["properties"]
    earlier, told = batch.uri("azureml/long-ago/scores"), batch.uri("mine")
    for kept, expected in (({}, batch.uri("azureml/again/scores")), ({"told": True}, told)):
        uri = told if kept else earlier
        Job.objects.filter(name="first").update(outputs={"scores": {"uri": uri, "type": "uri_folder", **kept}})
        output = {**shown["outputs"]["scores"], "uri": uri}
        body = {**shown, "sourceJobId": "first", "jobs": {}, "settings": {}, "outputs": {"scores": output}}
        body.pop("interactionEndpoints")
        made = api.put(f"{ARM}/jobs/again{len(kept) or ''}", {"properties": body}, format="json")
        assert made.status_code == 201, made.content
        assert made.json()["properties"]["outputs"]["scores"]["uri"] == expected


def test_a_command_by_itself_is_400_and_says_what_to_do(api, hello):
    sent = {"jobType": "Command", "command": "echo hi", "environmentId": "x", "computeId": "y"}
    refused = api.put(f"{ARM}/jobs/alone", {"properties": sent}, format="json")
    assert refused.status_code == 400
    assert "make a command a step" in refused.json()["error"]["message"]
