"""Killing any part, while clients score without a pause: predictions go on, and the part comes back."""

import os
import signal
import time
from pathlib import Path

import pytest

from bench.clients import Load, under_load, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]
HEALTHY_S = 40


@pytest.fixture(scope="module")
def key(product, echo):
    key = product.endpoint("iris")
    product.deploy("iris", "blue", count=2, environmentVariables={"COLOUR": "blue"}, **echo)
    product.traffic("iris", blue=100)
    until(lambda: product.score("iris", key, {})[0] == 200, 10, "a first prediction")
    return key


@pytest.fixture
def load(product, key):
    with under_load(Load(product.http, "/e/iris/score", key, pause_s=0.005)) as made:
        until(lambda: made.sent > 20, 20, "the clients run")
        yield made


def kill(product, part):
    pids = product.pids(part)
    assert pids, f"{part} does not run"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids


def back(product, part, old):
    until(lambda: set(product.pids(part)) - set(old), HEALTHY_S, f"{part} starts again")
    until(lambda: healthy(product), HEALTHY_S, "everything is up again")


def healthy(product):
    try:
        parts = product.health()["parts"]
    except (OSError, TypeError, KeyError):
        return False
    return all(part["up"] for name, part in parts.items() if name != "mlflow")


def replicas_of(product):
    """(name, state, restarts) as the database has them."""
    import sqlite3

    with sqlite3.connect(f"file:{product.home / 'portway.sqlite3'}?mode=ro", uri=True) as link:
        return sorted(link.execute("select name, state, restarts from compute_replica").fetchall())


def goes_on(load, seconds=1.5):
    before = load.sent
    time.sleep(seconds)
    assert load.sent > before


@pytest.mark.parametrize("part", ["web", "worker", "controller", "broker"])
def test_a_killed_part_fails_no_prediction(product, load, part):
    replicas = product.replicas()
    old = kill(product, part)
    goes_on(load)
    back(product, part, old)
    load.stop()
    assert load.failures == []
    assert product.replicas() == replicas


def test_work_goes_on_after_the_broker_came_back(product, key):
    product.endpoint("later")
    product.rest("DELETE", "onlineEndpoints/later")


def test_a_killed_gateway_costs_only_its_own_gap(product, load):
    old = kill(product, "gateway")
    killed_at = time.monotonic()
    back(product, "gateway", old)
    until(lambda: answers(product, load), 30, "predictions")
    answering = time.monotonic()
    goes_on(load)
    load.stop()
    late = [failure for failure in load.failures if failure.at > answering]
    print(f"gateway killed: {len(load.failures)} failures in the first {load.failures[-1].at - killed_at:.2f} s")
    assert late == []


def answers(product, load):
    try:
        return product.score("iris", load.key, {})[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("which", ["server", "shim"])
def test_a_killed_replica_fails_only_what_it_was_answering(product, load, which):
    before = product.replicas()
    name, victim = min(before.items())
    os.kill(victim[which], signal.SIGKILL)
    until(lambda: product.replicas().get(name, victim)["server"] != victim["server"], 30, "a new process")
    until(lambda: all(state == "ready" for _, state, _ in replicas_of(product)), 60, "both ready")
    goes_on(load)
    load.stop()
    print(f"{which} killed: {len(load.failures)} of {load.sent} failed")
    assert len(load.failures) <= load.connections
    others = {each: record for each, record in product.replicas().items() if each != name}
    assert others == {each: record for each, record in before.items() if each != name}


def test_a_database_that_is_away_for_seconds(product, load):
    files = [product.home / f"portway.sqlite3{suffix}" for suffix in ("", "-wal", "-shm")]
    there = [file for file in files if file.exists()]
    replicas = product.replicas()
    for file in there:
        file.rename(file.with_name("away." + file.name))
    try:
        goes_on(load, 6.0)
    finally:
        for file in files:
            file.unlink(missing_ok=True)
        for file in there:
            file.with_name("away." + file.name).rename(file)
    until(lambda: healthy(product), HEALTHY_S, "everything is up again")
    load.stop()
    assert load.failures == []
    assert product.replicas() == replicas
    product.endpoint("after")


def test_a_locked_database(product, load):
    import sqlite3

    link = sqlite3.connect(product.home / "portway.sqlite3", isolation_level=None)
    link.execute("BEGIN EXCLUSIVE")
    try:
        goes_on(load, 5.0)
    finally:
        link.rollback()
        link.close()
    until(lambda: healthy(product), HEALTHY_S, "everything is up again")
    load.stop()
    assert load.failures == []


def test_killed_whole_and_started_again_adopts_the_replicas(product, load):
    """`portway up` and its supervisor are gone at once; the next `up` finds Envoy and replicas as they were."""
    replicas, rows = product.replicas(), replicas_of(product)
    product.process.kill()
    product.process.wait(10)
    until(lambda: not set(product.pids("web")), 30, "the supervisor stops the parts")
    product.up()
    until(lambda: healthy(product), HEALTHY_S, "everything is up again")
    until(lambda: answers(product, load), 30, "predictions")
    load.stop()
    print(f"up killed: {len(load.failures)} of {load.sent} failed")
    assert product.replicas() == replicas
    assert replicas_of(product) == rows


def test_a_killed_supervisor_leaves_the_data_plane(product, load):
    """Its parts run on; `portway up` says that it ended, and the next one takes over without a restarted replica."""
    supervisor = next(pid for pid in product.pids() if b"supervisord" in Path(f"/proc/{pid}/cmdline").read_bytes())
    replicas = product.replicas()
    os.kill(supervisor, signal.SIGKILL)
    assert product.process.wait(60) == 1
    assert "supervisor ended" in product.said()
    goes_on(load)
    assert load.failures == []
    product.up()
    until(lambda: healthy(product), HEALTHY_S, "everything is up again")
    goes_on(load)
    load.stop()
    print(f"supervisor killed: {len(load.failures)} of {load.sent} failed")
    assert product.replicas() == replicas


def test_an_operation_cut_off_by_down_ends_after_the_next_start(product, key, echo):
    body = {"location": "local", "properties": {"authMode": "Key"}}
    product.rest("PUT", "onlineEndpoints/cut", body)
    deployment = {
        "location": "local", "sku": {"name": "Default", "capacity": 2},
        "properties": {"endpointComputeType": "Managed", "instanceType": "small", **echo},
    }  # fmt: skip
    product.rest("PUT", "onlineEndpoints/cut/deployments/blue", deployment, wait=False)
    time.sleep(0.3)
    assert product.command("down", timeout_s=90).returncode == 0
    product.process.wait(10)
    assert product.pids() == []
    product.up()
    path = "onlineEndpoints/cut/deployments/blue"
    until(lambda: product.rest("GET", path)["properties"]["provisioningState"] == "Succeeded", 90, "the deployment")
