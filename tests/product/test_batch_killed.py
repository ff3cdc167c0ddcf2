"""Killing any part at random moments of batch work: every job completes, with each row once."""

import json
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from bench.clients import until
from bench.product import SHORT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
ROUNDS = 20
FILES = 240
PARTS = ("node", "worker", "controller", "broker", "web")
SCRIPT = """
import os, time
def init():
    time.sleep(0.1)
def run(files):
    time.sleep(0.03)
    return [os.path.basename(each) for each in files]
"""


@pytest.fixture(scope="module")
def forests(product, folder):
    """A batch endpoint with a script that takes its time, and the input's address."""
    (folder / "batch").mkdir()
    (folder / "batch" / "score.py").write_text(SCRIPT)
    code = product.register("codes", "names", "1", codeUri=f"file://{folder / 'batch'}")
    environment = product.register("environments", "bare", "1", condaFile="dependencies: [python=3.11]\n")
    size = {"vmSize": "small", "vmPriority": "Dedicated"}
    scale = {"minNodeCount": 0, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT2S"}
    body = {"computeType": "AmlCompute", "properties": {**size, "scaleSettings": scale}}
    compute = product.rest("PUT", "computes/cpu", {"location": "local", "properties": body})["id"]
    product.rest("PUT", "batchEndpoints/forests", {"location": "local", "properties": {"authMode": "AADToken"}})
    properties = {
        "codeConfiguration": {"codeId": code, "scoringScript": "score.py"},
        "environmentId": environment,
        "compute": compute,
        "resources": {"instanceCount": 2},
        "miniBatchSize": 3,
        "maxConcurrencyPerInstance": 2,
        "retrySettings": {"maxRetries": 3, "timeout": "PT30S"},
    }
    product.rest("PUT", "batchEndpoints/forests/deployments/blue", {"location": "local", "properties": properties})
    product.rest("PATCH", "batchEndpoints/forests", {"properties": {"defaults": {"deploymentName": "blue"}}})
    (blobs,) = database(product, "select id from accounts_workspace where name = 'default'")
    place = product.home / "artifacts" / "blobs" / str(blobs[0]) / "in"
    place.mkdir(parents=True)
    for number in range(FILES):
        (place / f"f{number:04d}.txt").write_text(str(number))
    return "azureml://datastores/workspaceblobstore/paths/in"


def database(product, text, *values):
    with sqlite3.connect(f"file:{product.home / 'portway.sqlite3'}?mode=ro", uri=True, timeout=20) as link:
        return link.execute(text, values).fetchall()


def invoke(product, uri):
    token = (product.home / "secrets" / "sdk-token").read_text().strip()
    body = {"properties": {"InputData": {"data": {"JobInputType": "UriFolder", "Uri": uri}}}}
    status, _, answer = product.request("POST", "/batch/forests/jobs", body, {"Authorization": f"Bearer {token}"})
    assert status == 201, answer
    return answer["name"]


def victims(product, part):
    if part != "node":
        return product.pids(part)
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
        except OSError:
            continue
        if b"batch_boot.py" in line and str(product.home).encode() in line:
            found.append(int(folder.name))
    return found


def state(product, name):
    return database(product, "select state, done, failed, total, error from batch_job where name = ?", name)[0]


def rows(product, name):
    (outputs,) = database(product, "select outputs, workspace_id from batch_job where name = ?", name)
    path = json.loads(outputs[0])["score"]["uri"].partition("/paths/")[2]
    return (product.home / "artifacts" / "blobs" / str(outputs[1]) / path / "predictions.csv").read_text().split()


def healthy(product):
    try:
        return product.request("GET", f"{SHORT}/jobs")[0] in {200, 401}
    except OSError:
        return False


def test_twenty_rounds_of_kill_9_lose_and_double_no_row(product, forests):
    dice = random.Random(20261122)  # the same moments each time, as far as the machine allows
    killed = dict.fromkeys(PARTS, 0)
    for number in range(ROUNDS):
        until(lambda: healthy(product), 60, "the front door answers")
        name = invoke(product, forests)
        for part in (PARTS[number % len(PARTS)], dice.choice(PARTS)):
            time.sleep(dice.uniform(0.05, 1.5))
            for pid in victims(product, part)[:3]:
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed[part] += 1
                except ProcessLookupError:
                    continue
        until(lambda name=name: state(product, name)[0] in {"Completed", "Failed", "Canceled"}, 90, f"{name} ends")
        assert state(product, name)[:4] == ("Completed", FILES // 3, 0, FILES // 3), state(product, name)
        assert rows(product, name) == [f"f{each:04d}.txt" for each in range(FILES)]
    assert all(killed.values()), killed
