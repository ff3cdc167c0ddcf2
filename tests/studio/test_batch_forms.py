"""Batch endpoints, deployments, jobs, clusters and data: what their pages show and what their forms do."""

from __future__ import annotations

import io
import json

import pytest
from django.conf import settings

from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster, Job, Node
from apps.core.models import Operation
from apps.registry.models import Datastore, DataVersion
from tests.factories import make_batch_deployment, make_datastore

pytestmark = pytest.mark.django_db(transaction=True)
SCRIPT = b"def init(): pass\ndef run(mini_batch): return mini_batch\n"


def text(response):
    return " ".join(response.content.decode().split())


@pytest.fixture
def files(world, workspace):
    """Two files in the folder `in` of the default store."""
    folder = settings.HOME.artifacts / "blobs" / str(workspace.pk) / "in"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("1,2\n")
    return "azureml://datastores/workspaceblobstore/paths/in"


def asked(**values):
    """A job's form as the page sends it."""
    return {"deployment": BatchDeployment.objects.get().pk, "source": "path", **values}


def test_both_kinds_of_endpoints_are_tabs_of_one_page(world, browser):
    client = browser("rita")
    assert 'href="/w/lab/batch-endpoints"' in text(client.get("/w/lab/endpoints"))
    assert "forests</a>" in text(client.get("/w/lab/batch-endpoints"))
    assert "forests</a>" not in text(client.get("/w/lab/batch-endpoints?q=lake"))


def test_creating_a_batch_endpoint_leads_to_its_timeline(world, browser):
    answer = browser("dan").post("/w/lab/create/batch-endpoint", {"name": "lakes", "tags": "team=geo"})
    operation = Operation.objects.get(kind="batch-endpoint.create")
    assert answer.url == f"/w/lab/operations/{operation.pk}"
    assert BatchEndpoint.objects.get(name="lakes").tags == {"team": "geo"}
    again = browser("dan").post("/w/lab/create/batch-endpoint", {"name": "lakes"})
    assert again.status_code == 409
    assert again.context["form"].errors["name"]


def test_the_page_of_an_endpoint_says_how_to_use_it(world, browser):
    page = text(browser("rita").get("/w/lab/batch-endpoints/forests"))
    assert "/batch/forests/jobs" in page
    assert "Default" in page
    assert "job-1" in page
    consume = text(browser("rita").get("/w/lab/batch-endpoints/forests/consume"))
    assert "az ml batch-endpoint invoke" in consume
    assert "batch_endpoints.invoke" in consume


def test_another_deployment_becomes_the_default_one(world, browser):
    make_batch_deployment(world["workspace"], name="green", model=world["model"])
    answer = browser("dan").post("/w/lab/batch-endpoints/forests/default", {"deployment": "green"})
    assert answer.status_code == 302
    assert BatchEndpoint.objects.get().default_deployment.name == "green"


def test_a_deployment_with_a_script_is_added_and_changed(world, browser):
    client = browser("dan")
    data = {
        "name": "green",
        "code": io.BytesIO(SCRIPT),
        "scoring_script": "score.py",
        "environment": "sklearn:1",
        "mini_batch_size": 4,
        "max_retries": 1,
        "timeout_s": 60,
        "error_threshold": -1,
        "output_action": "AppendRow",
        "output_file_name": "predictions.csv",
        "cluster": Cluster.objects.get().pk,
        "instance_count": 2,
        "max_concurrency_per_instance": 1,
    }
    data["code"].name = "score.py"
    answer = client.post("/w/lab/batch-endpoints/forests/deploy", data)
    assert answer.status_code == 302, text(answer)
    made = BatchDeployment.objects.get(name="green")
    assert (made.timeout_ms, made.mini_batch_size, made.scoring_script) == (60_000, 4, "score.py")
    Operation.objects.filter(state="queued").update(state="succeeded")
    change = {**data, "mini_batch_size": 8}
    change.pop("code")
    assert client.post("/w/lab/batch-endpoints/forests/deployments/green/edit", change).status_code == 302
    made.refresh_from_db()
    assert made.mini_batch_size == 8
    assert made.code is not None


def test_a_problem_of_the_domain_is_shown_at_its_field(world, browser):
    data = {
        "name": "green",
        "model": "iris:1",
        "mini_batch_size": 4,
        "max_retries": 1,
        "timeout_s": 60,
        "error_threshold": -1,
        "output_action": "AppendRow",
        "output_file_name": "predictions.csv",
        "cluster": Cluster.objects.get().pk,
        "instance_count": 50,
        "max_concurrency_per_instance": 1,
    }
    answer = browser("dan").post("/w/lab/batch-endpoints/forests/deploy", data)
    assert answer.status_code == 400
    assert "has at most 2 nodes" in str(answer.context["form"].errors["instance_count"])


def test_a_job_of_a_folder_with_settings_of_its_own(world, browser, files):
    given = asked(path=files, mini_batch_size=1, timeout_s=7, error_threshold=0, display_name="May")
    answer = browser("dan").post("/w/lab/create/job", given)
    job = Job.objects.get(display_name="May")
    assert answer.url == f"/w/lab/jobs/{job.name}"
    assert job.inputs == {"data": {"type": "UriFolder", "uri": files}}
    assert (job.settings["mini_batch_size"], job.settings["timeout_ms"], job.settings["error_threshold"]) == (
        1,
        7000,
        0,
    )
    assert job.created_by.username == "dan"


def test_a_job_of_files_that_are_sent_keeps_them_as_a_data_asset(world, browser):
    sent = io.BytesIO(b"1,2\n")
    sent.name = "rows.csv"
    answer = browser("dan").post("/w/lab/create/job", asked(source="upload", upload=sent))
    assert answer.status_code == 302, text(answer)
    version = DataVersion.objects.get(asset__name="forests-input")
    job = Job.objects.exclude(name="job-1").get()
    assert job.inputs["data"]["uri"] == f"azureml:{version}"


def test_a_wrong_address_is_said_at_the_field_and_nothing_typed_is_lost(world, browser, files):
    given = asked(path=f"{files}/nowhere", display_name="kept")
    answer = browser("dan").post("/w/lab/create/job", given)
    assert answer.status_code == 400
    assert "The input does not exist" in str(answer.context["form"].errors["path"])
    assert 'value="kept"' in text(answer)
    assert Job.objects.count() == 1


def test_the_form_reads_as_code(world, browser, files):
    answer = browser("dan").post("/w/lab/create/job", asked(path=files, mini_batch_size=3), headers={"X-As-Code": "1"})
    told = answer.json()
    assert "az ml batch-endpoint invoke" in told["cli"]
    assert "--mini-batch-size 3" in told["cli"]
    assert files in told["yaml"]
    assert "azureml-model-deployment: blue" in told["curl"]
    assert Job.objects.count() == 1


def test_a_clone_begins_with_what_the_job_had(world, browser):
    form = browser("dan").get("/w/lab/create/job?from=job-1").context["form"]
    assert form.initial["path"] == "azureml://datastores/workspaceblobstore/paths/in"
    assert form.initial["mini_batch_size"] == 1
    assert form.initial["deployment"] == BatchDeployment.objects.get().pk


def test_a_clone_whose_deployment_is_gone_chooses_no_other(world, browser):
    Job.objects.update(deployment=None)
    form = browser("dan").get("/w/lab/create/job?from=job-1").context["form"]
    assert form.initial["deployment"] is None
    assert form.initial["path"] == "azureml://datastores/workspaceblobstore/paths/in"


def test_nothing_of_another_workspace_can_be_named(world, browser, files):
    client = browser("charlie")
    answer = client.post("/w/other/create/job", asked(path=files))
    assert answer.status_code == 400
    assert "deployment" in answer.context["form"].errors
    assert client.get("/w/other/create/job?from=job-1").context["form"].initial.get("path") == ""


def test_places_are_suggested_while_one_types(world, browser, files):
    client = browser("rita")

    def found(query):
        return [each["value"] for each in client.get("/w/lab/pick/places", {"q": query}).json()["found"]]

    assert "azureml:tiles:1" in found("til")
    assert "azureml://datastores/workspaceblobstore/paths/" in found("azureml://datastores/")
    assert f"{files}/" in found("azureml://datastores/workspaceblobstore/paths/")
    assert found(f"{files}/a") == [f"{files}/a.csv"]
    assert found("azureml://datastores/workspaceblobstore/paths/../x") == []


def test_a_cluster_shows_nodes_queue_and_why_it_waits(world, browser):
    cluster = Cluster.objects.get()
    Cluster.objects.update(waiting={"message": "No worker host has room.", "next": "Start one.", "azure": "OutOfQuota"})
    Node.objects.create(cluster=cluster, name="cpu-7", state="preparing", cpu_milli=1000, mem_bytes=2**30)
    page = text(browser("rita").get("/w/lab/clusters/cpu"))
    for words in ("No worker host has room.", "cpu-7", "job-1", "forests/blue"):
        assert words in page
    assert "Preempt" not in page  # a dedicated one
    assert "Waiting for room" in text(browser("rita").get("/w/lab/clusters"))


def test_clusters_are_made_changed_and_their_nodes_preempted_by_contributors(world, browser):
    client = browser("carl")
    data = {
        "name": "spare",
        "instance_type": "small",
        "tier": "LowPriority",
        "min_nodes": 0,
        "max_nodes": 3,
        "idle_s": 60,
    }
    assert client.post("/w/lab/create/cluster", data).status_code == 302
    made = Cluster.objects.get(name="spare")
    node = Node.objects.create(cluster=made, name="spare-1", state="idle", cpu_milli=1000, mem_bytes=2**30, host="h")
    assert client.post("/w/lab/clusters/spare/nodes/spare-1/preempt").status_code == 302
    node.refresh_from_db()
    assert node.state == "preempted"
    assert browser("dan").post("/w/lab/clusters/spare/nodes/spare-1/preempt").status_code == 403
    Operation.objects.filter(state="queued").update(state="succeeded")
    wrong = client.post("/w/lab/clusters/spare/edit", {**data, "min_nodes": 5})
    assert wrong.status_code == 400
    assert "min_nodes" in wrong.context["form"].errors
    assert client.post("/w/lab/clusters/cpu/delete", {"name": "cpu"}).status_code == 409  # in use


def test_data_is_registered_by_address_and_by_files(world, browser, files):
    client = browser("dan")
    form = {"name": "rows", "type": "uri_folder", "source": "path", "path": files}
    assert client.post("/w/lab/create/data", form).url == "/w/lab/data/rows"
    page = text(client.get("/w/lab/data/rows?path=a.csv"))
    assert "<td>1</td>" in page
    sent = io.BytesIO(b"x")
    sent.name = "x.txt"
    form = {"name": "sent", "type": "uri_folder", "source": "upload", "upload": sent}
    assert client.post("/w/lab/create/data", form).url == "/w/lab/data/sent"
    assert "x.txt" in text(client.get("/w/lab/data/sent"))


def test_secrets_of_a_datastore_are_written_and_never_shown(world, browser):
    client = browser("dan")
    form = {
        "name": "lake",
        "type": "S3",
        "bucket_name": "tiles",
        "endpoint": "https://s3.example.com",
        "access_key_id": "AKIA",
        "key": "top-secret",
    }
    told = client.post("/w/lab/create/datastore", form, headers={"X-As-Code": "1"}).json()
    assert all("top-secret" not in each for each in told.values())
    refused = client.post("/w/lab/create/datastore", {**form, "bucket_name": "No!"})
    assert refused.status_code == 400
    assert "bucket_name" in refused.context["form"].errors
    assert b"top-secret" not in refused.content
    assert client.post("/w/lab/create/datastore", form).url == "/w/lab/datastores/lake"
    store = Datastore.objects.get(name="lake")
    assert "top-secret" in store.credentials
    assert "top-secret" not in text(client.get("/w/lab/datastores"))
    assert client.post("/w/lab/create/datastore", form).status_code == 409
    assert client.post("/w/lab/datastores/lake/delete").status_code == 302


def test_a_datastore_is_described_and_its_secrets_stay_go_or_are_replaced(world, browser):
    client = browser("dan")
    address = "/w/lab/datastores/bay/edit"
    page = text(client.get(address))
    assert "tiles" in page
    assert "never-shown" not in page
    form = {"choice": "keep", "description": "of the bay", "tags": "team=geo", "access_key_id": "AKIA"}
    told = client.post(address, form, headers={"X-As-Code": "1"}).json()
    assert '"credentialsType": "AccountKey"' in told["curl"]
    assert all("never-shown" not in each for each in told.values())
    assert client.post(address, form).url == "/w/lab/datastores/bay"
    store = Datastore.objects.get(name="bay")
    assert (store.description, store.tags, store.settings["bucketName"]) == ("of the bay", {"team": "geo"}, "tiles")
    assert "never-shown" in store.credentials
    empty = client.post(address, {**form, "choice": "replace"})
    assert (empty.status_code, list(empty.context["form"].errors)) == (400, ["key"])
    half = client.post(address, {**form, "choice": "replace", "access_key_id": "", "key": "fresh"})
    assert (half.status_code, list(half.context["form"].errors)) == (400, ["key"])
    assert b"fresh" not in half.content
    client.post(address, {**form, "choice": "replace", "access_key_id": "NEW", "key": "fresh"})
    store.refresh_from_db()
    assert json.loads(store.credentials) == {"credentialsType": "AccountKey", "accessKeyId": "NEW", "key": "fresh"}
    client.post(address, {**form, "choice": "none"})
    store.refresh_from_db()
    assert store.credentials is None


def test_the_default_datastore_cannot_be_edited(world, browser):
    client = browser("dan")
    client.get("/w/lab/datastores")
    assert client.get("/w/lab/datastores/workspaceblobstore/edit").status_code == 409
    assert "/edit" not in text(client.get("/w/lab/datastores/workspaceblobstore"))


def test_a_folder_of_this_machine_has_no_secrets_to_change(world, browser, tmp_path):
    make_datastore(world["workspace"], "disk", type="Local", settings={"root": str(tmp_path)}, credentials=None)
    page = browser("dan").get("/w/lab/datastores/disk/edit")
    assert set(page.context["form"].fields) == {"description", "tags"}
    refused = browser("dan").post("/w/lab/datastores/disk/edit", {"description": "x"})
    assert refused.status_code == 400  # only an administrator may name folders


def test_the_palette_knows_batch_things(world, browser):
    found = {each["title"] for each in browser("dan").get("/w/lab/find?q=fore").json()["found"]}
    assert "forests" in found
    titles = {each["title"] for each in browser("dan").get("/w/lab/find?q=job").json()["found"]}
    assert {"Jobs", "Create a job", "job-1"} <= titles
