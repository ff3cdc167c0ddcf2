"""Submitting jobs, watching and keeping them, with the bodies that the SDK sends."""

import json
import uuid

import pytest
from rest_framework.test import APIClient

from apps.batch.engine import joblogs
from apps.batch.models import Job, MiniBatch
from apps.core.models import Operation
from apps.registry import locations
from tests.api import batch_bodies as bodies
from tests.api.batch_bodies import ARM, DROP, SHORT, paths, with_changes
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_job

pytestmark = pytest.mark.django_db(transaction=True)
INVOKE = "/batch/forests/jobs"
HISTORY = f"/history/v1.0{ARM}"
WEIRD = [None, "", "x" * 200, -1, 0, 2**40, 1.5, True, [], {}, [{}], {"a": {"b": []}}, "PT", "\u0663", "azureml:x"]


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


@pytest.fixture
def blue(workspace):
    folder = locations.resolve(bodies.DATA, workspace=workspace, actor=None).local_path()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.csv").write_text("1\n")
    return make_batch_deployment(make_batch_endpoint(workspace))


def invoke(api, body=bodies.INVOKE, **headers):
    return api.post(INVOKE, body, format="json", headers=headers)


def test_a_job_as_the_sdk_submits_it(api, blue, settings):
    body = with_changes(bodies.INVOKE, {"properties.outputData": DROP})
    answer = invoke(api, body, **{"repeatability-request-id": str(uuid.uuid4()), "azureml-model-deployment": "blue"})
    assert answer.status_code == 201, answer.content
    shown = answer.json()
    assert shown["type"] == "Microsoft.MachineLearningServices/workspaces/batchEndpoints/jobs"
    assert shown["id"] == f"{ARM}/batchEndpoints/forests/jobs/{shown['name']}"
    properties = shown["properties"]
    assert properties["inputData"] == bodies.INVOKE["properties"]["inputData"]
    assert (properties["status"], properties["provisioningState"]) == ("NotStarted", "Succeeded")
    assert properties["interactionEndpoints"]["Studio"]["endpoint"].startswith(settings.BASE_URL)
    job = Job.objects.get()
    assert (job.experiment_name, job.deployment, job.created_by.username) == ("exp1", blue, "dan")
    assert Operation.objects.get().kind == "job.prepare"
    assert api.get(f"{INVOKE}/{job.name}").json() == shown
    for prefix in ("/mferp/managementfrontend" + ARM, ARM, SHORT):
        for path in ("batchEndpoints/forests/jobs", "batchEndpoints/forests/deployments/blue/jobs"):
            assert api.get(f"{prefix}/{path}").json()["value"] == [shown]
    assert api.get(INVOKE).json()["value"] == [shown]


def test_capital_letters_and_every_setting(api, blue):
    more = {
        "Name": "mine",
        "Compute": {"InstanceCount": 2},
        "RetrySettings": {"MaxRetries": 1, "Timeout": "PT1M"},
        "MiniBatchSize": 5,
        "ErrorThreshold": 3,
        "OutputFileName": "x.csv",
        "LoggingLevel": "debug",
    }
    answer = invoke(api, {"Properties": {**bodies.INVOKE_REST["properties"], **more}})
    assert answer.status_code == 201, answer.content
    settings = Job.objects.get(name="mine").settings
    names = ("instance_count", "max_retries", "timeout_ms", "mini_batch_size", "error_threshold", "output_file_name")
    assert [settings[name] for name in names] == [2, 1, 60_000, 5, 3, "x.csv"]
    assert settings["logging_level"] == "Debug"


def test_the_same_request_is_one_job(api, blue):
    body = bodies.INVOKE_REST
    first, again = (invoke(api, body, **{"repeatability-request-id": "r-1"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert Job.objects.count() == Operation.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"properties.inputData.heart": {"jobInputType": "Literal", "value": 0.5}}, 400, "Literal"),
        ({"properties.inputData.heart.jobInputType": "MLTable"}, 400, "MLTable"),
        ({"properties.inputData.heart.uri": DROP}, 400, "uri"),
        ({"properties.inputData.heart.uri": f"{bodies.DATA}/nothing"}, 400, "does not exist"),
        ({"properties.inputData": {}}, 400, "exactly one input"),
        ({"properties.inputData.b": {"jobInputType": "UriFolder", "uri": bodies.DATA}}, 400, "exactly one input"),
        ({"properties.InputData": {}}, 400, "twice"),
        ({"properties.miniBatchSize": 0}, 400, "miniBatchSize"),
        ({"properties.compute": {"target": "other"}}, 400, "target"),
        ({"properties.compute": {"instanceCount": 99}}, 400, "at most"),
        ({"properties.colour": "red"}, 400, "colour"),
        ({"properties.name": "../x"}, 400, "name"),
    ],
)
def test_what_cannot_be_submitted_says_why(api, blue, change, status, word):
    answer = invoke(api, with_changes(bodies.INVOKE, change))
    assert answer.status_code == status, answer.content
    assert word in answer.json()["error"]["message"]
    assert not Job.objects.exists()


def test_an_unknown_deployment_is_a_404_that_names_the_others(api, blue):
    answer = invoke(api, bodies.INVOKE_REST, **{"azureml-model-deployment": "green"})
    assert answer.status_code == 404
    assert "this endpoint has blue" in answer.json()["error"]["message"]
    assert api.post("/batch/none/jobs", bodies.INVOKE_REST, format="json").status_code == 404


@pytest.mark.parametrize("body", [bodies.INVOKE, bodies.INVOKE_REST], ids=["sdk", "rest"])
def test_no_value_of_any_field_is_a_5xx_or_leaves_half_of_a_job(api, blue, body):
    for field in paths(body):
        for value in [*WEIRD, DROP]:
            answer = invoke(api, with_changes(body, {field: value}))
            assert answer.status_code in {201, 400}, (field, value, answer.content)
            assert Job.objects.count() == Operation.objects.count() == (answer.status_code == 201)
            Job.objects.all().delete()
            Operation.objects.all().delete()


def test_a_job_as_the_sdk_reads_it(api, blue):
    job = make_job(blue, parts=3, done=1, rows=7)
    shown = api.get(f"{ARM}/jobs/{job.name}").json()
    assert shown["type"] == "Microsoft.MachineLearningServices/workspaces/jobs"
    properties = shown["properties"]
    assert (properties["jobType"], properties["status"]) == ("Pipeline", "Running")
    assert properties["tags"]["azureml.batchrun"] == "true"
    assert properties["services"]["Studio"]["jobServiceType"] == "Studio"
    assert "default" not in properties["outputs"]
    assert properties["outputs"]["score"]["uri"].endswith(f"azureml/{job.run_id}/score")
    told = properties["properties"]
    assert (told["miniBatches"], told["done"], told["rows"], told["files"]) == ("3", "1", "7", "3")
    assert all(isinstance(each, str) for each in told.values())


def test_archiving_sends_back_what_was_read(api, blue):
    job = make_job(blue, tags={"mine": "1"}, state="Completed")
    read = api.get(f"{ARM}/jobs/{job.name}").json()
    read["properties"]["isArchived"] = True
    answer = api.put(f"{ARM}/jobs/{job.name}", read, format="json")
    assert (answer.status_code, answer.json()["properties"]["isArchived"]) == (200, True), answer.content
    job.refresh_from_db()
    assert job.tags == {"mine": "1"}
    names = {view: len(api.get(f"{ARM}/jobs?listViewType={view}").json()["value"]) for view in ("ActiveOnly", "All")}
    assert names == {"ActiveOnly": 0, "All": 1}
    assert len(api.get(f"{SHORT}/jobs?listViewType=ArchivedOnly").json()["value"]) == 1
    assert api.put(f"{SHORT}/jobs/none", read, format="json").status_code == 400
    assert api.delete(f"{SHORT}/jobs/{job.name}").status_code == 204
    assert not Job.objects.exists()


def test_a_list_is_chosen_and_paged(api, blue):
    for number in range(5):
        make_job(blue, f"job-{number}", state="Completed" if number % 2 else "Running")
    make_job(blue, "step-1", parent=Job.objects.first(), step="a", type="command")

    def names(query):
        answer = api.get(f"{SHORT}/jobs?{query}")
        assert answer.status_code == 200, answer.content
        return [each["name"] for each in answer.json()["value"]]

    assert names("") == [f"job-{number}" for number in (4, 3, 2, 1, 0)]
    assert names("status=completed") == ["job-3", "job-1"]
    assert names("status=Completed,Running&search=-1") == ["job-1"]
    assert names("endpoint=FORESTS&deployment=green") == []
    assert names("jobType=scoring&$top=2&$skip=1") == ["job-3", "job-2"]
    first = api.get(f"{SHORT}/jobs?$top=3").json()
    following = api.get("/" + first["nextLink"].split("/", 3)[3]).json()
    assert [each["name"] for each in following["value"]] == ["job-1", "job-0"]
    assert following["nextLink"] is None
    for wrong in ("status=green", "jobType=sweep", "$top=-1", "$skip=x"):
        assert api.get(f"{SHORT}/jobs?{wrong}").status_code == 400


def test_mini_batches_are_paged_by_number(api, blue, django_assert_num_queries):
    job = make_job(blue)
    MiniBatch.objects.bulk_create(
        MiniBatch(
            job=job,
            number=number,
            files=["a.csv"],
            file_count=1,
            state="failed" if number % 10 == 0 else "done",
            error={"azure": "UserScriptFailed", "code": "job-script", "message": "no", "fault": "user"}
            if number % 10 == 0
            else None,
        )
        for number in range(2500)
    )
    seen, url, pages = [], f"{SHORT}/jobs/{job.name}/miniBatches", 0
    while url:
        page = api.get(url).json()
        seen += [each["number"] for each in page["value"]]
        url = page["nextLink"] and "/" + page["nextLink"].split("/", 3)[3]
        pages += 1
    assert (seen, pages) == (list(range(2500)), 3)
    failed = api.get(f"{SHORT}/jobs/{job.name}/miniBatches?state=Failed&$top=2&after=5").json()["value"]
    assert [each["number"] for each in failed] == [10, 20]
    assert failed[0]["error"]["code"] == "UserScriptFailed"
    one = api.get(f"{SHORT}/jobs/{job.name}/miniBatches/20").json()
    assert (one["paths"], one["state"]) == (["a.csv"], "failed")
    assert api.get(f"{SHORT}/jobs/{job.name}/miniBatches/9999").status_code == 404
    assert api.get(f"{SHORT}/jobs/{job.name}/miniBatches?state=x").status_code == 400


def test_cancel_and_retry(api, blue):
    job = make_job(blue, parts=1)
    canceled = api.post(f"{ARM}/jobs/{job.name}/cancel")
    assert (canceled.status_code, canceled.json()["properties"]["status"]) == (200, "CancelRequested")
    assert api.post(f"{ARM}/jobs/{job.name}/retry").status_code == 409
    Job.objects.update(state="Failed")
    MiniBatch.objects.update(state="failed")
    assert api.post(f"{ARM}/jobs/{job.name}/cancel").status_code == 409
    again = api.post(f"{ARM}/jobs/{job.name}/retry")
    assert (again.status_code, again.json()["properties"]["status"]) == (200, "Queued")


def test_run_history_leads_the_sdk_to_logs_and_results(api, blue):
    job = make_job(blue, state="Completed")
    joblogs.note(job, "what the scheduler did")
    details = api.get(f"{HISTORY}/runs/{job.name}/details").json()
    assert (details["runId"], details["status"]) == (job.name, "Completed")
    link = details["logFiles"]["logs/azureml/executionlogs.txt"]
    plain = APIClient().get("/" + link.split("/", 3)[3])
    assert (plain.status_code, plain["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert "what the scheduler did" in plain.content.decode()
    child = api.get(f"{HISTORY}/runs/{job.name}/children").json()["value"]
    assert [(each["displayName"], each["runId"]) for each in child] == [("batchscoring", job.run_id)]
    data = api.post(f"{HISTORY}/rundata", {"runId": job.run_id, "selectRunMetadata": True}, format="json").json()
    assert (data["runMetadata"]["status"], data["runMetadata"]["outputs"]) == ("Completed", {})
    for run in ("none", str(uuid.uuid4())):
        assert api.get(f"{HISTORY}/runs/{run}/details").status_code == 404
        assert api.post(f"{HISTORY}/rundata", {"runId": run}, format="json").status_code == 404


def test_outputs_of_a_pipeline_lead_the_sdk_to_files(api, blue, workspace, people):
    job = make_job(blue, type="pipeline", state="Completed")
    place = "azureml://datastores/workspaceblobstore/paths/azureml/x/out"
    job.outputs = {
        "out": {"type": "UriFolder", "uri": place},
        "none": {"type": "UriFolder", "uri": place, "empty": True},
    }
    job.save()
    run = {"runId": job.name, "selectRunMetadata": True}
    outputs = api.post(f"{HISTORY}/rundata", run, format="json").json()["runMetadata"]["outputs"]
    name = f"azureml://jobs/{job.name}/outputs/out"
    assert outputs == {"out": {"assetId": name, "type": "uri_folder"}}
    tags = api.get(f"{ARM}/jobs").json()["value"][0]["properties"]["tags"]
    assert (tags["azureml.batchrun"], tags["azureml.jobtype"]) == ("true", "azureml.pipelinejob")
    resolve = f"/data/v1.0{ARM}/dataversion/batchGetResolvedUris"
    lead = (
        f"azureml://subscriptions/{workspace.subscription_id}/resourcegroups/{workspace.resource_group}/workspaces/lab"
    )
    found = api.post(resolve, {"values": [name]}, format="json").json()["values"]
    assert found == {name: {"uri": f"{lead}/datastores/workspaceblobstore/paths/azureml/x/out", "type": "uri_folder"}}
    for bad in (["azureml://jobs/nothing/outputs/out"], ["x"], [""], [None], "x", [name] * 101, None):
        assert api.post(resolve, {"values": bad}, format="json").status_code == 400
    Job.objects.update(state="Running")
    assert api.post(f"{HISTORY}/rundata", run, format="json").json()["runMetadata"]["outputs"] == {}
    api.force_authenticate(people["charlie"])
    assert api.post(resolve, {"values": [name]}, format="json").status_code == 404


def test_a_strangers_job_is_not_there(api, workspace, people, blue):
    job = make_job(blue)
    api.force_authenticate(people["charlie"])
    for path in (f"{SHORT}/jobs/{job.name}", f"{HISTORY}/runs/{job.name}/details", INVOKE, f"{INVOKE}/{job.name}"):
        assert api.get(path).status_code == 404
    for path in (f"{SHORT}/jobs/{job.name}".replace("lab", "other"), f"{HISTORY}/runs/{job.name}/children"):
        assert api.get(path.replace("workspaces/lab", "workspaces/other")).status_code == 404
    assert json.loads(api.get(f"{SHORT}/jobs".replace("lab", "other")).content)["value"] == []
