"""Jobs from end to end: real worker processes, real files (spec 7.2 and 13.15)."""

import pytest

from apps.batch import domain
from apps.batch.engine import joblogs
from apps.batch.enums import JobState, MiniBatchState
from apps.core.errors import Problem

POISON = """
import os, time
def init():
    pass
def run(files):
    out = []
    for path in files:
        text = open(path).read().strip()
        if text.startswith('bad'):
            raise ValueError(f'cannot read {text}')
        if text == 'slow':
            time.sleep(60)
        if text == 'die':
            os._exit(9)
        out.append(f'{os.path.basename(path)},{text}')
    return out
"""


def spoil(batch, folder, names, text="bad"):
    for name in names:
        (batch.blobs / folder / name).write_text(text)


def test_a_hundred_files_in_tens_are_ten_mini_batches(batch):
    batch.deployment(mini_batch_size=10)
    job = batch.submit(batch.files(100))
    batch.agent()
    batch.completed(job)
    assert (job.files, job.total, job.done, job.failed, job.rows) == (100, 10, 10, 0, 100)
    assert batch.lines(job) == [f"f{number:06d}.txt" for number in range(100)]
    assert set(job.mini_batches.values_list("state", "attempt")) == {(MiniBatchState.DONE, 1)}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("def init(): raise ValueError('no model here')\ndef run(files): return files\n", "no model here"),
        ("import nothing_of_that_name\ndef init(): pass\ndef run(files): return files\n", "nothing_of_that_name"),
        ("def init(): pass\n", "run"),
        ("def init(): pass\ndef run(files): return None\n", "No succeeded mini batch item"),
    ],
)
def test_a_script_that_cannot_work_fails_the_job_with_its_reason(batch, script, words):
    batch.deployment(script)
    job = batch.ended(batch.submit(batch.files(3))) if batch.agent() else None
    assert job.state == JobState.FAILED
    assert words in job.error["message"] + job.error["evidence"]
    assert job.error["fault"] == "user"


def test_poison_is_tried_again_then_counted_and_the_rest_is_kept(batch):
    batch.deployment(POISON, max_retries=2, max_concurrency_per_instance=2)
    uri = batch.files(40)
    spoil(batch, "in", ["f000003.txt", "f000017.txt"])
    batch.agent()
    job = batch.completed(batch.submit(uri))
    assert (job.done, job.failed, job.failed_files, job.rows) == (38, 2, 2, 38)
    bad = job.mini_batches.filter(state=MiniBatchState.FAILED)
    assert {(each.number, each.attempt) for each in bad} == {(3, 3), (17, 3)}
    assert all("cannot read bad" in each.error["evidence"] for each in bad)
    assert [line.split(",")[0] for line in batch.lines(job)] == [
        f"f{number:06d}.txt" for number in range(40) if number not in {3, 17}
    ]
    assert "mini-batch 17, attempt 3" in joblogs.read(job, joblogs.ERRORS)[0]


@pytest.mark.parametrize(("threshold", "state"), [(7, JobState.COMPLETED), (6, JobState.FAILED)])
def test_seven_of_five_hundred_and_the_threshold_on_both_sides(batch, threshold, state):
    batch.deployment(POISON, error_threshold=threshold, max_concurrency_per_instance=2)
    uri = batch.files(500)
    poisoned = [f"f{number * 70:06d}.txt" for number in range(1, 8)]
    spoil(batch, "in", poisoned)
    batch.agent()
    job = batch.ended(batch.submit(uri))
    assert job.state == state
    if state == JobState.FAILED:
        assert job.failed_files == 7
        assert job.error["code"] == "job-errors"
        assert len(batch.lines(job)) == job.rows < 500
    else:
        assert (job.done, job.failed) == (493, 7)

    spoil(batch, "in", poisoned, "mended")
    done = dict(job.mini_batches.filter(state=MiniBatchState.DONE).values_list("number", "ended_at"))
    domain.retry_failed(job=job, actor=batch.actor)
    batch.completed(job)
    assert (job.done, job.failed, job.rows) == (500, 0, 500)
    again = dict(job.mini_batches.values_list("number", "ended_at"))
    assert {number: again[number] for number in done} == done  # nothing that was done is touched
    assert [line.split(",")[0] for line in batch.lines(job)] == [f"f{number:06d}.txt" for number in range(500)]


def test_run_beyond_its_timeout_is_ended_and_tried_again(batch):
    batch.deployment(POISON, timeout_ms=700, max_retries=1)
    uri = batch.files(3)
    spoil(batch, "in", ["f000001.txt"], "slow")
    batch.agent()
    job = batch.completed(batch.submit(uri))
    slow = job.mini_batches.get(number=1)
    assert (slow.state, slow.attempt, slow.error["code"]) == (MiniBatchState.FAILED, 2, "Timeout")
    assert job.rows == 2


def test_a_mini_batch_that_kills_its_process_takes_no_other_down(batch):
    batch.deployment(POISON, max_retries=1, max_concurrency_per_instance=2)
    uri = batch.files(30)
    spoil(batch, "in", ["f000010.txt"], "die")
    batch.agent()
    job = batch.completed(batch.submit(uri))
    assert (job.done, job.failed, job.rows) == (29, 1, 29)
    assert job.mini_batches.get(number=10).error["code"] == "WorkerDied"


def test_summary_only_writes_what_the_script_wrote(batch):
    script = (
        "import os\ndef init(): pass\n"
        "def run(files):\n"
        "    for f in files:\n"
        "        with open(os.path.join(os.environ['AZUREML_BI_OUTPUT_PATH'], os.path.basename(f)), 'w') as out:\n"
        "            out.write('seen')\n"
        "    return files\n"
    )
    batch.deployment(script, output_action="SummaryOnly")
    batch.agent()
    job = batch.completed(batch.submit(batch.files(5)))
    assert job.rows == 5
    folder = batch.blobs / job.outputs["score"]["uri"].partition("/paths/")[2]
    assert sorted(path.name for path in folder.iterdir()) == [f"f{number:06d}.txt" for number in range(5)]


def test_the_same_request_is_the_same_job(batch):
    batch.deployment()
    uri = batch.files(2)
    first = batch.submit(uri, request_id="8b1f")
    assert batch.submit(uri, request_id="8b1f") == first
    assert batch.submit(uri, request_id="8b20") != first


def test_what_scripts_print_is_in_the_logs_tree(batch):
    script = (
        "import sys\ndef init(): print('loaded')\n"
        "def run(files):\n    print('scored', files[0]); print('careful', file=sys.stderr); return files\n"
    )
    batch.deployment(script)
    batch.agent()
    job = batch.completed(batch.submit(batch.files(2)))
    names = [name for name, _size in joblogs.tree(job)]
    stdout = next(name for name in names if name.endswith("process0.stdout.txt"))
    assert stdout.startswith("logs/user/stdout/")
    assert "loaded" in joblogs.read(job, stdout)[0]
    assert "f000001.txt" in joblogs.read(job, stdout)[0]
    assert any(name.startswith("logs/user/stderr/") for name in names)
    assert "mini-batches: 2, done 2" in joblogs.read(job, joblogs.OVERVIEW)[0]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"mini_batch_size": 0}, "miniBatchSize"),
        ({"mini_batch_size": -1}, "miniBatchSize"),
        ({"instance_count": 0}, "resources.instanceCount"),
        ({"instance_count": 3}, "resources.instanceCount"),
        ({"error_threshold": -2}, "errorThreshold"),
        ({"timeout_ms": 0}, "retrySettings.timeout"),
        ({"max_retries": -1}, "retrySettings.maxRetries"),
        ({"output_file_name": "../x"}, "outputFileName"),
        ({"output_file_name": ".."}, "outputFileName"),
        ({"mini_batch_size": True}, "miniBatchSize"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_made(batch, values, field):
    batch.deployment()
    uri = batch.files(1)
    with pytest.raises(Problem) as refused:
        batch.submit(uri, **values)
    assert (refused.value.code, refused.value.target) == ("bad-field", field)
    assert batch.workspace.jobs.count() == 0


def test_input_that_is_not_there_or_of_the_wrong_kind_is_refused(batch):
    batch.deployment()
    uri = batch.files(1)
    with pytest.raises(Problem) as missing:
        batch.submit(batch.uri("nowhere"))
    assert missing.value.code == "input-missing"
    with pytest.raises(Problem) as kind:
        batch.submit(uri, kind="UriFile")
    assert "is a folder" in kind.value.message
    assert batch.workspace.jobs.count() == 0


def test_an_empty_folder_fails_before_any_node_starts(batch):
    batch.deployment()
    (batch.blobs / "empty").mkdir(parents=True)
    job = batch.ended(batch.submit(batch.uri("empty")))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "input-empty")
    assert job.cluster.nodes.count() == 0
