"""Batch workers that hang, crash, print without end or leave processes behind, and the parent that outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from .batch_client import alive, children_of, descriptors, rss, wait_until

SCRIPT = """
import ctypes, multiprocessing, os, subprocess, sys, threading, time

def init():
    pass

def run(files):
    name, _, rest = files[0].partition(":")
    if name == "segfault":
        ctypes.string_at(0)
    if name == "exit":
        print("last words", flush=True)
        os._exit(int(rest))
    if name == "kill":
        os.kill(os.getpid(), 9)
    if name == "loop":
        while True:
            pass
    if name == "native":
        ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock
    if name == "children":
        one = subprocess.Popen(["sleep", "1000"])
        two = os.fork()
        if not two:
            time.sleep(1000)
        threading.Thread(target=time.sleep, args=(1000,)).start()
        return [one.pid, two]
    if name == "daemons":
        one = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        out = subprocess.run(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE)
        return [one.pid, int(out.stdout)]
    if name == "print":
        line = "x" * 99
        for _ in range(int(rest)):
            print(line)
        return [rest]
    if name == "forever":
        while True:
            print("again and again")
    if name == "long":
        sys.stdout.write("y" * 40000 + "\\nafter\\n")
        ctypes.CDLL(None).puts(b"native text")
        ctypes.CDLL(None).fflush(None)
        subprocess.run(["sh", "-c", "echo of a child; echo error >&2"])
        print("no end", end="", flush=True)
        return []
    if name == "halfway":
        # What it answers does not fit into the socket, so it dies in the middle of it.
        threading.Timer(0.5, os._exit, (9,)).start()
        return ["z" * 50_000_000]
    if name == "atexit":
        return [os.getpgid(0), os.getsid(0), len(os.listdir("/proc/self/fd"))]
    return files
"""


@pytest.fixture(scope="module")
def node(nodes):
    return nodes.script(SCRIPT).ready()


def gone(node, pid):
    wait_until(lambda: pid not in children_of(node.child.pid) and not alive(pid))


@pytest.mark.parametrize(
    ("ask", "code", "words"),
    [
        ("segfault", -11, "Fatal Python error: Segmentation fault"),
        ("exit:0", 0, "last words"),
        ("exit:7", 7, "last words"),
        ("kill", -9, ""),
    ],
)
def test_a_sudden_end_is_told(node, ask, code, words):
    with node.client(4) as client:
        client.ask(ask)
        ended = client.frame()["ended"]
        assert ended["exit"] == code
        assert words in ended["evidence"]
        assert ended["message"]
        with pytest.raises(EOFError):
            client.frame()
    gone(node, client.first["pid"])


def test_a_crash_names_the_line_of_the_script(node):
    with node.client() as client:
        client.ask("segfault")
        evidence = client.frame()["ended"]["evidence"]
    line = SCRIPT.split("\n").index("        ctypes.string_at(0)") + 1
    assert f'score.py", line {line} in run' in evidence


def test_an_end_in_init(nodes):
    node = nodes.script("import os\ndef init(): os._exit(5)\ndef run(f): return f").ready()
    with node.client() as client:
        assert client.first["ended"]["exit"] == 5


@pytest.mark.parametrize("ask", ["loop", "native", "forever"])
@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_a_hang_up_ends_the_worker(node, ask, how):
    client = node.client()
    client.ask(ask)
    client.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.frame()
    assert alive(client.first["pid"])
    if how == "close":
        client.close()
    else:
        client.sock.shutdown(1)
    wait_until(lambda: client.first["pid"] not in node.workers(), 10)
    client.close()
    with node.client() as other:
        assert other.run("a")[0]["ok"]


def test_a_hang_up_while_an_answer_is_sent(node):
    client = node.client()
    client.ask("x" * 5_000_000)
    client.exactly(100)
    client.close()
    gone(node, client.first["pid"])


@pytest.mark.parametrize("ask", ["children", "daemons"])
def test_what_a_worker_started_ends_with_it(node, ask):
    with node.client() as client, node.client() as other:
        pids = [int(pid) for pid in client.run(ask)[1].split()]
        assert other.run("exit:0")[0]["ended"]
        assert all(alive(pid) for pid in pids)
    gone(node, client.first["pid"])
    wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize("ask", ["children", "daemons"])
def test_what_a_crashed_worker_started_ends_too(node, ask):
    with node.client() as client:
        pids = [int(pid) for pid in client.run(ask)[1].split()]
        client.ask("exit:1")
        assert client.frame()["ended"]["exit"] == 1
        wait_until(lambda: not any(alive(pid) for pid in pids))


def test_an_end_in_mid_answer_closes_without_a_frame(node):
    with node.client() as client:
        client.ask("halfway")
        answer = client.frame()
        gone(node, client.first["pid"])
        got = bytearray()
        while part := client.sock.recv(1 << 20):
            got += part
        assert len(got) < answer["size"]
        assert set(got) == {ord("z")}


def test_output_in_lines(node):
    with node.client(12) as client:
        client.run("long")
        wait_until(lambda: ["12", "e", "error"] in node.lines())
    gone(node, client.first["pid"])
    wait_until(lambda: ["12", "o", "no end"] in node.lines())
    mine = [line for line in node.lines() if line[0] == "12"]
    long = [line[2] for line in mine if line[2].startswith("y")]
    assert [len(line) for line in long] == [16384, 16384, 40000 - 2 * 16384]
    assert {"after", "native text", "of a child"} <= {line[2] for line in mine if line[1] == "o"}


def test_much_output_passes_and_no_memory_grows(nodes):
    node = nodes.script(SCRIPT).ready()
    before = rss(node.child.pid)
    with node.client() as client:
        client.run("print:2000000")  # 200 MB
        wait_until(lambda: node.log_size() >= 2_000_000 * len("0\to\t" + "x" * 99 + "\n"))
    assert rss(node.child.pid) - before < 20_000
    node.out.truncate(0)


def test_a_slow_reader_of_the_output_holds_nobody_up(nodes, tmp_path):
    """Nobody reads the parent's output: printing workers wait, the others work, a hang-up still ends each."""
    read, write = os.pipe()
    node = nodes.script(SCRIPT, out=write).ready()
    os.close(write)
    with node.client() as loud, node.client() as quiet:
        loud.ask("forever")
        time.sleep(0.5)
        assert quiet.run("a")[1] == "a\n"
        assert rss(node.child.pid) < 60_000
        loud.close()
        wait_until(lambda: loud.first["pid"] not in node.workers(), 10)
        assert quiet.run("b")[1] == "b\n"
    os.close(read)
    assert node.stop() == 0


def test_nobody_reads_the_output_any_more(nodes):
    read, write = os.pipe()
    node = nodes.script(SCRIPT, out=write).ready()
    os.close(write)
    os.close(read)
    with node.client() as client:
        assert client.run("print:100000")[0]["ok"]


def test_a_worker_is_alone(node):
    with node.client() as one, node.client() as two:
        group, session, _ = map(int, two.run("atexit")[1].split())
        assert group == session == two.first["pid"] != one.first["pid"]
        assert os.path.realpath(f"/proc/{two.first['pid']}/fd/0") == "/dev/null"
        # Streams, the connection and the directory it lists: nothing of the parent's, nothing of its sibling's.
        sockets = [name for name in descriptors(two.first["pid"]) if name.startswith("socket:")]
        assert len(sockets) == 1


def test_nothing_is_left_of_a_thousand_connections(nodes):
    node = nodes.script("def init(): pass\ndef run(f): return f").ready()
    with node.client() as client:
        client.run("a")
    wait_until(lambda: not node.workers())
    before, size = descriptors(node.child.pid), rss(node.child.pid)
    for number in range(1000):
        with node.client(number) as client:
            if number % 10 == 0:
                client.run("a")
    wait_until(lambda: not node.workers())
    wait_until(lambda: set(descriptors(node.child.pid)) <= set(before))
    assert rss(node.child.pid) - size < 5_000


def test_connections_that_say_nothing(node):
    import socket

    for _ in range(20):
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(str(node.socket))
        silent.close()
    with node.client() as client:
        assert client.run("a")[0]["ok"]
        wait_until(lambda: node.workers() == [client.first["pid"]])


def test_sigterm_ends_all(nodes):
    node = nodes.script(SCRIPT).ready()
    clients = [node.client(number) for number in range(3)]
    pids = [client.first["pid"] for client in clients]
    clients[0].ask("native")
    assert node.stop() == 0
    assert not any(alive(pid) for pid in pids)
    assert not node.socket.exists()
    assert clients[1].frame()["ended"]["exit"] == -signal.SIGTERM


def test_sigterm_does_not_wait_for_the_stubborn(nodes):
    script = """
    import signal, time
    def init(): signal.signal(signal.SIGTERM, signal.SIG_IGN)
    def run(f): time.sleep(1000)
    """
    node = nodes.script(script).ready()
    client = node.client()
    client.ask("a")
    assert node.stop() == 0
    assert client.frame()["ended"]["exit"] == -signal.SIGKILL
    assert not alive(client.first["pid"])


def test_a_killed_parent_takes_its_workers_along(nodes):
    node = nodes.script(SCRIPT).ready()
    clients = [node.client() for _ in range(2)]
    clients[0].ask("native")
    node.child.kill()
    node.child.wait(10)
    wait_until(lambda: not any(alive(client.first["pid"]) for client in clients))
    with pytest.raises(EOFError):
        clients[1].frame()


def test_a_stale_socket_is_replaced(nodes):
    node = nodes.script("def init(): pass\ndef run(f): return f")
    node.ready()
    node.child.kill()
    node.child.wait(10)
    assert node.socket.exists()
    node.child = subprocess.Popen(node.child.args, env=node.env, stdout=node.out)

    def answers():
        try:
            with node.client() as client:
                return client.run("a")[0]["ok"]
        except ConnectionRefusedError:
            return False

    wait_until(answers)
