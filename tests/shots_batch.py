"""Batch work for the pictures: what the pages of tests/e2e/gate.py name, made over REST and really run."""

from __future__ import annotations

from typing import Any

from bench.clients import until
from bench.product import Failed, Product

FILES, POISONED = 240, (13, 14, 77, 130, 131, 201)
PAUSES = {"blue": ("0.1", 2), "green": ("20", 1)}  # seconds for a mini-batch of the deployment, nodes
STORE = "azureml://datastores/workspaceblobstore/paths"
INPUT = {"data": {"JobInputType": "UriFolder", "Uri": "azureml:tiles:1"}}
SCRIPT = """
import os, pathlib, time

def init():
    print("pausing", os.environ["PAUSE"], "s for each mini-batch")
def run(tiles):
    time.sleep(float(os.environ["PAUSE"]))
    return [score(pathlib.Path(each)) for each in tiles]

def score(tile):
    heights = [float(line.split(",")[2]) for line in tile.read_text().splitlines()[1:]]
    return f"{tile.name},{sum(heights) / len(heights):.2f}"
"""
DATA = {"type": "uri_folder"}
LEVEL = {"type": "integer", "default": 3, "min": 1, "max": 9}
SORT = "cat ${{inputs.data}}/*.csv | sort -n > ${{outputs.out}}/sorted.csv"
COUNT = "(echo level ${{inputs.level}}; wc -l ${{inputs.data}}/*) > ${{outputs.out}}/count.txt"
WORKSPACE = "from apps.accounts.models import *; print(Workspace.objects.get(name='default').pk)"
BATCHES_DONE = "from apps.batch.models import *; print(Job.objects.get(name='job-2').done)"
# beside those of the gate
PAGES = {
    "job-running": "/w/default/jobs/job-2",
    "job-pipeline": "/w/default/jobs/job-3",
    "data-file": "/w/default/data/tiles?path=tile-0000.csv",
}


def make(product: Product) -> None:
    """Everything, with `job-1` and `job-3` ended and `job-2` running for some minutes."""
    tiles(product)
    environment = product.register("environments", "bare", "1", condaFile="dependencies: [python=3.11]\n")
    compute = cluster(product)
    forests(product, environment, compute)
    rivers(product, environment)
    invoke(product, "forests", "blue", "job-1", INPUT, displayName="Tiles of November")
    completed(product, "job-1")
    invoke(product, "rivers", "blue", "job-3", INPUT | {"level": {"JobInputType": "Literal", "Value": "4"}})
    completed(product, "job-3")
    bay_and_schedule(product)
    invoke(product, "forests", "green", "job-2", INPUT)
    until(lambda: product.django(BATCHES_DONE).split()[-1] != "0", 90, "job-2 has scored something")


def tiles(product: Product) -> None:
    """A folder of small tables in the workspace's own store, some of them broken, as the data asset `tiles`."""
    place = product.home / "artifacts" / "blobs" / product.django(WORKSPACE).split()[-1] / "tiles"
    place.mkdir(parents=True)
    for number in range(FILES):
        rows = [f"{x},{y},{(number * 7 + x * y) % 90 + 0.5}" for x in range(4) for y in range(3)]
        rows += ["1,2,clouds"] if number in POISONED else []
        (place / f"tile-{number:04}.csv").write_text("\n".join(["x,y,height", *rows, ""]))
    product.register("data", "tiles", "1", dataType="uri_folder", dataUri=f"{STORE}/tiles", description="Heights")


def cluster(product: Product) -> str:
    scale = {"minNodeCount": 0, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT5M"}
    properties = {"vmSize": "small", "vmPriority": "Dedicated", "scaleSettings": scale}
    body = {"location": "local", "properties": {"computeType": "AmlCompute", "properties": properties}}
    return str(product.rest("PUT", "computes/cpu", body)["id"])


def forests(product: Product, environment: str, compute: str) -> None:
    source = product.home.parent / "forests"
    source.mkdir()
    (source / "score.py").write_text(SCRIPT)
    code = product.register("codes", "heights", "1", codeUri=f"file://{source}")
    for name, (pause, nodes) in PAUSES.items():
        properties = {
            "codeConfiguration": {"codeId": code, "scoringScript": "score.py"},
            "environmentId": environment,
            "environmentVariables": {"PAUSE": pause},
            "compute": compute,
            "resources": {"instanceCount": nodes},
            "miniBatchSize": 4,
            "maxConcurrencyPerInstance": 2,
            "retrySettings": {"maxRetries": 1, "timeout": "PT30S"},
        }
        deploy(product, "forests", name, properties)


def rivers(product: Product, environment: str) -> None:
    step = {"type": "command", "environment": environment, "inputs": {"data": DATA}, "outputs": {"out": DATA}}
    counted = step | {"command": COUNT, "inputs": {"data": DATA, "level": LEVEL}}
    product.register("components", "sort", "1", componentSpec=step | {"command": SORT})
    product.register("components", "count", "1", componentSpec=counted)
    inputs = {"data": "${{parent.jobs.sort.outputs.out}}", "level": "${{parent.inputs.level}}"}
    outputs = {"out": "${{parent.outputs.out}}"}
    jobs = {
        "sort": {"type": "command", "component": "azureml:sort:1", "inputs": {"data": "${{parent.inputs.data}}"}},
        "count": {"type": "command", "component": "azureml:count:1", "inputs": inputs, "outputs": outputs},
    }
    graph = {"type": "pipeline", "inputs": counted["inputs"], "outputs": step["outputs"], "jobs": jobs}
    component = product.register("components", "rivers", "1", componentSpec=graph)
    configuration = {
        "deploymentConfigurationType": "PipelineComponent",
        "componentId": {"referenceType": "Id", "assetId": component},
        "settings": {"default_compute": "cpu"},
    }
    deploy(product, "rivers", "blue", {"deploymentConfiguration": configuration})


def deploy(product: Product, endpoint: str, name: str, properties: dict[str, Any]) -> None:
    """A deployment of a batch endpoint; `blue` comes first and is the default."""
    path = f"batchEndpoints/{endpoint}"
    product.rest("PUT", path, {"location": "local", "properties": {"authMode": "AADToken"}})
    product.rest("PUT", f"{path}/deployments/{name}", {"location": "local", "properties": properties})
    product.rest("PATCH", path, {"properties": {"defaults": {"deploymentName": "blue"}}})


def bay_and_schedule(product: Product) -> None:
    secrets = {"credentialsType": "AccountKey", "accessKeyId": "AKIA1", "secrets": {"key": "never used"}}
    where = {"bucketName": "our-bay", "endpoint": "https://s3.example.com", "region": "eu-central-1"}
    product.rest("PUT", "datastores/bay", {"properties": {"datastoreType": "S3", **where, "credentials": secrets}})
    definition = {"batchEndpoint": "forests", "properties": {"inputData": INPUT}}
    trigger = {"triggerType": "Cron", "expression": "30 2 * * mon-fri", "timeZone": "Europe/Berlin"}
    action = {"actionType": "InvokeBatchEndpoint", "endpointInvocationDefinition": definition}
    properties = {"displayName": "Scores of the night", "trigger": trigger, "action": action}
    product.rest("PUT", "schedules/nightly", {"properties": properties})


def invoke(product: Product, endpoint: str, deployment: str, name: str, data: dict[str, Any], **more: Any) -> None:
    token = (product.home / "secrets" / "sdk-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "azureml-model-deployment": deployment}
    body = {"properties": {"name": name, "InputData": data, **more}}
    status, _, answer = product.request("POST", f"/batch/{endpoint}/jobs", body, headers)
    if status != 201:
        raise Failed(f"{name}: {status} {answer}")


def completed(product: Product, name: str) -> None:
    def found() -> dict[str, Any]:
        return dict(product.rest("GET", f"jobs/{name}")["properties"])

    until(lambda: found()["status"] in {"Completed", "Failed", "Canceled"}, 180, f"{name} ends")
    if found()["status"] != "Completed":
        raise Failed(f"{name}: {found()}")
