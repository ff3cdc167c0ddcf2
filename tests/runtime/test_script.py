"""Spec 6.1: scoring scripts. One server per kind of run()."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time

import pytest

SCRIPT = """
import json, os, sys, threading, time
import helper                      # a sibling module
state = {"running": 0, "most": 0, "lock": threading.Lock()}

def init():
    print("hello from init")

def run(data, request_headers):
    ask = json.loads(data)
    if "sleep" in ask:
        with state["lock"]:
            state["running"] += 1
            state["most"] = max(state["most"], state["running"])
        time.sleep(ask["sleep"])
        with state["lock"]:
            state["running"] -= 1
    if ask.get("most"):
        return state["most"]
    if ask.get("raise"):
        raise KeyError("boom")
    if ask.get("exit"):
        sys.exit(3)
    if ask.get("none"):
        return None
    if ask.get("numpy"):
        import numpy as np
        return {"a": np.arange(3), "b": np.float64(0.5), "d": np.datetime64("2024-01-02")}
    if ask.get("object"):
        return object()
    if ask.get("headers"):
        return request_headers
    if ask.get("modules"):
        return [helper.WORD, [p for p in sys.path if p.endswith("/runtime")], "runtime" in sys.modules]
    return ask
"""


@pytest.fixture(scope="module")
def server(launch):
    files = {"in/score.py": SCRIPT, "in/helper.py": "WORD = 'sibling'", "in/runtime.py": "raise SystemExit"}
    started = launch.folder_of(
        files,
        "in/score.py",
        PORTWAY_MAX_CONCURRENCY="2",
        SERVICE_NAME="wine",
        SERVICE_VERSION="7",
        SERVICE_PATH_PREFIX="/e/wine",
        PORTWAY_SESSION="blue-3",
        AML_CORS_ORIGINS="https://a.example, https://b.example",
    )
    return started.ready()


def test_health(server):
    for path in ("/", "/livez", "/readyz"):
        answer = server.get(path)
        assert (answer.status, answer.body) == (200, b"Healthy")
        assert answer.headers["content-type"].startswith("text/plain")
        assert "x-ms-run-function-failed" not in answer.headers
    assert server.request("HEAD", "/").status == 200
    assert server.failure() is None


def test_round_trip_and_headers(server):
    answer = server.post({"x": [1, None, "ü"]})
    assert (answer.status, answer.json) == (200, {"x": [1, None, "ü"]})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-ms-run-function-failed"] == "False"
    assert re.fullmatch(r"\d+\.\d{3}", answer.headers["x-ms-run-fn-exec-ms"])
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])
    assert answer.headers["x-ms-request-id"] == answer.headers["x-request-id"]
    assert "x-ms-client-request-id" not in answer.headers
    assert answer.headers["x-ms-server-version"] == "portway/0.1.0"
    assert answer.headers["azureml-model-session"] == "blue-3"


@pytest.mark.parametrize(
    ("sent", "legacy", "client"),
    [
        ({"x_request_id": "r"}, "r", None),
        ({"x_request_id": "r", "x_ms_client_request_id": "c"}, "c", "c"),
        ({"x_request_id": "r", "x_ms_request_id": "l"}, "l", "l"),
        ({"x_request_id": "r", "x_ms_request_id": "l", "x_ms_client_request_id": "c"}, "l", "c"),
    ],
)
def test_request_ids(server, sent, legacy, client):
    headers = server.post({}, **sent, TraceId="t1").headers
    assert headers["x-request-id"] == "r"
    assert headers["x-ms-request-id"] == legacy
    assert headers.get("x-ms-client-request-id") == client
    assert headers["traceid"] == "t1"


def test_long_ids_are_431(server):
    answer = server.post({}, x_request_id="a" * 101)
    assert answer.status == 431
    assert answer.json == {"message": "x-request-id must not exceed 100 characters"}
    assert "x-request-id" not in answer.headers
    for name in ("x_ms_request_id", "x_ms_client_request_id"):
        answer = server.post({}, **{name: "a" * 101})
        text = "x-ms-request-id and x-ms-client-request-id must not exceed 100 characters"
        assert (answer.status, answer.json) == (431, {"message": text})
    assert server.post({}, x_request_id="a" * 100).status == 200


def test_undecorated_run_gets_text_whatever_the_type(server):
    assert server.request("POST", "/score", '{"a": 1}', {"Content-Type": "text/plain"}).json == {"a": 1}
    answer = server.post(b"\xff\xfe{")
    assert answer.status == 400
    assert answer.json["message"].startswith("Input cannot be decoded as UTF-8:")
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_get_turns_the_query_into_json(server):
    assert server.get("/score?a=1&b=[1,2]&c=x&d=null&e=1&e=z").json == {
        "a": 1,
        "b": [1, 2],
        "c": "x",
        "d": None,
        "e": [1, "z"],
    }


@pytest.mark.parametrize("body", [b'{"raise": true}', b"{", b"", b'{"exit": true}', b"[" * 100_000])
def test_a_failing_run_is_500(server, body):
    answer = server.post(body)
    assert answer.status == 500
    assert answer.json == {"message": "An unexpected error occurred in scoring script. Check the logs for more info."}
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert server.get("/").status == 200


def test_traceback_and_access_line_are_logged(server):
    server.post({"raise": True})
    time.sleep(0.2)
    log = server.log()
    assert "KeyError: 'boom'" in log
    assert "hello from init" in log
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} E \[\d+\] portway - POST /score 500 [\d.]+ms \d+$", log, re.MULTILINE
    )


def test_outputs(server):
    assert server.post({"none": 1}).json == {}
    assert server.post({"numpy": 1}).json == {"a": [0, 1, 2], "b": 0.5, "d": "2024-01-02"}
    assert server.post(b'{"x": NaN}').body == b'{"x": NaN}'
    assert server.post({"object": 1}).status == 500


def test_request_headers_parameter(server):
    found = server.post({"headers": 1}, x_my_header="v").json
    assert found["X-My-Header"] == "v"
    assert found["Content-Type"] == "application/json"


def test_our_code_does_not_hide_the_users(server):
    assert server.post({"modules": 1}).json == ["sibling", [], False]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("POST", "/", 405),
        ("PUT", "/score", 405),
        ("POST", "/swagger.json", 405),
        ("GET", "/invocations", 404),
    ],
)
def test_other_routes(server, method, path, status):
    answer = server.request(method, path)
    assert answer.status == status
    assert set(answer.json) == {"message"}


def test_options_without_and_with_cors(server):
    answer = server.request("OPTIONS", "/score")
    assert (answer.status, answer.body) == (200, b"")
    assert "access-control-allow-origin" not in answer.headers
    asked = {"Origin": "https://b.example", "Access-Control-Request-Method": "POST"}
    headers = server.request("OPTIONS", "/score", headers=asked).headers
    assert headers["access-control-allow-origin"] == "https://b.example"
    assert headers["access-control-allow-methods"] == "GET, POST"
    assert server.post({}, Origin="https://a.example").headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in server.post({}, Origin="https://evil.example").headers


@pytest.mark.parametrize(
    ("version", "key", "value"),
    [("", "swagger", "2.0"), ("2.0", "swagger", "2.0"), ("3", "openapi", "3.0.3"), ("3.1", "openapi", "3.1.0")],
)
def test_swagger_of_an_undecorated_run(server, version, key, value):
    document = server.get("/swagger.json" + (f"?version={version}" if version else "")).json
    assert document[key] == value
    assert document["info"]["title"] == "wine"
    assert document["info"]["version"] == "7"
    assert set(document["paths"]) == {"/e/wine/", "/e/wine/score", "/e/wine/swagger.json"}
    schemas = document["definitions"] if key == "swagger" else document["components"]["schemas"]
    assert set(schemas) == {"ServiceInput", "ServiceOutput", "ErrorResponse"}


def test_unknown_swagger_version(server):
    answer = server.get("/swagger.json?version=9")
    assert answer.status == 404
    assert answer.json == {"message": "Swagger version [9] is not valid. Supported versions: [2, 3, 3.1]."}


def test_never_more_at_once_than_allowed(server):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.post({"sleep": 0.15}).status)) for _ in range(6)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    probe = time.monotonic()
    assert server.get("/").status == 200
    assert time.monotonic() - probe < 0.1, "a health answer waited for run()"
    for thread in threads:
        thread.join()
    assert answers == [200] * 6
    assert time.monotonic() - started >= 0.45
    assert server.post({"most": 1}).json == 2


def test_large_body(server):
    answer = server.post(json.dumps({"x": "a" * 20_000_000}))
    assert (answer.status, len(answer.json["x"])) == (200, 20_000_000)


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /score HTTP/1.1\r\nHost: x\r\nTraceId: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /score HTTP/1.1\r\nHost: x\r\nTraceId: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /score HTTP/1.1\r\nHost: x\r\nTraceId: \xff\xe9\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}",
        b"nonsense\r\n\r\n",
        b"\x00\x01\x02",
    ],
)
def test_hostile_heads_do_no_harm(server, raw):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(server.socket))
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while chunk := sock.recv(65536):
            got += chunk
    assert got.count(b"\r\n\r\n") <= 1
    assert b"\nset-cookie" not in got.lower()
    assert server.get("/").status == 200


def test_a_client_that_leaves_early_does_no_harm(server):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(server.socket))
        sock.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert server.post({"a": 1}).json == {"a": 1}


def test_keep_alive(server):
    connection: http.client.HTTPConnection = server.connection()
    for number in range(3):
        connection.request("POST", "/score", json.dumps(number * [1]) or "1", {})
        connection.getresponse().read()
    connection.close()
