"""The promise of the data plane: whatever is changed or killed, no request fails that need not."""

import os
import signal
import threading
import time

import pytest

from bench.clients import Load, under_load, until
from bench.memory import proportional_mib

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]
REQUESTS = 10_000
CONNECTIONS = 16


@pytest.fixture(scope="module")
def two(product, echo):
    """Two deployments with two replicas each, all traffic on blue; the key."""
    key = product.endpoint("shift")
    for name in ("blue", "green"):
        product.deploy("shift", name, count=2, environmentVariables={"COLOUR": name}, **echo)
    product.traffic("shift", blue=100)
    until(lambda: product.score("shift", key, {})[0] == 200, 10, "a first prediction")
    return key


def replicas_of_deployment(product, name):
    """Running replicas whose orders carry that deployment's label."""
    import json

    found = {}
    for replica, record in product.replicas().items():
        orders = json.loads((product.home / "replicas" / replica / "spec.json").read_text())
        if orders["labels"].get("deployment") == name:
            found[replica] = record
    return found


def test_ten_thousand_requests_through_shift_roll_and_kill(product, two, echo):
    load = Load(product.http, "/e/shift/score", two, connections=CONNECTIONS, limit=REQUESTS)
    killed_at = []

    def changes():
        for step in range(1, 6):
            product.traffic("shift", blue=100 - 10 * step, green=10 * step)
        victim = min(replicas_of_deployment(product, "blue").items())[1]
        killed_at.append(time.monotonic())
        os.kill(victim["server"], signal.SIGKILL)
        product.deploy("shift", "green", count=2, environmentVariables={"COLOUR": "green2"}, **echo)
        for step in range(6, 11):
            product.traffic("shift", blue=100 - 10 * step, green=10 * step)

    worker = threading.Thread(target=changes)
    with under_load(load):
        until(lambda: load.sent > 200, 60, "the clients run")
        load.limit = None  # on until all changes are made, and 10,000 are done
        worker.start()
        worker.join(240)
        assert not worker.is_alive()
        until(lambda: load.sent >= REQUESTS, 180, f"{REQUESTS} requests")
    print(f"{load.sent} requests, {load.answers}, {len(load.failures)} failed: {load.failures[:3]}")
    assert len(load.failures) <= CONNECTIONS
    assert all(abs(failure.at - killed_at[0]) < 5 for failure in load.failures), load.failures
    assert set(load.answers) == {'"blue"', '"green"', '"green2"'}
    answers = {product.score("shift", two, {})[1] for _ in range(20)}
    assert answers == {"green2"}


@pytest.mark.parametrize("cached", [False, True], ids=["built", "cached"])
def test_from_a_registered_script_to_its_first_answer(product, echo, two, cached):
    """Without a network the packages come from uv's cache; the environment itself is a new one."""
    name = "again" if cached else "fresh"
    started = time.monotonic()
    environment = product.register(
        "environments", name, "1", condaFile="dependencies: [python=3.11, pip, {pip: [packaging]}]\n"
    )
    product.deploy("shift", name, **{**echo, "environmentId": environment})
    answer = product.request(
        "POST", "/e/shift/score", {}, {"Authorization": f"Bearer {two}", "azureml-model-deployment": name}
    )
    assert (answer[0], answer[2]) == (200, "none")
    print(f"environment {'cached' if cached else 'built'}: {time.monotonic() - started:.2f} s")


def test_the_control_plane_fits_into_its_memory(product, two):
    """Without replicas and the MLflow server; bench measures, this only catches a part that grows out of all bounds."""
    sizes = {
        part: sum(map(proportional_mib, product.pids(part)))
        for part in ("web", "worker", "controller", "gateway", "broker")
    }
    print({part: round(size) for part, size in sizes.items()})
    assert all(0 < size < 500 for size in sizes.values()), sizes
