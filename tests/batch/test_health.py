"""What `portway doctor` and the console say of hosts and of clusters that wait."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.core import health
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_cluster, make_job, make_node
from tests.factories import make_host

pytestmark = pytest.mark.django_db


def found():
    return {each.name: each for each in health.findings()}


def told():
    out = StringIO()
    call_command("findings", stdout=out)
    return out.getvalue()


def test_a_host_is_alive_or_lost_and_says_what_to_do(workspace):
    assert told() == "  --   container engine not configured\n"
    make_host("here")
    make_node(make_cluster(workspace), host="here")
    assert (found()["batch host here"].tone, found()["batch host here"].text) == ("ok", "alive, 1 node")
    assert "  ok   batch host here alive, 1 node\n" in told()
    make_host("there", seen_at=timezone.now() - timedelta(minutes=5))
    lost = found()["batch host there"]
    assert (lost.tone, lost.fine) == ("failed", False)
    assert "forget it" in lost.advice
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("findings", stdout=out)
    assert "  FAIL batch host there lost" in out.getvalue()


def test_jobs_that_no_host_can_take_are_told_of(workspace):
    job = make_job(make_batch_deployment(make_batch_endpoint(workspace)), parts=1, state="Queued")
    assert found()["batch hosts"].text == "none is alive, and 1 job waits"
    host = make_host("here", seen_at=timezone.now() - timedelta(minutes=5))
    assert "batch hosts" in found()
    type(host).objects.update(seen_at=timezone.now())
    assert "batch hosts" not in found()
    type(job).objects.update(state="Completed")
    type(host).objects.all().delete()
    assert list(found()) == ["container engine"]


def test_a_cluster_that_gets_no_node_says_why_while_jobs_wait(workspace):
    make_host("here")
    why = {"code": "no-capacity", "message": "No room for 64 GiB.", "next": "Take a smaller one."}
    cluster = make_cluster(workspace, waiting=why)
    assert "cluster lab/cpu" not in found()  # nobody waits for it
    make_job(make_batch_deployment(make_batch_endpoint(workspace), cluster=cluster), parts=1, state="Queued")
    waits = found()["cluster lab/cpu"]
    assert (waits.tone, waits.text) == ("degraded", "jobs wait: No room for 64 GiB.")
    assert waits.advice == "Take a smaller one."


def test_what_cannot_be_asked_is_said(monkeypatch):
    def broken():
        raise ConnectionError("the database is away")

    monkeypatch.setitem(health._looks, "clusters", broken)
    assert found()["clusters"].text == "ConnectionError: the database is away"
    assert found()["clusters"].tone == "failed"
