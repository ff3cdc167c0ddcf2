"""Jobs in the studio: the list, the page of one with its mini-batches, its logs and what it wrote."""

from __future__ import annotations

import gzip
import shutil

import pytest
from django.conf import settings
from django.test.utils import CaptureQueriesContext

from apps.batch.engine import joblogs
from apps.batch.enums import JobState, MiniBatchState
from apps.batch.models import Job, Node
from apps.core.models import AuditRecord
from tests.factories import make_batch_deployment, make_job

pytestmark = pytest.mark.django_db(transaction=True)
HOSTILE = "<script>alert(1)</script>"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f0005000183a5f7d8"
    "0000000049454e44ae426082"
)


def text(response):
    return " ".join(response.content.decode().split())


def body(response):
    return b"".join(response.streaming_content)


@pytest.fixture
def job(world):
    return world["job"]


@pytest.fixture
def outputs(job, workspace):
    """The folder that the made-up job has written to."""
    folder = settings.HOME.artifacts / "blobs" / str(workspace.pk) / "out" / "job-1"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder.parent)


def test_the_list_is_narrowed_by_state_type_endpoint_and_words(world, browser):
    other = make_batch_deployment(world["workspace"], "lakes", "blue", model=world["model"])
    make_job(other, "wet", states="dd", display_name="Lakes of May")
    client = browser("dan")
    for query, shown in {
        "": {"job-1", "Lakes of May"},
        "?state=Completed": {"Lakes of May"},
        "?endpoint=forests": {"job-1"},
        "?q=lakes": {"Lakes of May"},
        "?type=pipeline": set(),
        "?archived=on": set(),
    }.items():
        page = text(client.get(f"/w/lab/jobs{query}"))
        found = {name for name in ("job-1", "Lakes of May") if f"{name}</a>" in page}
        assert found == shown, query


def test_steps_of_a_pipeline_are_on_its_own_page(world, browser, job):
    parent = Job.objects.create(workspace=world["workspace"], name="flow", type="pipeline", state="Running")
    Job.objects.filter(pk=job.pk).update(parent=parent, step="score")
    client = browser("dan")
    assert "job-1" not in text(client.get("/w/lab/jobs"))
    page = text(client.get("/w/lab/jobs/flow"))
    assert "score</a>" in page
    assert "5 / 7" not in page  # done only
    assert "4 / 7" in page


def test_the_page_says_how_far_it_is_and_what_each_node_does(world, browser, job):
    Node.objects.create(cluster=job.cluster, name="cpu-0", state="running", job=job, cpu_milli=1000, mem_bytes=2**30)
    page = text(browser("dan").get("/w/lab/jobs/job-1"))
    assert "/ 7 · 71 %" in page
    assert "bad pixel" in page
    assert "cpu-0" in page
    assert "Retry only the failed" not in page  # it runs
    assert "/w/lab/jobs/job-1/cancel" in page


def test_what_nodes_hold_is_not_all_worked_on(world, browser):
    """Two processes of the node that has three mini-batches work on two of them at most."""
    make_job(world["job"].deployment, "ahead", states="rqrqr")
    page = text(browser("dan").get("/w/lab/jobs/ahead"))
    assert '<dt>With nodes</dt><dd>3 <span class="meta">at most 2 worked on</span></dd>' in page
    assert 'data-r="With nodes"' in page
    make_job(world["job"].deployment, "over", states="ddf")
    assert "<dt>With nodes</dt>" not in text(browser("dan").get("/w/lab/jobs/over"))


def test_a_reader_can_look_but_not_cancel(world, browser):
    page = text(browser("rita").get("/w/lab/jobs/job-1"))
    assert 'disabled title="Your role does not allow this"' in page


def test_the_map_is_one_letter_for_each_mini_batch(world, browser):
    answer = browser("dan").get("/w/lab/jobs/job-1/map", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(answer.content) == b"dddfdrq"
    assert browser("dan").get("/w/lab/jobs/job-1/map").content == b"dddfdrq"


def test_a_hundred_thousand_mini_batches_are_one_query_and_few_bytes(world, browser):
    from django.db import connection

    big = "".join("f" if number % 977 == 0 else "d" for number in range(100_000))
    make_job(world["job"].deployment, "big", states=big)
    client = browser("dan")
    with CaptureQueriesContext(connection) as asked:
        answer = client.get("/w/lab/jobs/big/map", headers={"Accept-Encoding": "gzip"})
    assert len(answer.content) < 100_000
    assert gzip.decompress(answer.content).decode() == big
    assert sum("batch_minibatch" in each["sql"] for each in asked) == 1
    assert client.get("/w/lab/jobs/big").status_code == 200


def test_pages_ask_as_often_for_many_jobs_as_for_one(world, browser, django_assert_num_queries):
    from django.db import connection

    client = browser("dan")
    counts = {
        "jobs": 8,
        "jobs/job-1": 10,
        "jobs/job-1/mini-batches": 8,
        "batch-endpoints/forests": 8,
        "clusters/cpu": 10,
    }
    for page, expected in counts.items():
        client.get(f"/w/lab/{page}")
        with CaptureQueriesContext(connection) as single:
            assert client.get(f"/w/lab/{page}").status_code == 200
        assert len(single) == expected, (page, len(single))
    make_job(world["job"].deployment, "two")
    make_job(world["job"].deployment, "three")
    for page, expected in counts.items():
        with django_assert_num_queries(expected):
            client.get(f"/w/lab/{page}")


def test_a_mini_batch_shows_files_error_trace_and_log(world, browser, job):
    joblogs.append(job, "logs/user/stderr/cpu-1/process0.stderr.txt", [f"look: {HOSTILE}\x1b[31m red"])
    page = text(browser("rita").get("/w/lab/jobs/job-1/mini-batches/3"))
    for words in ("scan-000003.png", "bad pixel", "score.py:7", "Traceback", "look:", "cpu-1"):
        assert words in page
    assert HOSTILE not in page
    assert "\x1b" not in page
    assert browser("rita").get("/w/lab/jobs/job-1/mini-batches/99").status_code == 404


def test_the_table_filters_failed_ones(world, browser):
    page = text(browser("dan").get("/w/lab/jobs/job-1/mini-batches?state=failed"))
    assert 'id="batch-3"' in page
    assert 'id="batch-2"' not in page


def test_cancel_retry_and_archive(world, browser, job):
    client = browser("dan")
    assert client.post("/w/lab/jobs/job-1/cancel").url == "/w/lab/jobs/job-1"
    job.refresh_from_db()
    assert job.state == JobState.CANCEL_REQUESTED
    assert client.post("/w/lab/jobs/job-1/retry").status_code == 409
    Job.objects.filter(pk=job.pk).update(state=JobState.COMPLETED)
    assert "Retry only the failed" in text(client.get("/w/lab/jobs/job-1"))
    assert client.post("/w/lab/jobs/job-1/retry").status_code == 302
    job.refresh_from_db()
    assert job.state == JobState.QUEUED
    assert not job.mini_batches.filter(state=MiniBatchState.FAILED).exists()
    assert job.mini_batches.filter(state=MiniBatchState.DONE).count() == 4
    assert client.post("/w/lab/jobs/job-1/archive").status_code == 409
    Job.objects.filter(pk=job.pk).update(state=JobState.COMPLETED)
    assert client.post("/w/lab/jobs/job-1/archive").status_code == 302
    assert "job-1" in text(client.get("/w/lab/jobs?archived=on"))
    assert AuditRecord.objects.filter(action="job.retry", target="job/job-1").exists()


def test_logs_are_a_tree_with_search_and_download(world, browser, job):
    joblogs.note(job, "7 files")
    joblogs.append(job, "logs/user/stdout/cpu-0/process0.stdout.txt", ["one", f"two {HOSTILE}", "three"])
    client = browser("rita")
    page = text(client.get("/w/lab/jobs/job-1/logs"))
    assert "master_role.txt" in page
    assert "7 files" in page
    file = "logs/user/stdout/cpu-0/process0.stdout.txt"
    found = text(client.get("/w/lab/jobs/job-1/logs", {"file": file, "q": "TWO"}))
    assert "<mark>two</mark>" in found
    assert HOSTILE not in found
    assert b"three" in body(client.get("/w/lab/jobs/job-1/logs/download", {"file": file}))


def test_a_long_log_says_that_this_is_its_end(world, browser, job):
    file = "logs/user/stdout/cpu-0/process0.stdout.txt"
    joblogs.append(job, file, [f"line {number}" for number in range(500)])
    client = browser("rita")
    whole = text(client.get("/w/lab/jobs/job-1/logs", {"file": file}))
    assert "line 0" in whole
    assert "The end of the file" not in whole
    joblogs.append(job, file, ["one more"])
    end = text(client.get("/w/lab/jobs/job-1/logs", {"file": file}))
    assert "line 0\n" not in end
    assert "The end of the file" in end


@pytest.mark.parametrize("file", ["logs/../../secrets.toml", "/etc/passwd", "logs/sys", "..", "logs/nothing.txt"])
def test_nothing_outside_of_the_tree_can_be_named(file, world, browser, job):
    joblogs.note(job, "x")
    client = browser("rita")
    assert client.get("/w/lab/jobs/job-1/logs", {"file": file}).status_code == 404
    assert client.get("/w/lab/jobs/job-1/logs/download", {"file": file}).status_code == 404


def test_outputs_are_tables_pictures_text_and_downloads(world, browser, outputs):
    (outputs / "predictions.csv").write_text(f"scan-1.png,0.5\nscan-2.png,{HOSTILE}\n" + "x,1\n" * 300)
    (outputs / "more.jsonl").write_text('{"file": "a", "label": [1, 2]}\n{"file": "b", "score": 3}\n')
    (outputs / "notes.txt").write_text(HOSTILE)
    (outputs / "map.png").write_bytes(PNG)
    (outputs / "evil.png").write_text(HOSTILE)
    (outputs / "raw.bin").write_bytes(b"\x00\x01")
    client = browser("rita")
    page = text(client.get("/w/lab/jobs/job-1/outputs"))
    assert all(name in page for name in ("predictions.csv", "map.png", "raw.bin"))
    shown = text(client.get("/w/lab/jobs/job-1/outputs?path=predictions.csv"))
    assert "<td>scan-1.png</td>" in shown
    assert shown.count("<td>x</td>") == 198
    assert "Only the beginning is shown" in shown
    assert HOSTILE not in shown
    assert "[1, 2]" in text(client.get("/w/lab/jobs/job-1/outputs?path=more.jsonl"))
    assert HOSTILE not in text(client.get("/w/lab/jobs/job-1/outputs?path=notes.txt"))
    assert "This file is not text" in text(client.get("/w/lab/jobs/job-1/outputs?path=raw.bin"))
    answer = client.get("/w/lab/jobs/job-1/outputs/download?path=notes.txt")
    assert answer["Content-Disposition"].startswith("attachment")
    assert body(answer) == HOSTILE.encode()


def test_a_picture_is_one_whatever_its_name_says(world, browser, outputs):
    (outputs / "map.png").write_bytes(PNG)
    (outputs / "evil.png").write_text(f"<svg>{HOSTILE}</svg>")
    client = browser("rita")
    answer = client.get("/w/lab/jobs/job-1/outputs/picture?path=map.png")
    assert answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert client.get("/w/lab/jobs/job-1/outputs/picture?path=evil.png").status_code == 404


@pytest.mark.parametrize("path", ["../job-2/secret.txt", "/etc/passwd", "none.csv", "link.txt"])
def test_outputs_lead_nowhere_else(path, world, browser, outputs):
    (outputs / "x.txt").write_text("x")
    (outputs.parent / "job-2").mkdir(exist_ok=True)
    (outputs.parent / "job-2" / "secret.txt").write_text("secret")
    if path == "link.txt":
        (outputs / path).symlink_to(outputs.parent / "job-2" / "secret.txt")
    client = browser("rita")
    for place in ("outputs", "outputs/download", "outputs/picture"):
        answer = client.get(f"/w/lab/jobs/job-1/{place}", {"path": path})
        assert answer.status_code in (400, 404, 503), place  # 503: a link, which is never followed
        assert b"secret" not in answer.content.replace(b"secret.txt", b"")
