"""Batch: throughput beside a plain pool of the same workers, a job of 100,000 files, short jobs of an MLflow model."""

from __future__ import annotations

import csv
import json
import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.memory import proportional_mib
from bench.product import SHORT, Product
from bench.rows import Bench, Row

WORKERS = 2
BUSY = """
import hashlib
def init():
    pass
def run(files):
    rows = []
    for path in files:
        with open(path, "rb") as stream:
            data = stream.read()
        for _ in range(6000):
            data = hashlib.sha256(data).digest()
        rows.append(data.hex())
    return rows
"""
IDLE = "def init():\n    pass\ndef run(files):\n    return [len(files)]\n"
CHUNK = 10
SHORT_FILES = 60
SHORT_ROUNDS = 2  # the first is without byte code in a new environment
ENDPOINT = {"location": "local", "properties": {"authMode": "AADToken"}}


def batch(bench: Bench) -> Iterator[Row]:
    product = bench.product
    if product.process is None:
        product.up()
    make(product, bench.folder)
    yield from beside_a_pool(product, bench)
    yield from many_files(product)


def make(product: Product, folder: Path) -> None:
    environment = product.register("environments", "bare", "1", condaFile="dependencies: [python=3.11]\n")
    compute_id = cluster(product, "bench", 1)
    product.rest("PUT", "batchEndpoints/bench", ENDPOINT)
    for name, script in (("busy", BUSY), ("idle", IDLE)):
        source = folder / name
        source.mkdir()
        (source / "score.py").write_text(script)
        code = product.register("codes", f"batch-{name}", "1", codeUri=f"file://{source}")
        properties = {
            "codeConfiguration": {"codeId": code, "scoringScript": "score.py"},
            "environmentId": environment,
            "compute": compute_id,
            "resources": {"instanceCount": 1},
            "miniBatchSize": CHUNK,
            "maxConcurrencyPerInstance": WORKERS,
        }
        product.rest("PUT", f"batchEndpoints/bench/deployments/{name}", {"location": "local", "properties": properties})


def cluster(product: Product, name: str, nodes: int) -> str:
    """Its id."""
    size = {"vmSize": "small", "vmPriority": "Dedicated"}
    scale = {"minNodeCount": 0, "maxNodeCount": nodes, "nodeIdleTimeBeforeScaleDown": "PT60S"}
    compute = {"computeType": "AmlCompute", "properties": {**size, "scaleSettings": scale}}
    return str(product.rest("PUT", f"computes/{name}", {"location": "local", "properties": compute})["id"])


def short(bench: Bench) -> Iterator[Row]:
    """60 files of tables and the demo's MLflow model: processes out of a template against ones that import."""
    product = bench.running()
    tables(product, bench.call["body"]["input_data"])
    compute = cluster(product, "short", 2)
    model = f"file://{product.home / 'uploads' / 'demo' / 'blue'}"
    properties = {
        "model": {
            "referenceType": "Id",
            "assetId": product.register("models", "bench-short", "1", modelUri=model, modelType="mlflow_model"),
        },
        "compute": compute,
        "miniBatchSize": 2,
    }
    product.rest("PUT", "batchEndpoints/short", ENDPOINT)
    for nodes, processes in ((1, 4), (2, 2)):
        for way, variables in (("warm", {}), ("cold", {"WORKER_PRELOAD_TIMEOUT": "0"})):
            more = {"resources": {"instanceCount": nodes}, "maxConcurrencyPerInstance": processes}
            body = {"location": "local", "properties": {**properties, **more, "environmentVariables": variables}}
            product.rest("PUT", f"batchEndpoints/short/deployments/{way}{nodes}", body)
        took: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
        for _ in range(SHORT_ROUNDS):
            for way, found in took.items():
                started = time.monotonic()
                name = run_job(product, f"{way}{nodes}", "tables", endpoint="short")
                found.append((time.monotonic() - started, first_handed(product, name)))
        (cold, cold_first), (warm, warm_first) = (min(found) for found in took.values())
        what = f"60 files, MLflow, {nodes} x {processes} processes"
        yield Row(f"{what}: done, imports in each", f"{cold:.1f} s", f"first mini-batch after {cold_first:.1f} s")
        yield Row(f"{what}: done, imports shared", f"{warm:.1f} s", f"first mini-batch after {warm_first:.1f} s")
        yield Row(f"{what}: ratio", f"{cold / warm:.1f} x", "≥ 1.5 x")


def tables(product: Product, data: dict[str, Any]) -> None:
    for path in sorted(fill(product, "tables", SHORT_FILES).iterdir()):
        with path.with_suffix(".csv").open("w", newline="") as file:
            csv.writer(file).writerows([data["columns"], *data["data"]])
        path.unlink()


def first_handed(product: Product, name: str) -> float:
    """Seconds from the first node until a process took a mini-batch."""
    started, handed = one(
        product,
        "select j.started_at, (select min(b.started_at) from batch_minibatch b where b.job_id = j.id) "
        "from batch_job j where j.name = ?",
        name,
    )
    return (datetime.fromisoformat(handed) - datetime.fromisoformat(started)).total_seconds()


def beside_a_pool(product: Product, bench: Bench) -> Iterator[Row]:
    folder = fill(product, "busy", 3000)
    scale = 0.0
    for _ in range(max(1, bench.rounds - 1)):
        pool = in_a_pool(folder)
        name = run_job(product, "busy", "busy")
        job = lasted(product, name)
        scale = max(scale, pool / job)
    yield Row("batch throughput, part of a plain multiprocessing pool's", f"{scale:.2f}", "≥ 0.9")


def in_a_pool(folder: Path) -> float:
    """Seconds of the same run() over the same mini-batches."""
    files = sorted(str(each) for each in folder.iterdir())
    chunks = [files[at : at + CHUNK] for at in range(0, len(files), CHUNK)]
    started = time.monotonic()
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        count = sum(len(each) for each in pool.imap(_run, chunks))
    took = time.monotonic() - started
    if count != len(files):
        raise AssertionError(f"{count} rows of {len(files)}")
    return took


def _run(files: list[str]) -> list[str]:
    names: dict[str, Any] = {}
    exec(BUSY, names)
    rows: list[str] = names["run"](files)
    return rows


def many_files(product: Product) -> Iterator[Row]:
    fill(product, "many", 100_000)
    before = sum(proportional_mib(pid) for pid in product.pids("worker"))
    name = run_job(product, "idle", "many")
    after = sum(proportional_mib(pid) for pid in product.pids("worker"))
    total, listing = one(
        product,
        "select j.total, (julianday(s.finished_at) - julianday(s.started_at)) * 86400 from batch_job j "
        "join core_operation o on o.target = 'job/' || j.name join core_operationstep s on s.operation_id = o.id "
        "where j.name = ? and o.kind = 'job.prepare' and s.name = 'input'",
        name,
    )
    yield Row("100,000 files: listing", f"{listing:.1f} s", "≤ 10 s")
    yield Row("100,000 files: overhead per mini-batch", f"{lasted(product, name) * 1000 / total:.2f} ms", "≤ 5 ms")
    yield Row("100,000 files: memory of the worker grows by", f"{after - before:.0f} MiB")
    slowest = max(
        timed(product, f"{SHORT}/jobs/{name}{rest}") for rest in ("", "/miniBatches", "/miniBatches?state=failed")
    )
    yield Row("100,000 files: slowest of the job's requests", f"{slowest:.0f} ms", "≤ 300 ms")


def fill(product: Product, name: str, count: int) -> Path:
    (workspace,) = one(product, "select id from accounts_workspace where name = 'default'")
    folder = product.home / "artifacts" / "blobs" / str(workspace) / name
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:06d}.txt").write_text(str(number))
    return folder


def headers(product: Product) -> dict[str, str]:
    token = (product.home / "secrets" / "sdk-token").read_text().strip()
    return {"Authorization": f"Bearer {token}"}


def run_job(product: Product, deployment: str, folder: str, *, endpoint: str = "bench") -> str:
    """Submit and wait; its name."""
    uri = f"azureml://datastores/workspaceblobstore/paths/{folder}"
    body = {"properties": {"InputData": {"data": {"JobInputType": "UriFolder", "Uri": uri}}}}
    ask = {**headers(product), "azureml-model-deployment": deployment}
    status, _, answer = product.request("POST", f"/batch/{endpoint}/jobs", body, ask)
    if status != 201:
        raise AssertionError(f"{status} {answer}")
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        state, error = one(product, "select state, error from batch_job where name = ?", answer["name"])
        if state == "Completed":
            return str(answer["name"])
        if state in {"Failed", "Canceled"}:
            raise AssertionError(f"the job is {state}: {json.loads(error or '{}')}")
        time.sleep(0.05)
    raise AssertionError("the job did not end in time")


def lasted(product: Product, name: str) -> float:
    """Seconds from the first node to the results."""
    started, ended = one(product, "select started_at, ended_at from batch_job where name = ?", name)
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()


def timed(product: Product, path: str) -> float:
    """Milliseconds of a request, the best of three."""
    best = 1e9
    for _ in range(3):
        started = time.monotonic()
        status, _, answer = product.request("GET", path, None, headers(product))
        if status != 200:
            raise AssertionError(f"{path}: {status} {answer}")
        best = min(best, (time.monotonic() - started) * 1000)
    return best


def one(product: Product, text: str, *values: Any) -> Any:
    with sqlite3.connect(f"file:{product.home / 'portway.sqlite3'}?mode=ro", uri=True, timeout=20) as link:
        return link.execute(text, values).fetchone()
