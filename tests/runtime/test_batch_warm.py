"""Workers out of a template that has imported their packages, and what becomes of them when it cannot."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor

from .batch_client import BOOT, alive, children_of, descriptors, rss, wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns about its own type hints while it is imported
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import infer_signature

pytestmark = pytest.mark.filterwarnings("ignore")

FRAME = pd.DataFrame(np.random.default_rng(3).normal(size=(50, 3)), columns=list("abc"))
COLD = "packages are not imported for all workers at once"
PROBE = """
import os, sys, threading
import mlflow.pyfunc
import numpy as np


class Probe(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        what = model_input["what"].iloc[0]
        if what == "process":
            found = [os.getppid(), os.getpgid(0), os.getsid(0), threading.active_count()]
        elif what == "random":
            found = [np.random.random()]
        elif what == "environment":
            found = [name for name in os.environ if "ARROW" in name] or ["none"]
        elif what == "daemon":
            if os.fork() == 0:
                os.setsid()
                os.closerange(0, 100)
                while True:
                    __import__("time").sleep(1)
            found = [0]
        elif what == "segfault":
            __import__("ctypes").string_at(0)
        return ["/".join(map(str, found))] * len(model_input)


mlflow.models.set_model(Probe())
"""
FIRST = """
import os, sys, pathlib

marker = pathlib.Path(__file__).with_name("was-here")
if not marker.exists():
    marker.touch()
    {what}
sys.path.remove(str(pathlib.Path(__file__).parents[1]))
del sys.modules["numpy"]
import numpy
"""
"""A numpy that does something to who imports it first, and is the real one for everybody else.

It is what the template imports first, so a patience of seconds is enough to get there on a busy machine.
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("batch-warm")
    for number in range(6):
        FRAME.iloc[number : number + 20].to_csv(found / f"{number}.csv", index=False)
    for what in ("process", "random", "environment", "daemon", "segfault"):
        (found / f"{what}.csv").write_text(f"what\n{what}\n")
    return found


@pytest.fixture(scope="module")
def forest(folder):
    model = RandomForestRegressor(5, random_state=0).fit(FRAME, FRAME["a"])
    signature = infer_signature(FRAME, model.predict(FRAME))
    path = folder / "forest"
    mlflow.sklearn.save_model(model, path, signature=signature, pip_requirements=[], serialization_format="cloudpickle")
    return path


@pytest.fixture(scope="module")
def probe(folder):
    (folder / "probe.py").write_text(PROBE)
    mlflow.pyfunc.save_model(folder / "probe", python_model=str(folder / "probe.py"), pip_requirements=[])
    return folder / "probe"


@pytest.fixture(scope="module")
def warm(nodes, probe):
    """A node whose workers come from the template."""
    return nodes.mlflow(probe, **THREADS).ready()


THREADS = {"OPENBLAS_NUM_THREADS": "1"}


def template_of(node):
    """The child that a node has without any connection, if it is warm."""
    (found,) = node.workers()
    return found


def answer(client, folder, what):
    found, text = client.run(folder / f"{what}.csv")
    assert found["ok"], found
    return text.split(",")[1]


def scored(node, folder):
    with node.client() as one, node.client(1) as two:
        assert one.first.get("ready"), one.first
        return [client.run(*(folder / f"{number}.csv" for number in range(6)))[1] for client in (one, two)]


def test_warm_and_cold_give_identical_rows(nodes, folder, forest):
    warm = nodes.mlflow(forest, **THREADS).ready()
    cold = nodes.mlflow(forest, WORKER_PRELOAD_TIMEOUT="0", **THREADS).ready()
    assert cold.workers() == []
    template = template_of(warm)
    one, two = scored(warm, folder)
    assert [one, two] == scored(cold, folder)
    assert len(one.splitlines()) == 6 * 20
    assert template_of(warm) == template
    assert COLD not in warm.log() + cold.log()


def test_a_worker_out_of_the_template_is_the_nodes_own(warm, folder):
    template = template_of(warm)
    with warm.client(3) as client, warm.client(4) as other:
        parent, group, session, threads = map(int, answer(client, folder, "process").split("/"))
        assert parent == warm.child.pid
        assert group == session == client.first["pid"] != other.first["pid"]
        assert threads == 1
        assert answer(client, folder, "environment") == "none"
        assert answer(client, folder, "random") != answer(other, folder, "random")
        assert sorted(warm.workers()) == sorted([template, client.first["pid"], other.first["pid"]])
        for pid in (client.first["pid"], other.first["pid"]):
            assert len([name for name in descriptors(pid) if name.startswith("socket:")]) == 1
            assert os.path.realpath(f"/proc/{pid}/fd/0") == "/dev/null"
    wait_until(lambda: warm.workers() == [template])
    assert children_of(template) == []


def test_a_crash_of_a_worker_out_of_the_template_is_told(warm, folder):
    with warm.client(7) as client:
        client.ask(folder / "segfault.csv")
        ended = client.frame()["ended"]
        assert ended["exit"] == -signal.SIGSEGV
        assert "Segmentation fault" in ended["evidence"]
    wait_until(lambda: len(warm.workers()) == 1)


def test_what_such_a_worker_started_ends_with_it(warm, folder):
    with warm.client() as client:
        answer(client, folder, "daemon")
        (daemon,) = children_of(client.first["pid"])
    wait_until(lambda: not alive(daemon))
    wait_until(lambda: len(warm.workers()) == 1)


def test_nothing_is_left_of_many_connections(warm):
    template = template_of(warm)
    before = {pid: (descriptors(pid), rss(pid)) for pid in (warm.child.pid, template)}
    for number in range(300):
        with silent(warm):
            pass
        if number % 30 == 0:  # one that is served, and so holds the next ones back until the node has caught up
            wait_until(lambda: served(warm))
    wait_until(lambda: warm.workers() == [template])
    wait_until(lambda: all(set(descriptors(pid)) <= set(before[pid][0]) for pid in before))
    assert children_of(template) == []
    wait_until(lambda: all(rss(pid) - before[pid][1] < 5_000 for pid in before))


def served(node):
    """Whether a connection got a worker: a node that is behind with many may end one at once."""
    try:
        with node.client() as client:
            return client.first.get("ready")
    except (EOFError, ConnectionError):
        return False


def silent(node):
    found = socket.socket(socket.AF_UNIX)
    found.connect(str(node.socket))
    return found


@pytest.mark.parametrize(
    ("what", "patience", "why"),
    [
        ("raise ImportError('not at the first time')", "60", "ImportError: not at the first time"),
        ("os._exit(3)", "60", "ended with exit 3"),
        ("import ctypes; ctypes.string_at(0)", "60", f"ended with exit {-signal.SIGSEGV}"),
        ("import time; time.sleep(1000)", "5", "it took longer than 5 s"),
        ("import ctypes; ctypes.PyDLL(None).sleep(1000)", "5", "it took longer than 5 s"),
        ("import os, time; os.closerange(3, 1000); time.sleep(1000)", "5", "it took longer than 5 s"),
        ("import threading, time; threading.Thread(target=time.sleep, args=(1000,)).start()", "60", "started threads"),
    ],
)
def test_imports_that_do_not_work_out_are_done_by_the_workers(nodes, folder, forest, tmp_path, what, patience, why):
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text(FIRST.format(what=what))
    node = nodes.mlflow(forest, PYTHONPATH=str(tmp_path), WORKER_PRELOAD_TIMEOUT=patience, **THREADS).ready()
    with node.client() as client:
        assert client.first.get("ready"), client.first
        assert client.run(folder / "0.csv")[0]["rows"] == 20
        wait_until(lambda: node.workers() == [client.first["pid"]])  # nothing else is left
    (said,) = [line[2] for line in node.lines() if COLD in line[2]]
    assert why in said


def test_what_a_failed_import_says_comes_from_the_worker(nodes, forest, tmp_path):
    (tmp_path / "mlflow.py").write_text("print('about to fail')\nraise ImportError('never')")
    node = nodes.mlflow(forest, PYTHONPATH=str(tmp_path), **THREADS).ready()
    with node.client(2) as client:
        failed = client.first["failed"]
    assert failed["code"] == "ModelLoadFailed"
    assert "MLflow cannot be imported in the model's environment (never)" in failed["message"]
    assert "mlflow.py:2" in failed["evidence"]
    wait_until(lambda: ["2", "o", "about to fail"] in node.lines())


def test_a_killed_template_leaves_its_workers_and_later_ones_import(nodes, folder, probe):
    node = nodes.mlflow(probe, **THREADS).ready()
    template = template_of(node)
    with node.client() as one:
        os.kill(template, signal.SIGKILL)
        wait_until(lambda: not alive(template))
        with node.client(1) as two:
            assert answer(two, folder, "random")
            assert answer(one, folder, "process").split("/")[0] == str(node.child.pid)
    wait_until(lambda: node.workers() == [])
    assert [line[2] for line in node.lines() if COLD in line[2]]
    assert node.stop() == 0


@pytest.fixture
def impatient(tmp_path):
    """Our program with little patience for a fork."""
    made = Path(shutil.copytree(BOOT.parent, tmp_path / "runtime"))
    template = made / "batch" / "template.py"
    text, count = re.subn(r"^_PATIENCE_S = .*$", "_PATIENCE_S = 1.0", template.read_text(), flags=re.MULTILINE)
    assert count == 1
    template.write_text(text)
    return made / BOOT.name


def test_a_stopped_template_holds_nobody_up_for_long(nodes, folder, probe, impatient):
    node = nodes.mlflow(probe, boot=impatient, **THREADS).ready()
    template = template_of(node)
    os.kill(template, signal.SIGSTOP)
    with pytest.raises((EOFError, ConnectionError)):
        node.client()
    wait_until(lambda: not alive(template))
    with node.client() as client:
        assert answer(client, folder, "process").split("/")[0] == str(node.child.pid)
        wait_until(lambda: node.workers() == [client.first["pid"]])


def test_a_killed_node_takes_template_and_workers_along(nodes, probe):
    node = nodes.mlflow(probe, **THREADS).ready()
    template = template_of(node)
    with node.client() as one, node.client(1) as two:
        node.child.kill()
        node.child.wait(10)
        wait_until(lambda: not any(map(alive, (template, one.first["pid"], two.first["pid"]))))


def test_sigterm_ends_all(nodes, probe):
    node = nodes.mlflow(probe, **THREADS).ready()
    template = template_of(node)
    with node.client() as client:
        assert node.stop() == 0
        assert not alive(template)
        assert not alive(client.first["pid"])
        assert client.frame()["ended"]["exit"] == -signal.SIGTERM


def test_sigterm_while_packages_are_imported(nodes, forest, tmp_path):
    (tmp_path / "mlflow.py").write_text(
        textwrap.dedent("""
            import ctypes, pathlib
            pathlib.Path(__file__).with_name("was-here").touch()
            ctypes.PyDLL(None).sleep(1000)
        """)
    )
    node = nodes.mlflow(forest, PYTHONPATH=str(tmp_path), **THREADS)
    wait_until((tmp_path / "was-here").exists)
    template = template_of(node)
    assert node.stop() == 0
    assert not alive(template)
    assert not Path(node.socket).exists()


@pytest.mark.parametrize("text", ["-1", "soon", "1.5", "99999"])
def test_a_patience_that_is_none(nodes, forest, text):
    node = nodes.mlflow(forest, WORKER_PRELOAD_TIMEOUT=text)
    assert node.child.wait(60) == 3
    assert "WORKER_PRELOAD_TIMEOUT" in node.log()
