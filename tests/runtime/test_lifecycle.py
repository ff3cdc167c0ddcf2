# ruff: noqa: E501 -- a table reads best with one line for each row
"""How the server starts, fails to start, dies and stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from .conftest import BOOT

GOOD = """
import json, os, time
def init(): pass
def run(data):
    ask = json.loads(data)
    if "exit" in ask: os._exit(ask["exit"])
    if "segv" in ask:
        import ctypes
        ctypes.string_at(0)
    time.sleep(ask.get("sleep", 0))
    return os.getpid() if "pid" in ask else ask
"""


@pytest.mark.parametrize(
    ("script", "exit_code", "code", "message", "evidence"),
    [
        ("import nosuchthing\n", 3, "UserScriptImportError", "nosuchthing", "score.py:1 in <module>: ModuleNotFoundError"),
        ("def init(:\n", 3, "UserScriptImportError", "could not be imported", "score.py:1: SyntaxError"),
        ("import sys; sys.exit(0)\n", 3, "UserScriptImportError", "SystemExit", "score.py:1"),
        ("def run(d): pass\n", 3, "UserScriptFunctionNotFound", "has no init()", "score.py: init is not defined"),
        ("def init(): pass\n", 3, "UserScriptFunctionNotFound", "has no run()", "score.py: run is not defined"),
        ("def init():\n  x = {}\n  x['gone']\ndef run(d): pass\n", 3, "UserScriptInitFailed", "KeyError: 'gone'", "score.py:3 in init: KeyError: 'gone'"),
        ("def init(): pass\ndef run(*a): pass\n", 3, "UserScriptFunctionNotFound", "run() cannot accept positional-only arguments, *args, or **kwargs.", ""),
        ("def init(): pass\ndef run(a, /): pass\n", 3, "UserScriptFunctionNotFound", "positional-only", ""),
        ("def init(): pass\ndef run(d, **k): pass\n", 3, "UserScriptFunctionNotFound", "**kwargs", ""),
        ("def init(): pass\ndef run(): pass\n", 3, "UserScriptFunctionNotFound", "run() needs to accept an argument for input data.", ""),
        ("def init(): pass\ndef run(request_headers): pass\n", 3, "UserScriptFunctionNotFound", 'other than "request_headers"', ""),
        ("import os\ndef init(): os._exit(1)\ndef run(d): pass\n", 1, "UserScriptInitFailed", "without a Python exception", ""),
        ("import ctypes\ndef init(): ctypes.string_at(0)\ndef run(d): pass\n", -signal.SIGSEGV, "UserScriptInitFailed", "without a Python exception", ""),
        ("import os\nos._exit(0)\n", 0, "UserScriptImportError", "without a Python exception", ""),
    ],
)  # fmt: skip
def test_failed_starts(launch, script, exit_code, code, message, evidence):
    server = launch.script(script)
    assert server.wait() == exit_code, server.log()
    failure = server.failure()
    assert failure["code"] == code
    assert message in failure["message"]
    assert evidence in failure["evidence"]
    assert not server.socket.exists()
    if exit_code == 3 and code != "UserScriptFunctionNotFound":
        assert "Traceback (most recent call last)" in server.log() or "SyntaxError" in server.log()


def test_missing_script(launch):
    server = launch.folder_of({"other.py": ""}, "score.py")
    assert server.wait() == 3
    assert server.failure()["code"] == "UserScriptImportError"


@pytest.mark.parametrize("env", [{"WORKER_COUNT": "two"}, {"PORTWAY_BIND": "5001"}, {"SCORING_TIMEOUT_MS": "-1"}])
def test_bad_settings(launch, env):
    server = launch.script(GOOD, **env)
    assert server.wait() == 3
    assert server.failure()["code"] == "BadArgument"
    assert next(iter(env)) in server.failure()["message"]


def test_folder_without_mlmodel(launch, tmp_path):
    server = launch.mlflow(tmp_path)
    assert server.wait() == 3
    assert server.failure()["code"] == "ModelLoadFailed"


@pytest.mark.parametrize(("ask", "code"), [('{"exit": 7}', 7), ('{"segv": 1}', -signal.SIGSEGV)])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_death_while_serving_ends_the_replica(launch, ask, code, workers):
    server = launch.script(GOOD, WORKER_COUNT=workers, PORTWAY_MAX_CONCURRENCY="2").ready()
    with pytest.raises((ConnectionError, OSError)):
        server.post(ask)
    assert server.wait(15) == code


def test_graceful_stop(launch):
    server = launch.script(GOOD).ready()
    idle = server.connection()
    idle.request("GET", "/")
    idle.getresponse().read()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.post({"sleep": 1.0})))
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert server.stop() == 0
    assert 0.4 < time.monotonic() - began < 3
    thread.join()
    assert (answers[0].status, answers[0].json) == (200, {"sleep": 1.0})
    assert not server.socket.exists()
    idle.close()


def test_stop_during_a_long_init(launch):
    server = launch.script(
        "import time\ndef init():\n  print('in init', flush=True)\n  time.sleep(30)\ndef run(d): pass\n"
    )
    while "in init" not in server.log():
        time.sleep(0.05)
    assert server.stop() == 0
    assert server.failure() is None


def test_timeout_answers_and_keeps_the_slot(launch):
    server = launch.script(GOOD, SCORING_TIMEOUT_MS="300").ready()
    began = time.monotonic()
    answer = server.post({"sleep": 1.2})
    assert 0.25 < time.monotonic() - began < 0.9
    assert (answer.status, answer.json) == (500, {"message": "Scoring timeout after 300 ms"})
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert server.post({"a": 1}).json == {"a": 1}  # waited for the slot, and its own waiting did not count
    assert time.monotonic() - began > 1.1
    assert "keeps its slot" in server.log()


def test_several_workers(launch):
    server = launch.script(GOOD, WORKER_COUNT="2", PORTWAY_MAX_CONCURRENCY="2").ready()
    seen = {server.post({"pid": 1}).json for _ in range(40)}
    assert server.child.pid not in seen
    assert 1 <= len(seen) <= 2
    assert server.stop() == 0, server.log()
    assert all(not Path(f"/proc/{pid}").exists() for pid in seen)


def test_workers_end_with_a_killed_parent(launch):
    server = launch.script(GOOD, WORKER_COUNT="2", PORTWAY_MAX_CONCURRENCY="2").ready()
    pid = server.post({"pid": 1}).json
    server.child.kill()
    server.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_failed_init_with_workers(launch):
    server = launch.script(
        "def init(): raise ValueError('no')\ndef run(d): pass\n", WORKER_COUNT="2", PORTWAY_MAX_CONCURRENCY="2"
    )
    assert server.wait(20) == 3
    assert server.failure()["code"] == "UserScriptInitFailed"
    assert not server.socket.exists()


def test_listens_on_tcp(launch):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    server = launch.script(GOOD, PORTWAY_BIND=f"127.0.0.1:{port}")
    import urllib.request

    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as got:
                assert got.read() == b"Healthy"
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert server.stop() == 0


def test_overlay_is_last_and_serves_without_granian_in_the_environment(tmp_path):
    """The real layout: a bare environment without granian, packages from an overlay built by our own function."""
    from runtime.overlay import COMPLETE, ensure_overlay

    python = Path(sys.executable)
    overlay = ensure_overlay(python, tmp_path / "store", Path("/nonexistent/uv"))  # copied, no network
    assert (overlay / COMPLETE).is_file()
    assert ensure_overlay(python, tmp_path / "store", Path("/nonexistent/uv")) == overlay
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True, timeout=60)
    code = tmp_path / "code"
    code.mkdir()
    (code / "score.py").write_text(
        "import sys\ndef init(): pass\ndef run(d): return [sys.path.index(sys.argv[0] or '') if 0 else sys.path[-1],"
        " __import__('granian').__file__]\n"
    )
    sock = Path(f"/tmp/pwo{os.getpid()}")
    sock.mkdir()
    env = {
        "PORTWAY_OVERLAY": str(overlay),
        "PORTWAY_SOCKET_DIR": str(sock),
        "AML_APP_ROOT": str(code),
        "AZUREML_ENTRY_SCRIPT": "score.py",
    }
    child = subprocess.Popen([str(tmp_path / "env/bin/python"), str(BOOT)], env=env)
    try:
        deadline = time.monotonic() + 20
        while not (sock / "m.sock").exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(sock / "m.sock"))
            client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
            got = b""
            while chunk := client.recv(65536):
                got += chunk
        assert got.count(str(overlay).encode()) == 2
    finally:
        child.terminate()
        child.wait(10)
        for path in sock.iterdir():
            path.unlink()
        sock.rmdir()
