"""Spec 7.2: batch scripts in workers. What run() is given, what it may return, how a script fails."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from .batch_client import Client, wait_until

SCRIPT = """
import asyncio, json, logging, os, sys
import numpy as np
import pandas as pd

class Odd:
    def __str__(self):
        return "two\\nlines"

class Unprintable:
    def __str__(self):
        raise ValueError("no text")

RETURNS = {
    "list": lambda: [1, "b", 2.5, None, {"k": [1]}, Odd()],
    "tuple": lambda: ("a", "b"),
    "text": lambda: ["a,\\"x\\ny\\""],
    "array": lambda: np.array([1.5, 2, 3], dtype="float32"),
    "matrix": lambda: np.array([[1, 2], [3, 4]]),
    "wide": lambda: [np.zeros(2000)],
    "series": lambda: pd.Series([1, 2], index=["x", "y"]),
    "frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x\\ny", "z,z"]}),
    "emptylist": lambda: [],
    "emptyframe": lambda: pd.DataFrame({"a": []}),
    "none": lambda: None, "str": lambda: "abc", "dict": lambda: {"a": 1}, "scalar": lambda: np.float64(1),
    "zero": lambda: np.array(5), "generator": lambda: (x for x in "ab"),
    "unprintable": lambda: [Unprintable()],
    "surrogate": lambda: ["\\udc80", "\\u00e9"],
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt),
    "raise": lambda: [][1],
    "long": lambda: (_ for _ in ()).throw(RuntimeError("x" * 100000)),
    "deep": lambda: deep(),
    "big": lambda: ["x" * 99] * 500_000,
    "huge": lambda: ["x" * 2**20] * 64,
    "argv": lambda: sys.argv, "env": lambda: [os.environ["AZUREML_BI_PROCESS"], os.environ["AZUREML_BI_OUTPUT_PATH"]],
    "modules": lambda: [[p for p in sys.path if p.endswith("/runtime")], OURS & set(sys.modules)],
    "inits": lambda: [INITS],
    "fork": lambda: ["child" if os.fork() == 0 else "parent"],
    "chdir": lambda: [os.getcwd()],
}
INITS = 0
OURS = {"boot", "batch", "runtime"}

def deep():
    return deep()

def init():
    global INITS
    INITS += 1
    print("hello from init")

def run(mini_batch):
    assert type(mini_batch) is list
    name = os.path.basename(mini_batch[0]) if mini_batch else ""
    if name in RETURNS:
        return RETURNS[name]()
    logging.getLogger("mine").info("scoring %d files", len(mini_batch))
    return [open(f).read() for f in mini_batch] if os.path.exists(name or "/x") else mini_batch
"""


@pytest.fixture(scope="module")
def node(nodes, tmp_path_factory):
    return nodes.script(SCRIPT, AZUREML_BI_OUTPUT_PATH=str(tmp_path_factory.mktemp("bi"))).ready()


@pytest.fixture(scope="module")
def client(node):
    with node.client(7) as found:
        assert found.first.get("ready") is True, found.first
        assert found.first["pid"] in node.workers()
        yield found


@pytest.mark.parametrize(
    ("kind", "rows", "text"),
    [
        ("list", 6, "1\nb\n2.5\nNone\n{'k': [1]}\ntwo lines\n"),
        ("tuple", 2, "a\nb\n"),
        ("text", 1, 'a,"x\ny"\n'),
        ("array", 3, "1.5\n2.0\n3.0\n"),
        ("matrix", 2, "[1 2]\n[3 4]\n"),
        ("series", 2, "1\n2\n"),
        ("frame", 2, '1,"x\ny"\n2,"z,z"\n'),
        ("emptylist", 0, ""),
        ("emptyframe", 0, ""),
        ("surrogate", 2, "\\udc80\né\n"),
        ("env", 2, None),
        ("inits", 1, "1\n"),
    ],
)
def test_what_run_may_return(client, kind, rows, text):
    answer, found = client.run(f"/data/{kind}")
    assert (answer["ok"], answer["rows"]) == (True, rows), answer
    assert answer["size"] == len(found.encode())
    assert answer["ms"] >= 0
    if text is not None:
        assert found == text


def test_long_arrays_lose_nothing(client):
    _, text = client.run("wide")
    assert text.count("0.") == 2000
    assert text.count("\n") == 1


@pytest.mark.parametrize("kind", ["none", "str", "dict", "scalar", "zero", "generator"])
def test_what_it_may_not_return(client, kind):
    answer, text = client.run(kind)
    assert answer["ok"] is False
    assert answer["error"]["code"] == "BadResult"
    assert text == ""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("raise", "IndexError: list index out of range"),
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("deep", "RecursionError: "),
        ("unprintable", "ValueError: no text"),
    ],
)
def test_a_failed_run_names_the_line(client, kind, message):
    error = client.run(kind)[0]["error"]
    assert error["code"] == "RunFailed"
    assert error["message"].startswith(message)
    assert error["evidence"].startswith("score.py:")
    assert "score.py" in error["trace"]
    assert "runtime/batch/worker.py" not in error["trace"]
    assert client.run("/a/b")[1] == "/a/b\n"  # it stays usable


def test_errors_are_bounded(client):
    error = client.run("long")[0]["error"]
    assert len(json.dumps(error)) < 25_000


def test_a_large_result(client):
    answer, text = client.run("big")
    assert answer["rows"] == 500_000
    assert len(text) == 50_000_000


def test_a_result_that_is_too_large_is_a_bad_result(client):
    answer, text = client.run("huge")
    assert answer["error"]["code"] == "BadResult"
    assert "make mini_batch_size smaller" in answer["error"]["message"]
    assert text == ""


def test_environment_and_arguments(client, node):
    number, output = client.run("env")[1].splitlines()
    assert number == "7"
    assert Path(output).is_dir()
    script, *more = client.run("argv")[1].splitlines()
    assert script.endswith("/score.py")
    assert more == ["--logging_level", "INFO"]
    assert client.run("modules")[1] == "[]\nset()\n"
    assert ["7", "o", "hello from init"] in node.lines()


def test_root_logger_has_the_level(client, node):
    client.run("/nothing/here")
    wait_until(
        lambda: any(line[1] == "e" and "|INFO|" in line[2] and "scoring 1 files" in line[2] for line in node.lines())
    )


def test_unicode_and_undecodable_names(client):
    names = ["/data/ü ∂ 中/файл.txt", os.fsdecode(b"/data/\xff.txt")]
    answer, text = client.run(*names)
    assert answer["rows"] == 2
    assert text == "/data/ü ∂ 中/файл.txt\n/data/\\udcff.txt\n"


def test_an_empty_mini_batch(client):
    assert client.run()[0]["rows"] == 0


def test_a_forked_run_does_not_answer_twice(node):
    with node.client() as client:
        assert client.run("fork")[1] == "parent\n"
        assert client.run("inits")[1] == "1\n"


def test_each_connection_has_a_worker(node):
    with node.client(1) as one, node.client(2) as two:
        assert one.first["pid"] != two.first["pid"]
        assert one.run("env")[1].startswith("1\n")
        assert two.run("env")[1].startswith("2\n")


def test_summary_only_sends_no_rows(nodes):
    node = nodes.script("def init(): pass\ndef run(files): return files", PORTWAY_BATCH_OUTPUT="summary_only").ready()
    with node.client() as client:
        answer, text = client.run("a", "b")
        assert (answer["rows"], answer["size"], text) == (2, 0, "")


def test_async_functions_share_one_loop(nodes):
    script = """
    import asyncio
    async def init(): await asyncio.sleep(0)
    lock = None
    async def run(files):
        global lock
        lock = lock or asyncio.get_running_loop()
        assert lock is asyncio.get_running_loop()
        return files
    """
    with nodes.script(script).ready().client() as client:
        assert client.run("a")[1] == "a\n"
        assert client.run("b")[1] == "b\n"


def test_a_script_sets_its_own_logging(nodes):
    script = """
    import argparse, logging
    parser = argparse.ArgumentParser()
    parser.add_argument("--logging_level")
    logging.basicConfig(level=parser.parse_args().logging_level, format="mine %(message)s")
    def init(): logging.debug("loud")
    def run(files): return files
    """
    node = nodes.script(script, PORTWAY_BATCH_LOGGING_LEVEL="debug").ready()
    with node.client(3):
        wait_until(lambda: ["3", "e", "mine loud"] in node.lines())


@pytest.mark.parametrize(
    ("script", "code", "evidence"),
    [
        ("import nothing_like_it", "UserScriptImportError", "score.py:1"),
        ("def init(:", "UserScriptImportError", "score.py:1: SyntaxError"),
        ("def init(): pass", "UserScriptFunctionNotFound", "run is not defined"),
        ("def init(): pass\ndef run(): pass", "UserScriptFunctionNotFound", "run()"),
        ("def run(x): pass", "UserScriptFunctionNotFound", "init is not defined"),
        ("def init():\n    1 / 0\ndef run(x): pass", "UserScriptInitFailed", "score.py:2 in init: ZeroDivisionError"),
        ("def init(): raise SystemExit(2)\ndef run(x): pass", "UserScriptInitFailed", "SystemExit"),
    ],
)
def test_failed_starts(nodes, script, code, evidence):
    node = nodes.script(script).ready()
    with node.client() as client:
        failed = client.first["failed"]
        assert failed["code"] == code
        assert evidence in failed["evidence"]
        assert failed["message"]
        with pytest.raises(EOFError):
            client.frame()
    wait_until(lambda: not node.workers())
    assert node.child.poll() is None


def test_a_missing_script_and_a_bad_number(nodes):
    node = nodes.script("", name="other.txt").ready()
    with node.client() as client:
        assert client.first["failed"]["code"] == "UserScriptImportError"
    for number in (-1, "x", True, 1 << 40):
        with node.client(number) as client:
            assert client.first["failed"]["code"] == "BadArgument"


@pytest.mark.parametrize(
    "env", [{"PORTWAY_BATCH_OUTPUT": "rows"}, {"PORTWAY_BATCH_LOGGING_LEVEL": "loud"}, {"PORTWAY_BIND": "nowhere"}]
)
def test_settings_that_cannot_be_meant(nodes, env):
    node = nodes.script("", **env)
    assert node.child.wait(30) == 3
    assert json.loads((node.sock_dir / "failure.json").read_text())["code"] == "BadArgument"
    assert node.log().startswith("-\te\tBadArgument: ")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 0),
        struct.pack(">I", 1 << 30),
        struct.pack(">I", 3) + b"abc",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 4) + b"\xff\xfe\x00\x00",
    ],
)
def test_a_bad_frame_closes_only_its_connection(node, client, data):
    with node.client() as bad:
        bad.sock.sendall(data)
        with pytest.raises((EOFError, ConnectionResetError)):
            bad.frame()
    assert client.run("inits")[1] == "1\n"


def test_tcp(nodes, unused_port):
    node = nodes.script("def init(): pass\ndef run(f): return f", PORTWAY_BIND=f"127.0.0.1:{unused_port}")

    def connected():
        try:
            return Client(("127.0.0.1", unused_port))
        except ConnectionRefusedError:
            return None

    clients = []
    wait_until(lambda: clients.append(connected()) or clients[-1])
    assert clients[-1].run("a")[1] == "a\n"
    pid = clients[-1].first["pid"]
    clients[-1].close()
    wait_until(lambda: pid not in node.workers())
    assert node.stop() == 0


@pytest.fixture
def unused_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]
