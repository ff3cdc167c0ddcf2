"""Logs, results and the stream of a job: bounded, harmless, and nobody else's."""

from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core import signing
from django.test import AsyncClient, Client
from rest_framework.test import APIClient

from apps.accounts.domain import create_token
from apps.accounts.models import Membership, Workspace
from apps.api import artifacts, history, job_files
from apps.api.job_files import Follower
from apps.batch.engine import joblogs
from apps.batch.models import Job
from apps.registry import locations
from tests.api.batch_bodies import SHORT
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_job

pytestmark = pytest.mark.django_db(transaction=True)
JOB = f"{SHORT}/jobs/job-1"


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["rita"])
    return client


@pytest.fixture
def job(workspace):
    return make_job(make_batch_deployment(make_batch_endpoint(workspace)), parts=2)


@pytest.fixture
def results(job):
    path = locations.resolve(job.outputs["score"]["uri"], workspace=job.workspace, actor=None).local_path()
    path.mkdir(parents=True)
    (path / "predictions.csv").write_text("1\n2\n")
    return path


def whole(answer):
    async def read():
        return b"".join([part async for part in answer.streaming_content])

    return async_to_sync(read)()


def test_the_logs_tree_and_its_tail(api, job):
    joblogs.append(job, joblogs.MASTER, ["one", "zwei ü"])
    joblogs.append(job, "logs/user/stdout/n1/process0.stdout.txt", ["<script>"])
    listed = api.get(f"{JOB}/logs").json()["value"]
    assert [each["name"] for each in listed] == [joblogs.MASTER, "logs/user/stdout/n1/process0.stdout.txt"]
    first = api.get(f"{JOB}/logs/{joblogs.MASTER}")
    assert first.content.decode() == "one\nzwei ü\n"
    assert (first["Content-Type"], first["X-Content-Type-Options"]) == ("text/plain; charset=utf-8", "nosniff")
    joblogs.append(job, joblogs.MASTER, ["three"])
    assert api.get(f"{JOB}/logs/{joblogs.MASTER}?after={first['x-portway-next']}").content == b"three\n"
    assert api.get(f"{JOB}/logs/{joblogs.MASTER}?after={10**11}").content == b""
    for wrong in ("logs/none.txt", "logs/../../../secrets", "../x", "%2e%2e/%2e%2e/x"):
        assert api.get(f"{JOB}/logs/{wrong}").status_code == 404
    assert api.get(f"{JOB}/logs/{joblogs.MASTER}?after=-1").status_code == 400


def test_results_are_listed_and_downloaded(api, job, results):
    listed = api.get(f"{JOB}/outputs/score").json()
    assert listed["value"] == [{"path": "predictions.csv", "size": 4}]
    sent = api.get(f"{JOB}/outputs/score/predictions.csv")
    assert whole(sent) == b"1\n2\n"
    assert sent["Content-Disposition"] == 'attachment; filename="predictions.csv"'
    assert (sent["X-Content-Type-Options"], sent["Content-Length"]) == ("nosniff", "4")
    assert api.get(f"{JOB}/outputs/none").status_code == 404


def test_a_download_stays_in_its_output(api, job, results):
    outside = results.parent / "secret.txt"
    outside.write_text("secret")
    (results / "link").symlink_to(outside)
    for path in ("link", "../secret.txt", "%2e%2e/secret.txt", "none", "/etc/passwd", "."):
        assert api.get(f"{JOB}/outputs/score/{path}").status_code == 404


def test_an_output_that_is_not_there_yet_is_empty(api, job):
    assert api.get(f"{JOB}/outputs/score").json()["value"] == []


def test_the_stream_tells_progress_lines_and_the_end(api, job):
    joblogs.append(job, joblogs.MASTER, ["begun"])
    follower = Follower(job)
    first = "".join(follower.look())
    assert 'event: log\ndata: {"name": "logs/sys/master_role.txt", "line": "begun"}' in first
    assert '"miniBatches": "2"' in first
    assert follower.look() == []
    Job.objects.update(done=1)
    assert "event: progress" in "".join(follower.look())
    joblogs.append(job, joblogs.MASTER, ["more"])
    again = "".join(Follower(job, last="6-0").look())
    assert ('"more"' in again, '"begun"' in again) == (True, False)
    assert '"begun"' in "".join(Follower(job, last="6-x").look())
    Job.objects.update(state="Completed")
    answer = api.get(f"{JOB}/stream", headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    text = whole(answer).decode()
    assert text.endswith('event: end\ndata: {"status": "Completed", "error": null}\n\n')
    Job.objects.all().delete()
    assert "Deleted" in follower.look()[0]


def test_a_stream_goes_on_until_the_job_ends(job, people, monkeypatch):
    monkeypatch.setattr(job_files, "POLL_S", 0.05)
    headers = {"authorization": f"Bearer {create_token(user=people['rita'], name='t')[1]}"}

    async def follow():
        answer = await AsyncClient().get(f"{JOB}/stream", headers=headers)
        found = []
        async for part in answer.streaming_content:
            found.append(part.decode())
            assert Follower.open == 1
            if len(found) == 1:
                await sync_to_async(Job.objects.update)(state="Failed", error={"message": "no"})
        return found

    first, last = async_to_sync(follow)()
    assert '"status": "Running"' in first
    assert last.endswith('event: end\ndata: {"status": "Failed", "error": {"message": "no"}}\n\n')
    assert Follower.open == 0


def test_there_is_an_end_to_streams(api, job, monkeypatch):
    monkeypatch.setattr(Follower, "open", job_files.MOST_STREAMS)
    assert api.get(f"{JOB}/stream").status_code == 503
    monkeypatch.setattr(Follower, "open", 0)
    monkeypatch.setattr(job_files, "MOST_STREAM_S", -1)
    text = whole(api.get(f"{JOB}/stream")).decode()
    assert ("event: progress" in text, "event: end" in text) == (True, False)


def test_a_link_to_a_log_is_signed_expires_and_opens_nothing_else(job, monkeypatch):
    joblogs.append(job, joblogs.MASTER, ["one"])
    client = APIClient()
    given = {"job": str(job.pk), "log": joblogs.MASTER}
    good = signing.dumps(given, salt=history.SALT)
    assert client.get(f"/joblogs/{good}").content == b"one\n"
    for wrong in (good[:-2], signing.dumps(given, salt="other"), "x"):
        assert client.get(f"/joblogs/{wrong}").status_code == 404
    away = signing.dumps({**given, "log": "logs/../../x"}, salt=history.SALT)
    assert client.get(f"/joblogs/{away}").status_code == 404
    monkeypatch.setattr(history, "LINK_S", -1)
    assert client.get(f"/joblogs/{good}").status_code == 404
    monkeypatch.undo()
    Job.objects.all().delete()
    assert client.get(f"/joblogs/{good}").status_code == 404


def test_logs_are_blobs_that_only_readers_of_the_workspace_fetch(api, job, people):
    joblogs.note(job, "hello")
    stranger = APIClient()
    stranger.force_authenticate(people["charlie"])
    stores = f"{SHORT}/datastores/{artifacts.STORE}"
    container = api.get(stores).json()["properties"]["containerName"]
    token = api.post(f"{stores}/listSecrets", {}, format="json").json()["sasToken"]
    assert stranger.get(stores).status_code == 404
    base, folder = f"/storage.blob.portway.local/{container}", f"ExperimentRun/dcid.{job.name}/"
    client = Client(raise_request_exception=False)

    def listed(prefix, **more):
        query = urlencode({"restype": "container", "comp": "list", "prefix": prefix, **more})
        answer = client.get(f"{base}?{query}&{token}")
        assert answer.status_code == 200
        return [each.text for each in ET.fromstring(answer.content).iter("Name")]

    names = listed(folder)
    assert {f"{folder}{artifacts.EXECUTION}", f"{folder}{joblogs.MASTER}"} <= set(names)
    assert listed(folder, maxresults=1) == names[:1]
    assert listed(folder, marker=names[0]) == names[1:]
    assert listed("") == listed("ExperimentRun/dcid.nothing/") == listed(f"{folder}nothing") == []
    fetched = client.get(f"{base}/{folder}{artifacts.EXECUTION}?{token}")
    assert b"hello" in whole(fetched)
    assert fetched.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert client.head(f"{base}/{folder}{joblogs.MASTER}?{token}").status_code == 200
    for name in ("nothing", "../score/predictions.csv", "logs/../../score/predictions.csv", "logs"):
        assert client.get(f"{base}/{folder}{name}?{token}").status_code == 404, name
    assert client.put(f"{base}/{folder}x?{token}", b"x", content_type="text/plain").status_code in {403, 405}
    assert client.get(f"{base}/{folder}{joblogs.MASTER}").status_code == 403
    other = Workspace.objects.get(name="other")
    assert client.get(f"{base.replace(str(job.workspace.pk), str(other.pk))}?comp=list&{token}").status_code == 403
    Membership.objects.filter(user=people["rita"]).delete()
    assert client.get(f"{base}/{folder}{joblogs.MASTER}?{token}").status_code == 403


def test_a_log_that_goes_while_it_is_asked_for_is_not_there(api, job, tmp_path, monkeypatch):
    joblogs.note(job, "hello")
    stores = f"{SHORT}/datastores/{artifacts.STORE}"
    container = api.get(stores).json()["properties"]["containerName"]
    token = api.post(f"{stores}/listSecrets", {}, format="json").json()["sasToken"]
    blob = f"/storage.blob.portway.local/{container}/ExperimentRun/dcid.{job.name}/{joblogs.MASTER}?{token}"
    client = Client(raise_request_exception=False)
    assert client.head(blob).status_code == 200
    monkeypatch.setattr(joblogs, "path_of", lambda *_: tmp_path / "swept")
    assert [client.head(blob).status_code, client.get(blob).status_code] == [404, 404]
