"""The rows of the table. Each yields what it measured, with the target of docs/design."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import runtime as scoring_server
from bench import studio as pages
from bench import wrk
from bench.clients import Load, under_load, until
from bench.memory import proportional_mib
from bench.product import PYTHON, ROOT, Product, free_ports

DEMO = "diabetes"
PARTS = ("supervisor", "web", "worker", "controller", "gateway", "broker", "mlflow")


@dataclass(frozen=True)
class Row:
    what: str
    value: str
    target: str = ""


@dataclass
class Bench:
    product: Product
    folder: Path
    rounds: int
    failed: bool = False
    call: dict[str, Any] = field(default_factory=dict)

    def running(self) -> Product:
        """The product with its demo, started by whichever row comes first."""
        if self.product.process is None:
            self.product.up()
        if not self.call:
            until(lambda: self.demo().get("complete"), 150, "the demo")
            self.call = self.demo()
            until(self.answers, 60, "a demo prediction")
        return self.product

    def demo(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.product.home / "demo.json").read_text()))
        except (OSError, ValueError):
            return {}

    def answers(self) -> bool:
        call = self.demo()
        try:
            return bool(call) and self.product.score(DEMO, call["key"], call["body"])[0] == 200
        except OSError:
            return False


def start(bench: Bench) -> Iterator[Row]:
    for what, target in (("first start to a demo prediction", "≤ 15 s"), ("later start to a demo prediction", "≤ 5 s")):
        started = time.monotonic()
        bench.product.launch()
        until(bench.answers, 180, what)
        answered = time.monotonic() - started
        until(lambda: "Ctrl-C" in bench.product.said(), 60, "the banner")
        yield Row(what, f"{answered:.1f} s", target)
        until(lambda: bench.demo().get("complete"), 150, "the whole demo")
        if what.startswith("first"):
            bench.product.stop()


def deploy(bench: Bench) -> Iterator[Row]:
    """The demo's model once more, under a name of its own, in an environment that is there, and in a new one."""
    product = bench.running()
    key = product.endpoint("bench")
    model = product.home / "uploads" / "demo" / "blue"
    packages = (model / "requirements.txt").read_text()
    requirements = {"cached": packages, "not cached": packages + "\npackaging\n"}
    product.deploy("bench", "warm", model=_model(bench, "warm"), environmentId=_environment(bench, "cached", packages))
    for what, target in (("cached", "≤ 3 s"), ("not cached", "≤ 20 s")):
        name = what.replace(" ", "-")
        environment = _environment(bench, name, requirements[what])
        started = time.monotonic()
        product.deploy("bench", name, model=_model(bench, name), environmentId=environment)
        headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": name}
        status, _, answer = product.request("POST", "/e/bench/score", bench.call["body"], headers)
        if status != 200:
            raise RuntimeError(f"{status} {answer}")
        yield Row(f"model registered → first 200, environment {what}", f"{time.monotonic() - started:.1f} s", target)
    product.rest("DELETE", "onlineEndpoints/bench")


def containers(bench: Bench) -> Iterator[Row]:
    """The same model in containers of a real engine, which a size of its own asks for."""
    product = bench.running()
    said = product.django(ASK_FOR_CONTAINERS)
    if "ready" not in said:
        yield Row("deployed in a container → first 200", "skipped", said.strip()[-80:] or "no container engine")
        return
    key = product.endpoint("boxes")
    for what, target in (("not cached", ""), ("cached", "≤ 4 s")):
        name = f"box-{what.replace(' ', '-')}"
        model = _model(bench, name)
        started = time.monotonic()
        product.deploy("boxes", name, model=model, instanceType="boxed")
        headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": name}
        status, _, answer = product.request("POST", "/e/boxes/score", bench.call["body"], headers)
        if status != 200:
            raise RuntimeError(f"{status} {answer}")
        yield Row(f"in a container → first 200, environment {what}", f"{time.monotonic() - started:.1f} s", target)
    product.rest("DELETE", "onlineEndpoints/boxes")


ASK_FOR_CONTAINERS = """
from django.conf import settings
from apps.accounts.models import User
from apps.compute import domain
admin = User.objects.filter(is_superuser=True).first()
size = {"name": "boxed", "cpu_milli": 1000, "mem_bytes": 2**30, "position": 900, "isolation": "container"}
if settings.DOCKER_URL:
    domain.save_instance_type(**size, actor=admin, new=True)
    print("ready")
"""


def _model(bench: Bench, name: str) -> str:
    source = f"file://{bench.product.home / 'uploads' / 'demo' / 'blue'}"
    return bench.product.register("models", f"bench-{name}", "1", modelUri=source, modelType="mlflow_model")


def _environment(bench: Bench, name: str, requirements: str) -> str:
    return bench.product.register("environments", f"bench-{name}", "1", requirements=requirements)


def memory(bench: Bench) -> Iterator[Row]:
    product = bench.running()
    until(lambda: product.health()["up"], 90, "every part up")
    sizes = {part: sum(map(proportional_mib, product.pids(part))) for part in PARTS[1:]}
    sizes["supervisor"] = sum(map(proportional_mib, _unnamed(product)))
    text = " ".join(f"{part} {sizes[part]:.0f}" for part in PARTS)
    yield Row(
        "memory of the idle control plane (PSS, without replicas)",
        f"{sum(sizes.values()):.0f} MiB",
        f"≤ 600 MB ({text})",
    )


def _unnamed(product: Product) -> list[int]:
    """`portway up` and its supervisor."""
    return [pid for pid in product.pids() if b"cli" in (line := _line(pid)) or b"supervisord" in line]


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def requests(bench: Bench) -> Iterator[Row]:
    """One replica of the demo's linear model behind the gateway, against the same model in bare FastAPI."""
    if reason := wrk.missing():
        yield Row("end-to-end requests/s", "skipped", reason)
        return
    product = bench.running()
    key, body = bench.call["key"], bench.call["body"]
    one = {**body["input_data"], "data": body["input_data"]["data"][:1]}
    headers = {"Authorization": f"Bearer {key}", "azureml-model-deployment": "blue"}
    ours, plain = (
        wrk.script(bench.folder / f"{n}.lua", {"input_data": one}, h) for n, h in (("a", headers), ("b", {}))
    )
    with fastapi(product.home / "uploads" / "demo" / "blue") as port:
        sides = [
            wrk.Side("FastAPI bare", f"http://127.0.0.1:{port}/score", plain),
            wrk.Side("Portway, plain HTTP", f"http://127.0.0.1:{product.http}/e/{DEMO}/score", ours),
            wrk.Side("Portway, TLS", f"https://127.0.0.1:{product.tls}/e/{DEMO}/score", ours),
        ]
        for connections in (1, 16, 64):
            concurrency = min(connections, 16)  # the demo's limit of requests in flight; above it the gateway says 429
            if concurrency < connections:
                product.traffic(DEMO, blue=100)
                _widen(product, connections)
            wrk.interleaved(sides, connections, rounds=bench.rounds)
            base = sides[0].rate
            for side in sides:
                target = "≥ 1.5x" if (connections, side.name) == (16, "Portway, plain HTTP") else ""
                value = f"{side.rate:,.0f}/s  {side.rate / base:.2f}x"
                yield Row(f"{connections:>3} connections  {side.name}  (p50 {side.middle})", value, target)


def _widen(product: Product, connections: int) -> None:
    """Let the demo's deployment take that many requests at once."""
    shown = product.rest("GET", f"onlineEndpoints/{DEMO}/deployments/blue")
    shown["properties"]["requestSettings"]["maxConcurrentRequestsPerInstance"] = connections
    product.rest("PUT", f"onlineEndpoints/{DEMO}/deployments/blue", shown)


@contextmanager
def fastapi(model: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    child = scoring_server.start([PYTHON, "-c", scoring_server.FASTAPI, str(model), str(port)], port)
    try:
        yield port
    finally:
        child.terminate()
        child.wait(10)


def traffic(bench: Bench) -> Iterator[Row]:
    """From the call of the API to the last answer of who lost the traffic, and what failed meanwhile."""
    product = bench.running()
    key = product.endpoint("flip")
    source = bench.folder / "src"
    source.mkdir()
    (source / "score.py").write_text("import os\ndef init(): pass\ndef run(data): return os.environ['COLOUR']\n")
    code = product.register("codes", "flip", "1", codeUri=f"file://{source}")
    plain = product.register("environments", "flip", "1", condaFile="dependencies: [python=3.11]\n")
    script = {"codeConfiguration": {"codeId": code, "scoringScript": "score.py"}, "environmentId": plain}
    for name in ("blue", "green"):
        product.deploy("flip", name, environmentVariables={"COLOUR": name}, **script)
    product.traffic("flip", blue=100)
    times, load = [], Load(product.http, "/e/flip/score", key, connections=8)
    with under_load(load):
        until(lambda: load.sent > 100, 30, "the clients run")
        for old, new in (("blue", "green"), ("green", "blue")) * 2:
            started = time.time()
            product.traffic("flip", **{old: 0, new: 100})
            time.sleep(0.5)
            times.append((load.last.get(f'"{old}"', started) - started) * 1000)
    yield Row("traffic change in force (median of 4)", f"{statistics.median(times):.0f} ms", "≤ 1 s")
    yield Row("  requests meanwhile, failed", f"{load.sent:,}, {len(load.failures)}", "0 failed")
    product.rest("DELETE", "onlineEndpoints/flip")


PUBLISH = """
import sys, time, django
django.setup()
from django.db import transaction
from apps.gateway import domain
from apps.gateway.models import EndpointKey, Route
def route(number):
    return Route(endpoint=f"many-{number}", workspace="default", auth="Key", traffic={}, mirror={}, public=True,
                 rate_per_second=1000, deployments={})
try:
    with transaction.atomic():
        Route.objects.bulk_create(route(number) for number in range(1000))
        for number in range(1000):
            domain.ensure_keys(f"many-{number}")
    domain.publish(wait_s=30)
    for change in range(3):
        domain.set_key("many-500", "primary")
        started = time.monotonic()
        assert domain.publish(wait_s=30).accepted
        print(time.monotonic() - started)
finally:
    Route.objects.filter(endpoint__startswith="many-").delete()
    EndpointKey.objects.filter(endpoint__startswith="many-").delete()
    domain.publish(wait_s=30)
"""


def publish(bench: Bench) -> Iterator[Row]:
    """Rows straight into the database: a thousand endpoints made by hand would take the whole run."""
    product = bench.running()
    environment = {**product.environment, "DJANGO_SETTINGS_MODULE": "portal.settings"}
    done = subprocess.run(
        [PYTHON, "-c", PUBLISH], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    seconds = statistics.median(
        float(line) for line in done.stdout.splitlines() if line[:1].isdigit() and " " not in line
    )
    yield Row("1,000 endpoints: a change published", f"{seconds:.2f} s", "≤ 1 s")


def studio(bench: Bench) -> Iterator[Row]:
    """1,000 endpoints, 10,000 models and 5,000 operations in one workspace."""
    product = bench.running()
    pages.seed(product)
    for name, (median, p95, size) in pages.measured(product).items():
        value = f"{median:.0f} ms, p95 {p95:.0f} ms, {size / 1024:.0f} KB"
        yield Row(f"page of a large workspace: {name}", value, "p95 ≤ 150 ms, ≤ 100 KB")


def runtime(_bench: Bench) -> Iterator[Row]:
    """The scoring server alone, without the gateway, against bare FastAPI."""
    if reason := wrk.missing():
        yield Row("scoring server alone", "skipped", reason)
        return
    done = subprocess.run(
        [PYTHON, "-m", "bench.runtime"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-300:])
    for line in done.stdout.splitlines():
        yield Row("scoring server alone", line.strip())
