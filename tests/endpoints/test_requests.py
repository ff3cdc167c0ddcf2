"""What happened to my request: asked of a real gateway with real model servers, also when these are gone."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from apps.accounts.models import Workspace
from apps.core.errors import Fault
from apps.endpoints import domain
from apps.endpoints.logs import server_log
from apps.endpoints.requests import as_json, find_request, story
from apps.gateway import explain

SCRIPT = """
import json, os, time
def init(): pass
def run(data):
    what = json.loads(data)
    print("asked", what, flush=True)
    if what == "fail":
        raise ValueError("told to")
    if what == "die":
        os._exit(7)
    time.sleep(1.5 if what == "slow" else 0)
    return what
"""


@pytest.fixture
def iris(world, settings):
    settings.DEFAULT_DRIVER = "process"
    endpoint = world.endpoint()
    world.deploy(endpoint, script=SCRIPT, request_timeout_ms=1000)
    world.traffic(endpoint, blue=100)
    return endpoint


def asked(world, body, **more):
    """The explanation of a request that is made now; the gateway writes its log once a second."""
    headers = world.score(body=body, **more)[1]
    return explained(headers["x-request-id"])


def explained(request_id, workspace="lab"):
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        if (found := find_request(workspace=workspace, request_id=request_id)).requests:
            return found.requests[0]
        time.sleep(0.1)
    raise AssertionError(f"{request_id} is not found")


@pytest.mark.envoy
def test_what_happened_to_a_request(world, iris):
    fine = asked(world, "hello", x_ms_client_request_id="mine-1")
    assert (fine.verdict.code, fine.verdict.fault, fine.status) == ("answered", None, 200)
    assert (fine.endpoint, fine.deployment, fine.instance.name) == ("iris", "blue", "blue #0")
    assert [(entry.text, named) for entry, named in fine.lines if "asked" in entry.text] == [("asked hello", False)]
    assert fine.spent.total >= fine.spent.model >= 0
    assert [tone for tone, _, _ in story(fine)] == ["ok"] * 4
    [again] = find_request(workspace="lab", request_id="mine-1").requests
    assert again.request_id == fine.request_id
    assert as_json(find_request(workspace="lab", request_id=fine.request_id))["requests"][0]["instance"]["living"]

    failed = asked(world, "fail")
    assert (failed.verdict.code, failed.verdict.fault, failed.status) == ("model-error", Fault.USER, 424)
    assert failed.model_status == 500
    text = [entry.text for entry, named in failed.lines if named]
    assert any("Encountered Exception" in each for each in text)
    assert any("ValueError: told to" in entry.text for entry, _ in failed.lines)
    assert [tone for tone, _, _ in story(failed)] == ["ok", "ok", "degraded", "ok"]

    slow = asked(world, "slow")
    assert (slow.verdict.code, slow.status, slow.flags[0][0]) == ("timeout", 408, "UT")
    refused = asked(world, "x", key="wrong")
    assert (refused.verdict.code, refused.instance, refused.lines) == ("unauthorized", None, ())
    unknown = asked(world, "x", azureml_model_deployment="nobody")
    assert unknown.verdict.code == "no-deployment"
    assert find_request(workspace="lab", request_id="f0000000-0000-4000-8000-000000000000").requests == []


@pytest.mark.envoy
def test_instances_are_known_after_they_stood_down_for_a_restart_of_portway(world, iris):
    from apps.compute import domain as compute

    fine = asked(world, "hello")
    compute.stand_down("process")
    compute.settle(iris.deployments.get().serving, tick=lambda: None, timeout_s=30)
    again = explained(fine.request_id)
    assert again.instance.living is not None
    assert any("asked hello" in entry.text for entry, _ in again.lines)


@pytest.mark.envoy
def test_a_request_that_kills_its_instance_and_one_whose_instance_is_gone(world, iris):
    fine = asked(world, "hello")
    died = world.score(body="die")[1]["x-request-id"]
    blue = iris.deployments.get()
    deadline = time.monotonic() + 15
    while not server_log("lab", "iris", "blue", tail=50).count("asked die"):
        assert time.monotonic() < deadline
    from apps.compute import domain as compute

    compute.settle(blue.serving, tick=lambda: None, timeout_s=30)
    end = explained(died)
    assert (end.verdict.code, end.status) == ("model-gone", 503)
    assert end.ended.row.exit_code == 7
    assert any("asked die" in entry.text for entry, _ in end.lines)

    world.traffic(world.fresh(iris), blue=0)
    world.run(domain.delete_deployment(deployment=blue, actor=world.actor))
    gone = explained(fine.request_id)
    assert (gone.instance.name, gone.instance.row.why) == ("blue #0", "crashed")
    assert any("asked hello" in entry.text for entry, _ in gone.lines)
    text = server_log("lab", "iris", "blue", tail=50)
    assert "deleted, " in text
    assert "asked hello" in text

    other = Workspace.objects.create(name="other")
    assert find_request(workspace=other.name, request_id=fine.request_id).requests == []
    assert server_log(other.name, "iris", "blue", tail=50) == ""


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ({"code": 200}, "answered"),
        ({"code": 302}, "redirected"),
        ({"code": 429, "flags": "UO"}, "queue-full"),
        ({"code": 429, "flags": "-", "details": "local_rate_limited"}, "rate-limited"),
        ({"code": 503, "flags": "UF,URX"}, "unreachable"),
        ({"code": 503, "flags": "UH"}, "no-instance"),
        ({"code": 503, "flags": "UC"}, "model-gone"),
        ({"code": 0, "flags": "DC"}, "hung-up"),
        ({"code": 408, "flags": "UT", "details": "response_timeout"}, "timeout"),
        ({"code": 403, "flags": "UAEX", "details": "rbac_access_denied_matched_policy[none]"}, "wrong-token"),
        ({"code": 401, "flags": "UAEX", "details": "jwt_authn_access_denied{Jwt_is_expired}"}, "unauthorized"),
        ({"code": 401, "flags": "-", "details": "lua_response"}, "unauthorized"),
        ({"code": 404, "route": "iris/unknown"}, "no-deployment"),
        ({"code": 404, "route": "iris/idle"}, "no-traffic"),
        ({"code": 413, "route": "iris/too-large"}, "too-large"),
        ({"code": 424, "model_status": "422"}, "model-refused"),
        ({"code": 424, "model_status": "500"}, "model-error"),
        ({"code": 502, "flags": "UPE"}, "not-http"),
        ({"code": 400, "flags": "DPE"}, "bad-request"),
        ({"code": 599, "flags": "?"}, "unknown"),
        ({"code": "²", "flags": None, "model_status": ["x"]}, "unknown"),
    ],
)
def test_every_kind_of_end_has_words(line, code):
    found = explain.verdict(line)
    assert found.code == code
    assert str(found.title)
    assert found.fault is None or str(found.next_step)


@pytest.mark.django_db
@pytest.mark.parametrize("bad", ["", " ", '"', "a b", "<script>", "x" * 200, "..%2f", "é"])
def test_what_cannot_be_an_id_is_not_looked_for(bad):
    assert find_request(workspace="lab", request_id=bad).requests == []


@pytest.mark.django_db
def test_a_hostile_line_does_not_break_the_answer(settings, tmp_path):
    import dataclasses

    settings.HOME = dataclasses.replace(settings.HOME, root=tmp_path)
    settings.HOME.logs.mkdir()
    lines = [
        {"ts": "not a time", "request_id": "one", "workspace": "lab"},
        {
            "ts": "2026-03-01T10:00:00.000Z",
            "request_id": "two",
            "workspace": "lab",
            "upstream": 7,
            "ms": "x",
            "code": [],
        },
    ]
    (settings.HOME.logs / "access.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert find_request(workspace="lab", request_id="one").requests == []
    [found] = find_request(workspace="lab", request_id="two").requests
    assert (found.verdict.code, found.instance) == ("unknown", None)


def test_lines_of_an_earlier_version_are_not_taken_for_searched(settings, tmp_path):
    settings.HOME = replace(settings.HOME, root=tmp_path)
    settings.HOME.logs.mkdir()
    old = {"ts": "2026-01-01T00:00:00.000Z", "request_id": "a-1", "endpoint": "iris", "code": 200}
    (settings.HOME.logs / "access.jsonl").write_text(json.dumps(old) + "\n")
    answer = find_request(workspace="lab", request_id="a-1")
    assert (answer.requests, answer.older, answer.since) == ([], True, None)
    told = as_json(answer)
    assert (told["complete"], told["olderNotSearched"]) == (False, True)
