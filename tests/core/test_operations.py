import time
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.core import operations
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation, OperationState

pytestmark = pytest.mark.django_db(transaction=True)
ran = []


def start(lock="l", **payload):
    return operations.start("test.kind", workspace="lab", target="t", lock=lock, actor=None, payload=payload)


@pytest.fixture(autouse=True)
def kind(monkeypatch):
    """A kind of operation whose handler does what its payload says."""
    ran.clear()
    failed = []

    def handler(run):
        with run.step("one"):
            run.log("hello\x00world")
            ran.append(run.operation.attempt)
        with run.step("two"):
            if run.payload.get("problem"):
                raise Problem("not-found", kind="thing", name="x", evidence="line 7")
            if run.payload.get("crash"):
                raise ZeroDivisionError("secret path")

    entry = operations.Handler(
        handler, ("one", "two"), lambda operation, problem: failed.append(problem.code), cancelable=True
    )
    monkeypatch.setitem(operations._handlers, "test.kind", entry)
    return failed


def test_a_success_has_its_steps_its_log_and_its_audit():
    operation = start()
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.percent, operation.error) == ("succeeded", 100, None)
    assert [(step.name, step.state, step.log) for step in operation.steps.all()] == [
        ("one", "done", "helloworld\n"),
        ("two", "done", ""),
    ]
    assert set(AuditRecord.objects.values_list("action", flat=True)) == {"test.kind", "test.kind.succeeded"}


def test_a_problem_fails_it_with_cause_and_evidence(kind):
    operation = start(problem=True)
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.error["code"], operation.error["evidence"]) == ("failed", "not-found", "line 7")
    assert [step.state for step in operation.steps.all()] == ["done", "failed"]
    assert kind == ["not-found"]


def test_a_defect_of_ours_is_called_that(kind):
    operation = start(crash=True)
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.error["code"], operation.error["fault"]) == ("failed", "internal", "system")


def test_one_live_operation_per_lock():
    operation = start()
    with pytest.raises(Problem, match="still running"):
        start()
    assert Operation.objects.count() == 1
    operations.run(operation.pk)
    start()


def test_a_second_worker_does_nothing_while_the_lease_holds_and_takes_over_after_it():
    operation = start()
    Operation.objects.filter(pk=operation.pk).update(
        state="running", attempt=1, lease_until=timezone.now() + timedelta(seconds=9)
    )
    operations.run(operation.pk)
    assert ran == []
    Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    operations.run(operation.pk)
    assert ran == [2]


def test_an_operation_that_kills_its_workers_is_given_up():
    operation = start()
    Operation.objects.filter(pk=operation.pk).update(
        state="running", attempt=operations.MAX_ATTEMPTS, lease_until=timezone.now() - timedelta(seconds=1)
    )
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert (ran, operation.state, operation.error["code"]) == ([], "failed", "attempts")


def test_cancel_ends_it_at_the_next_step():
    operation = start()
    operations.cancel(operation, actor=None)
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert (ran, operation.state) == ([], OperationState.CANCELED)


def test_what_is_in_force_with_its_row_cannot_be_canceled(monkeypatch):
    entry = operations.Handler(lambda run: None, ("one",), None)
    monkeypatch.setitem(operations._handlers, "test.kind", entry)
    operation = start()
    with pytest.raises(Problem, match="cannot be canceled"):
        operations.cancel(operation, actor=None)
    operation.refresh_from_db()
    assert not operation.cancel_requested


def test_the_sweep_wakes_what_nobody_works_on(monkeypatch):
    woken = []
    monkeypatch.setattr(operations, "wake", woken.append)
    old = start("a")
    running = start("b")
    start("c")
    woken.clear()
    Operation.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(seconds=5))
    Operation.objects.filter(pk=running.pk).update(state="running", lease_until=timezone.now() - timedelta(seconds=1))
    assert operations.sweep() == 2
    assert set(woken) == {old.pk, running.pk}


def test_the_tail_of_a_long_log_is_kept(monkeypatch):
    def chatty(run):
        with run.step("one"):
            for number in range(20_000):
                run.log(f"line {number}")

    monkeypatch.setitem(operations._handlers, "test.kind", operations.Handler(chatty, ("one",), None))
    operation = start()
    operations.run(operation.pk)
    log = operation.steps.get().log
    assert len(log) <= operations.LOG_LIMIT
    assert log.endswith("line 19999\n")


def test_a_runner_that_was_taken_for_dead_leaves_the_target_alone(kind, monkeypatch):
    def overtaken(run):
        with run.step("one"):
            Operation.objects.filter(pk=run.operation.pk).update(owner="somebody else", attempt=2)
            raise Problem("not-found", kind="thing", name="x")

    entry = operations.Handler(overtaken, ("one",), lambda operation, problem: kind.append(problem.code))
    monkeypatch.setitem(operations._handlers, "test.kind", entry)
    operation = start()
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert (kind, operation.state, operation.owner, operation.error) == ([], "running", "somebody else", None)


def test_the_lease_is_kept_while_a_failure_is_cleaned_up(monkeypatch):
    def slow(operation, problem):
        before = Operation.objects.get(pk=operation.pk).lease_until
        time.sleep(1)
        after.append(Operation.objects.get(pk=operation.pk).lease_until > before)

    after = []
    monkeypatch.setattr(operations, "LEASE_S", 1.0)
    monkeypatch.setattr(operations, "BEAT_S", 0.05)
    handler = operations._handlers["test.kind"].function
    monkeypatch.setitem(operations._handlers, "test.kind", operations.Handler(handler, ("one", "two"), slow))
    operations.run(start(problem=True).pk)
    assert after == [True]


def test_a_clean_up_that_always_fails_does_not_lock_the_target_for_ever(monkeypatch):
    def broken(operation, problem):
        raise ZeroDivisionError

    handler = operations._handlers["test.kind"].function
    monkeypatch.setitem(operations._handlers, "test.kind", operations.Handler(handler, ("one", "two"), broken))
    operation = start(problem=True)
    for _ in range(operations.MAX_ATTEMPTS):
        with pytest.raises(ZeroDivisionError):
            operations.run(operation.pk)
        Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert (operation.state, operation.error["code"]) == ("failed", "attempts")


def test_the_sweep_wakes_the_oldest_first(monkeypatch):
    woken = []
    monkeypatch.setattr(operations, "wake", woken.append)
    old = [start(str(number)) for number in range(101)]
    woken.clear()
    for number, each in enumerate(old):
        Operation.objects.filter(pk=each.pk).update(created_at=timezone.now() - timedelta(seconds=500 - number))
    operations.sweep()
    assert woken == [each.pk for each in old[:100]]
