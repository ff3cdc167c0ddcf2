"""`portway job`, `batch-endpoint` and `compute` through the real gateway, on the test's own database."""

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.conf import settings
from django.utils import timezone

from apps.accounts.domain import create_token
from apps.batch.engine import joblogs
from apps.batch.models import Job, Schedule
from apps.registry import locations
from cli import jobs
from cli.client import Client, RefusedError
from cli.main import main
from cli.up import UpError
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_job
from tests.mlflow_parts import web

# the web of these tests is WSGI; the real one sends streams as they come
pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
DATA = "azureml://datastores/workspaceblobstore/paths/in"
SCHEDULE = f"""
properties:
  displayName: Scores
  description: of the forests
  tags: {{team: geo}}
  trigger: {{triggerType: Cron, expression: 30 2 * * *, timeZone: Europe/Berlin}}
  action:
    actionType: InvokeBatchEndpoint
    endpointInvocationDefinition:
      batchEndpoint: forests
      properties:
        inputData: {{data: {{jobInputType: UriFolder, uri: "{DATA}"}}}}
"""


@pytest.fixture
def job(transactional_db, envoy_process, people, workspace, monkeypatch):
    monkeypatch.setenv("PORTWAY_URL", f"https://localhost:{settings.PORT}")
    monkeypatch.setenv("PORTWAY_TOKEN", create_token(user=people["dan"], name="cli")[1])
    monkeypatch.setenv("PORTWAY_CA", str(settings.HOME.ca))
    made = make_job(make_batch_deployment(make_batch_endpoint(workspace)), parts=4, done=3, failed=1, state="Completed")
    joblogs.append(made, joblogs.MASTER, ["begun", "ended"])
    with web():
        yield made


def place(job, uri):
    path = locations.resolve(uri, workspace=job.workspace, actor=None).local_path()
    path.mkdir(parents=True, exist_ok=True)
    return path


def run(*words):
    return main([*words, "-w", "lab"])


def test_jobs_are_listed_shown_and_followed(job, capsys):
    assert run("job", "list", "--status", "Completed") == 0
    assert capsys.readouterr().out.split() == ["job-1", "Completed", "3/4", "forests"]
    assert run("job", "show", "job-1") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "job-1"
    assert run("job", "stream", "job-1") == 0
    assert capsys.readouterr().out.splitlines() == ["begun", "ended", "-- Completed"]
    assert run("job", "logs", "job-1") == 0
    assert joblogs.MASTER in capsys.readouterr().out
    assert run("job", "logs", "job-1", joblogs.MASTER) == 0
    assert capsys.readouterr().out == "begun\nended\n"


def test_a_failed_job_is_exit_code_1_with_its_reason(job, capsys):
    Job.objects.update(state="Failed", error={"message": "It had no chance.", "code": "x", "azure": "X"})
    assert run("job", "stream", "job-1") == 1
    assert "It had no chance." in capsys.readouterr().err
    assert run("job", "cancel", "job-1") == 1
    assert "nothing to cancel" in capsys.readouterr().err
    assert run("job", "show", "none") == 1
    assert run("job", "retry", "job-1") == 0
    assert capsys.readouterr().out.strip() == "job-1 Queued"
    assert run("job", "cancel", "job-1") == 0


def test_results_are_downloaded(job, capsys, tmp_path):
    assert run("job", "download", "job-1") == 1
    assert "no files" in capsys.readouterr().err
    folder = place(job, job.outputs["score"]["uri"])
    (folder / "predictions.csv").write_text("1\n")
    assert run("job", "download", "job-1", "-p", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "predictions.csv").read_text() == "1\n"


def test_a_job_is_submitted_with_its_settings(job, capsys):
    (place(job, DATA) / "a.csv").write_text("1\n")
    words = ["batch-endpoint", "invoke", "-n", "forests", "-d", "blue", "--input", DATA]
    more = ["--set", "mini_batch_size=5", "--set", "retry_settings.max_retries=1", "--set", "output_file_name=x.csv"]
    assert run(*words, *more) == 0
    made = Job.objects.get(name=capsys.readouterr().out.strip())
    assert [made.settings[name] for name in ("mini_batch_size", "max_retries", "output_file_name")] == [5, 1, "x.csv"]
    assert run(*words[:5], "green", *words[6:]) == 1
    assert "this endpoint has blue" in capsys.readouterr().err
    assert run(*words, "--set", "nothing") == 1
    assert run(*words, "--set", "a=1", "--set", "a.b=1") == 1


def test_clusters_are_listed_and_shown(job, capsys):
    assert run("compute", "list") == 0
    assert capsys.readouterr().out.split()[:3] == ["cpu", "small", "Dedicated"]
    assert run("compute", "show", "cpu") == 0
    assert json.loads(capsys.readouterr().out)["properties"]["computeType"] == "AmlCompute"


class Parts(BaseHTTPRequestHandler):
    """A server whose first stream ends before the job does."""

    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.headers.get("Last-Event-ID", ""))
        counts = {"done": "1", "failed": "0", "miniBatches": "2", "status": "Running"}
        first = [("5-0", "log", {"line": "one"}), ("5-0", "progress", counts)]
        last = [("9-0", "log", {"line": "two"}), ("9-0", "end", {"status": "Completed", "error": None})]
        body = "".join(
            f": still there\n\nid: {each}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
            for each, kind, data in (last if len(self.asked) > 1 else first)
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


def test_a_stream_that_breaks_is_taken_up_where_it_was(monkeypatch):
    monkeypatch.setattr(jobs, "AGAIN_S", 0)
    Parts.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Parts) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = Client(f"http://127.0.0.1:{server.server_port}", "t", _bearer="t")
        said = []
        assert jobs.stream(client, "/job", said.append) == 0
        server.shutdown()
    assert (said, Parts.asked) == (["one", "-- Running", "two"], ["", "5-0"])


def test_the_bar():
    assert (
        jobs.bar({"done": "2", "failed": "1", "miniBatches": "6"})
        == f"[{'#' * 15}{'.' * 15}] 3 of 6 mini-batches, 1 failed"
    )
    assert jobs.bar({"done": "0", "failed": "0", "miniBatches": "0"}).startswith("[...")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b"])
def test_a_server_cannot_write_outside_of_the_folder(path):
    with pytest.raises(UpError, match="outside of its output"):
        jobs._inside(path)


def test_an_end_that_is_no_success_raises():
    with pytest.raises(RefusedError, match="canceled"):
        jobs.Progress(print).end({"status": "Canceled", "error": None})


def test_schedules_are_listed_and_switched(job, capsys):
    row = Schedule.objects.create(workspace=job.workspace, name="nightly", endpoint=job.endpoint, cron="0 3 * * *")
    assert run("schedule", "list") == 0
    assert capsys.readouterr().out.startswith("nightly ")
    for verb, enabled in (("disable", False), ("enable", True)):
        assert run("schedule", verb, "nightly") == 0
        assert capsys.readouterr().out == f"nightly {verb}d\n"
        row.refresh_from_db()
        assert (row.enabled, row.next_at is not None, row.modified_by.username) == (enabled, enabled, "dan")
    assert run("schedule", "show", "nightly") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "nightly"
    assert run("schedule", "show", "none") == 1


def test_a_schedule_that_has_ended_is_listed_as_such_and_can_be_changed(job, capsys):
    past = timezone.now().replace(microsecond=0) - timedelta(days=1)
    values = {"workspace": job.workspace, "endpoint": job.endpoint, "cron": "0 3 * * *"}
    row = Schedule.objects.create(name="nightly", ends_at=past, **values)
    assert run("schedule", "list") == 0
    assert capsys.readouterr().out.split()[-1] == "ended"
    assert run("schedule", "update", "nightly", "--description", "over") == 0
    row.refresh_from_db()
    assert (row.description, row.ends_at, row.ended) == ("over", past, True)


def test_schedules_are_saved_from_files_and_changed(job, capsys, tmp_path):
    file = tmp_path / "schedule.yml"
    file.write_text(SCHEDULE)
    assert run("schedule", "create", "nightly", "--file", str(file)) == 0
    row = Schedule.objects.get()
    assert (row.display_name, row.tags, row.cron) == ("Scores", {"team": "geo"}, "30 2 * * *")
    words = (
        "--display-name",
        "Night",
        "--tag",
        "team=",
        "--tag",
        "cost=7",
        "--cron",
        "0 4 * * *",
        "--time-zone",
        "UTC",
    )
    assert run("schedule", "update", "nightly", *words) == 0
    row.refresh_from_db()
    assert (row.display_name, row.tags, row.cron, row.time_zone) == ("Night", {"cost": "7"}, "0 4 * * *", "UTC")
    assert (row.description, row.body["inputs"]["data"]["uri"]) == ("of the forests", DATA)
    capsys.readouterr()
    assert run("schedule", "list") == 0
    assert capsys.readouterr().out.strip().endswith("Night")
    assert run("schedule", "update", "nightly", "--tag", "team") == 1
    file.write_text("a: [")
    assert run("schedule", "create", "nightly", "--file", str(file)) == 1
    assert run("schedule", "create", "nightly", "--file", str(tmp_path / "none")) == 1
