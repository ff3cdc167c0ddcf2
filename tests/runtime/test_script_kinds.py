"""Spec 6.1: decorated runs, raw requests, async runs, custom documents."""

from __future__ import annotations

import json
import threading
import time
import uuid

import pytest

DECORATED = """
import numpy as np
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType

def init(): pass

@input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
@input_schema("factor", StandardPythonParameterType(1.0), optional=True)
@output_schema(StandardPythonParameterType([1.0]))
def run(data, factor=2.0):
    assert type(data) is np.ndarray
    return (data.sum(axis=1) * factor).tolist()
"""

RAW = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init(): pass

@rawhttp
def run(request):
    ask = request.args.get("ask")
    if ask == "status":
        return AMLResponse("I am a teapot", 418, {"X-One": "a,b", "Content-Type": "text/plain"})
    if ask == "500":
        return AMLResponse({"why": "because"}, 503, json_str=True)
    if ask == "none":
        return AMLResponse(None, 200)
    if ask == "inject":
        response = AMLResponse("x", 200)
        response.headers.__dict__.setdefault("_list", []).append(("X-Bad", "a\\r\\nSet-Cookie: b"))
        return response
    if ask == "files":
        return {name: len(item.read()) for name, item in request.files.items()}
    if ask == "json":
        return request.get_json()
    if ask == "bytes":
        return AMLResponse(bytes(range(256)), 200, {"Content-Type": "image/png"})
    return {"method": request.method, "header": request.headers.get("x-foo"), "size": len(request.get_data())}
"""

ASYNC = """
import asyncio, json
now = most = 0
def init(): pass
async def run(data):
    global now, most
    now += 1
    most = max(most, now)
    await asyncio.sleep(json.loads(data))
    now -= 1
    return most
"""


@pytest.fixture(scope="module")
def decorated(launch):
    return launch.script(DECORATED).ready()


@pytest.fixture(scope="module", params=["flask", "bare"])
def raw(launch, request):
    if request.param == "flask":
        return launch.script(RAW).ready()
    path = launch.folder / uuid.uuid4().hex
    path.mkdir()
    (path / "flask.py").write_text("raise ImportError('no flask in this environment')")
    return launch.script(RAW, PYTHONPATH=str(path)).ready()


def test_decorated_run(decorated):
    assert decorated.post({"data": [[1, 2], [3, 4]]}).json == [6.0, 14.0]
    assert decorated.post({"data": [[1, 2]], "factor": 10.0}).json == [30.0]
    assert decorated.get("/score?data=[[1,2]]").json == [6.0]


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        ("{}", "text/plain", 415, "Expects Content-Type to be application/json"),
        ("{", "application/json", 400, "POST body could not be decoded as JSON: "),
        ("", "application/json", 400, "POST body is empty. Expecting a JSON dictionary."),
        ("[1]", "application/json", 400, "POST body should be a JSON dictionary."),
        ('{"x": 1}', "application/json; charset=utf-8", 400, "A value is not provided for the 'data' parameter."),
        (b'{"data": "\xff"}', "application/json", 400, "POST body could not be decoded as JSON: "),
        (b'{"data":' + b"[" * 100_000, "application/json", 400, "POST body could not be decoded as JSON: "),
        ('{"data": "text"}', "application/json", 500, "An unexpected error occurred in scoring script."),
    ],
)
def test_decorated_run_refuses(decorated, body, kind, status, message):
    answer = decorated.request("POST", "/score", body, {"Content-Type": kind})
    assert answer.status == status
    assert answer.json["message"].startswith(message)
    assert answer.headers["x-ms-run-function-failed"] == str(status == 500)


def test_swagger_of_a_decorated_run(decorated):
    found = decorated.get("/swagger.json?version=3").json["components"]["schemas"]["ServiceInput"]
    assert set(found["properties"]) == {"data", "factor"}
    assert found["example"]["data"] == [[1.0, 2.0]]
    assert decorated.get("/swagger.json").json["definitions"]["ServiceInput"] == found


def test_raw_and_decorated_together_are_refused(launch):
    text = DECORATED.replace("@input_schema", "@rawhttp\n@input_schema", 1)
    text = "from azureml.contrib.services.aml_request import rawhttp\n" + text
    server = launch.script(text)
    assert server.wait() == 3
    assert "run() cannot be decorated with both @rawhttp and @input_schema" in server.failure()["message"]


def test_raw_request(raw):
    for method in ("GET", "POST", "OPTIONS"):
        body = b"abc" if method == "POST" else None
        answer = raw.request(method, "/score", body, {"X-Foo": "bar"})
        assert answer.json == {"method": method, "header": "bar", "size": len(body or b"")}
        assert answer.headers["x-ms-run-function-failed"] == "False"
    assert raw.post({"a": 1}, "/score?ask=json").json == {"a": 1}


def test_raw_response(raw):
    answer = raw.get("/score?ask=status")
    assert (answer.status, answer.body) == (418, b"I am a teapot")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-one"] in {"a, b", "b", "a"}
    assert answer.headers["x-ms-run-function-failed"] == "False"
    assert "x-ms-run-fn-exec-ms" in answer.headers
    answer = raw.get("/score?ask=500")
    assert (answer.status, answer.json) == (503, {"why": "because"})
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert raw.get("/score?ask=none").json == {}
    answer = raw.get("/score?ask=bytes")
    assert (answer.body, answer.headers["content-type"]) == (bytes(range(256)), "image/png")


def test_a_script_cannot_split_the_response(raw):
    answer = raw.get("/score?ask=inject")
    assert "set-cookie" not in answer.headers
    assert answer.status in {200, 500}


def test_multipart_needs_flask(raw):
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n12345\r\n--b--\r\n'
    answer = raw.request("POST", "/score?ask=files", body, {"Content-Type": "multipart/form-data; boundary=b"})
    if answer.status == 200:
        assert answer.json == {"f": 5}
    else:
        time.sleep(0.1)
        assert "request.files needs flask" in raw.log()


def test_async_run(launch):
    server = launch.script(ASYNC, PORTWAY_MAX_CONCURRENCY="2", SCORING_TIMEOUT_MS="1000").ready()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(server.post("0.2").json)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(answers) == 2
    answer = server.post("5")
    assert (answer.status, answer.json) == (500, {"message": "Scoring timeout after 1000 ms"})


def test_the_users_own_document_wins(launch):
    own = {"swagger": "2.0", "mine": True}
    server = launch.folder_of(
        {"score.py": "def init(): pass\ndef run(d): return d", "swagger2.json": json.dumps(own)}, "score.py"
    ).ready()
    assert server.get("/swagger.json").json == own
    assert server.get("/swagger.json?version=3").json["openapi"] == "3.0.3"


def test_entry_module_is_main_by_default(launch):
    server = launch.folder_of({"main.py": "def init(): pass\ndef run(d): return __name__"}, "").ready()
    assert server.post({}).json == "main"
