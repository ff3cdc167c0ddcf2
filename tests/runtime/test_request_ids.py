"""What the server says while it answers begins with the request's id, so that its lines can be found by it."""

from __future__ import annotations

import time

import pytest

SCRIPT = """
import json, time
def init(): pass
{keyword} run(data):
    if json.loads(data) == "fail":
        raise ValueError("told to")
    time.sleep(json.loads(data))
"""


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_failures_are_found_by_id(launch, keyword):
    server = launch.script(SCRIPT.replace("{keyword}", keyword), SCORING_TIMEOUT_MS="200", PORTWAY_MAX_CONCURRENCY="4")
    server.ready()
    assert server.post("fail", x_request_id="id-one").status == 500
    assert server.post(0, x_request_id="id-two").status == 200
    assert server.post("fail", x_request_id="id-three").status == 500
    named, deadline = [], time.monotonic() + 10
    while len(named) < 4 and time.monotonic() < deadline:  # the last line may come after the answer
        named = [line.split(" - ", 1)[1] for line in server.log().splitlines() if "[id-" in line]
    assert [line.split(" ", 1)[0] for line in named] == ["[id-one]", "[id-one]", "[id-three]", "[id-three]"]
    assert named[0] == "[id-one] Encountered Exception: Traceback (most recent call last):"
    assert named[1].startswith("[id-one] POST /score 500 ")


def test_a_timeout_is_found_by_id(launch):
    server = launch.script(SCRIPT.replace("{keyword}", "def"), SCORING_TIMEOUT_MS="200").ready()
    assert server.post(0.6, x_request_id="id-slow").status == 500
    assert "- [id-slow] Scoring timeout after 200 ms" in server.log()


def test_lines_about_no_request_have_no_id(launch):
    server = launch.script(SCRIPT.replace("{keyword}", "def")).ready()
    assert " - Worker with pid " in server.log()
