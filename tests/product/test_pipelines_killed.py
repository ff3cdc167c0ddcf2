"""Pipelines in the whole product, over REST, while its parts are killed: each step's outputs are whole, and once."""

import os
import random
import signal
import time

import pytest

from bench.clients import until
from bench.product import SHORT
from tests.product.conftest import PLAIN

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ROUNDS = 6
PARTS = ("worker", "controller", "broker", "web")
DATA = {"type": "uri_folder"}
STEPS = ("one", "two", "three")
COMMAND = (
    "sleep 0.5; cat ${{inputs.data}}/* > ${{outputs.out}}/lines; "
    'echo "$(hostname) ${{inputs.word}}" >> ${{outputs.out}}/lines'
)


@pytest.fixture(scope="module")
def pipes(product):
    """A batch endpoint whose pipeline has three steps in a row, and the folder of the store."""
    environment = product.register("environments", "bare", "1", condaFile=PLAIN)
    size = {"vmSize": "small", "vmPriority": "Dedicated"}
    scale = {"minNodeCount": 0, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT30S"}
    body = {"computeType": "AmlCompute", "properties": {**size, "scaleSettings": scale}}
    product.rest("PUT", "computes/cpu", {"location": "local", "properties": body})
    step = {
        "type": "command",
        "command": COMMAND,
        "environment": environment,
        "inputs": {"data": DATA, "word": {"type": "string"}},
        "outputs": {"out": DATA},
    }
    product.register("components", "append", "1", componentSpec=step)
    sources = ["${{parent.inputs.data}}", *(f"${{{{parent.jobs.{name}.outputs.out}}}}" for name in STEPS)]
    jobs = {
        name: {
            "type": "command",
            "component": "azureml:append:1",
            "inputs": {"data": source, "word": "${{parent.inputs.word}}"},
        }
        for name, source in zip(STEPS, sources, strict=False)
    }
    jobs["three"]["outputs"] = {"out": "${{parent.outputs.out}}"}
    outer = {"type": "pipeline", "inputs": step["inputs"], "outputs": step["outputs"], "jobs": jobs}
    component = product.register("components", "thrice", "1", componentSpec=outer)
    product.rest("PUT", "batchEndpoints/pipes", {"location": "local", "properties": {"authMode": "AADToken"}})
    configuration = {
        "deploymentConfigurationType": "PipelineComponent",
        "componentId": {"referenceType": "Id", "assetId": component},
        "settings": {"default_compute": "cpu"},
    }
    properties = {"deploymentConfiguration": configuration}
    product.rest("PUT", "batchEndpoints/pipes/deployments/blue", {"location": "local", "properties": properties})
    product.rest("PATCH", "batchEndpoints/pipes", {"properties": {"defaults": {"deploymentName": "blue"}}})
    pk = product.django("from apps.accounts.models import *; print(Workspace.objects.get(name='default').pk)").strip()
    store = product.home / "artifacts" / "blobs" / pk.splitlines()[-1]
    (store / "in").mkdir(parents=True)
    (store / "in" / "a.txt").write_text("start\n")
    return store


def invoke(product, word):
    token = (product.home / "secrets" / "sdk-token").read_text().strip()
    data = {"JobInputType": "UriFolder", "Uri": "azureml://datastores/workspaceblobstore/paths/in"}
    inputs = {"data": data, "word": {"JobInputType": "Literal", "Value": word}}
    body = {"properties": {"InputData": inputs}}
    status, _, answer = product.request("POST", "/batch/pipes/jobs", body, {"Authorization": f"Bearer {token}"})
    assert status == 201, answer
    return answer["name"]


def healthy(product):
    try:
        return product.request("GET", f"{SHORT}/jobs")[0] in {200, 401}
    except OSError:
        return False


def ended(product, name):
    if not healthy(product):
        return None
    found = product.rest("GET", f"jobs/{name}")["properties"]
    return found if found["status"] in {"Completed", "Failed", "Canceled"} else None


def test_killing_any_part_loses_and_doubles_no_step(product, pipes):
    dice = random.Random(20261122)  # the same moments each time, as far as the machine allows
    for number in range(ROUNDS):
        until(lambda: healthy(product), 60, "the front door answers")
        name = invoke(product, f"round{number}")
        for part in (PARTS[number % len(PARTS)], dice.choice(PARTS)) if number else ():
            time.sleep(dice.uniform(0.05, 2))
            for pid in product.pids(part)[:3]:
                os.kill(pid, signal.SIGKILL)
        until(lambda name=name: ended(product, name), 120, f"{name} ends")
        found = ended(product, name)
        assert found["status"] == "Completed", found
        lines = (pipes / f"azureml/{name}/out/lines").read_text().split("\n")
        assert [line.split()[-1] for line in lines if line] == ["start", *[f"round{number}"] * len(STEPS)]
