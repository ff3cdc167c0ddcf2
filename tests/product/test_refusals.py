"""When Portway cannot start it says why in one line, with an exit code, and leaves nothing running."""

import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

from bench.clients import until
from bench.product import PYTHON, ROOT, Product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a small disk or changes user")


def refused(product, *words, prefix=()):
    command = [*prefix, PYTHON, "-m", "cli", "up"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=product.environment,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


def test_a_busy_port(folder):
    product = Product(folder / "busy")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", product.http))
        taken.listen()
        refused(product, str(product.http), "PORTWAY_HTTP_PORT")
    assert product.pids() == []


def test_a_port_that_is_no_number(folder):
    refused(Product(folder / "number", PORTWAY_PORT="https"), "PORTWAY_PORT", "'https'")


def test_a_file_in_the_way_of_the_home(folder):
    (folder / "file").write_text("")
    refused(Product(folder / "file"), "PORTWAY_HOME")


@root_only
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_a_home_of_somebody_else(folder):
    home = folder / "foreign"
    home.mkdir(mode=0o755)
    folder.chmod(0o755)
    product = Product(home)
    refused(product, "PORTWAY_HOME", prefix=("setpriv", "--reuid", "65534", "--clear-groups"))
    assert product.pids() == []


@root_only
def test_a_full_disk(folder):
    home = folder / "small"
    home.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(home)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        product = Product(home)
        refused(product, "full", str(home))
        assert product.pids() == []
    finally:
        subprocess.run(["umount", str(home)], check=True)


def test_a_second_one_on_the_same_home(product):
    other = Product(product.home)
    refused(other, "already", str(product.process.pid))
    assert product.health()["parts"]["database"]["up"]


def test_two_at_once_in_a_fresh_home(folder):
    """One of them runs, the other one says so."""
    pair = [Product(folder / "twice", PORTWAY_DEMO="0") for _ in range(2)]
    pair[1].output = folder / "second.out"
    try:
        for each in pair:
            each.launch()
        until(lambda: any(each.process.poll() is not None for each in pair), 30, "one gives up")
        loser, winner = sorted(pair, key=lambda each: each.process.poll() is None)
        assert loser.process.returncode == 1
        assert "already" in loser.said()
        until(lambda: "Ctrl-C" in winner.said(), 90, "the other one starts")
    finally:
        for each in pair:
            each.close()


@pytest.mark.parametrize("after_s", [0.5, 1.5, 3.0, 5.0, 8.0])
def test_ctrl_c_in_the_middle_of_a_first_start(folder, after_s):
    product = Product(folder / f"c{int(after_s * 10)}")
    process = product.launch()
    try:
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: everything in the foreground gets it
        assert process.wait(60) in {0, 130, -signal.SIGINT}  # the last: Python itself was still starting
        assert "Traceback" not in product.said()
        assert product.pids() == []
    finally:
        product.close()
