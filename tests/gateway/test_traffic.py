"""Split, mirror, changes under load, replicas that die, many deployments, an Envoy that dies."""

import asyncio
import dataclasses
import math
import signal
import threading
import time
from typing import Self

import pytest

from apps.gateway.envoy import Deployment, Endpoint, OpenAuth
from tests.gateway.client import Session, call, many
from tests.gateway.upstream import wait_for
from tests.gateway.world import KEY

pytestmark = [pytest.mark.envoy, pytest.mark.slow]


def within_three_sigma(hits: int, total: int, share: float) -> bool:
    return abs(hits - total * share) <= 3 * math.sqrt(total * share * (1 - share))


def test_split_and_mirror(world):
    total = 2000
    replies = many(world.port, "/e/main/score", total, key=KEY)
    assert {reply.status for reply in replies} == {200}
    green = sum(reply.headers["azureml-model-deployment"] == "green" for reply in replies)
    assert within_three_sigma(green, total, 0.10), green
    assert green == sum(reply.served_by == "green" for reply in replies)
    copies = wait_for(lambda: len(world.upstreams["shadow"].seen))
    time.sleep(0.3)
    copies = len(world.upstreams["shadow"].seen)
    assert within_three_sigma(copies, total, 0.30), copies
    both = [len(world.upstreams[name].seen) for name in ("m1", "m2")]
    assert min(both) > 0.4 * sum(both)


def test_a_named_deployment_is_not_mirrored(world):
    many(world.port, "/e/main/score", 100, key=KEY, headers={"azureml-model-deployment": "blue"})
    time.sleep(0.2)
    assert not world.upstreams["shadow"].seen


class Load:
    """Steady requests in the background; every answer is kept."""

    def __init__(self, world, path, *, key=None, connections=4) -> None:
        self.world, self.path, self.key, self.connections = world, path, key, connections
        self.replies: list = []
        self.errors: list = []
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=lambda: asyncio.run(self.go()))
        self.thread.start()
        wait_for(lambda: len(self.replies) + len(self.errors) > 20)
        return self

    def __exit__(self, *_exc) -> None:
        self.over.set()
        self.thread.join(20)

    async def go(self) -> None:
        await asyncio.gather(*(self.worker() for _ in range(self.connections)))

    async def worker(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        while not self.over.is_set():
            try:
                async with Session(self.world.port) as session:
                    while not self.over.is_set():
                        reply = await session.call("POST", self.path, headers, b"{}")
                        self.replies.append((time.monotonic(), reply))
            except (OSError, asyncio.IncompleteReadError) as problem:
                self.errors.append(problem)


def test_weights_flip_under_load_without_an_error(world):
    endpoints = world.endpoints()
    try:
        with Load(world, "/e/main/score", key=KEY) as load:
            for flip in range(10):
                share = 100 if flip % 2 else 0
                endpoints[0] = world.main(traffic={"blue": share, "green": 100 - share}, mirror={})
                published = world.publish(endpoints)
                assert published.accepted, published
                assert published.changed == ("rds/public.json",)
                since, wanted = time.monotonic(), ("blue" if share else "green")
                time.sleep(0.2)
                late = [
                    moment - since
                    for moment, reply in load.replies
                    if moment > since and reply.headers["azureml-model-deployment"] != wanted
                ]
                assert all(delay < 1 for delay in late)
        assert not load.errors
        assert {reply.status for _, reply in load.replies} == {200}
        assert len(load.replies) > 200
    finally:
        assert world.publish(world.endpoints()).accepted


def test_a_deployment_comes_and_goes_under_load(world):
    """Clusters first in, last out: no request may meet a route without its cluster."""
    spare = dataclasses.replace(world.deployment("spare", "one"))
    before = world.main()
    try:
        with Load(world, "/e/main/score", key=KEY) as load:
            for _ in range(3):
                wider = dataclasses.replace(
                    before, deployments=(*before.deployments, spare), traffic={"blue": 50, "spare": 50}, mirror={}
                )
                assert world.publish([wider, *world.endpoints()[1:]]).accepted
                time.sleep(0.2)
                published = world.publish(world.endpoints())
                assert published.accepted, published
                assert "cds/clusters.json" in published.changed
                time.sleep(0.2)
        assert not load.errors
        assert {reply.status for _, reply in load.replies} == {200}
        assert {reply.served_by for _, reply in load.replies} >= {"one", "m1", "green"}
    finally:
        world.publish(world.endpoints())


def test_killed_replica_fails_no_request_and_comes_back(world):
    world.healthy("dep__main__blue", 2)
    victim = world.upstreams.pop("m2")
    try:
        with Load(world, "/e/main/score", key=KEY) as load:
            world.loop.kill(victim)
            (world.root / "m2.sock").unlink(missing_ok=True)
            time.sleep(1.5)
        # what it was answering when it died is lost; nothing may be repeated that a model had begun
        assert sum(reply.status != 200 for _, reply in load.replies) <= load.connections
        assert {reply.status for _, reply in load.replies[-50:]} == {200}
        world.healthy("dep__main__blue", 1)
    finally:
        world.serve("m2")
    world.healthy("dep__main__blue", 2)


def test_a_replica_that_turns_unready_leaves(world):
    world.upstreams["m2"].ready = False
    gone = f"dep__main__blue::{world.root}/m2.sock::health_flags::/failed_active_hc"
    wait_for(lambda: gone in world.publisher.admin.get("/clusters"))
    world.upstreams["m2"].seen.clear()
    many(world.port, "/e/main/score", 100, key=KEY)
    assert not world.upstreams["m2"].seen
    world.upstreams["m2"].ready = True
    world.healthy("dep__main__blue", 2)


def test_one_hundred_and_thirty_deployments(world):
    """With one watched file per cluster the kernel's 128 inotify instances would end Envoy here."""
    crowd = [
        Endpoint(f"crowd{number}", OpenAuth(), (world.deployment("b", "m1"), world.deployment("c", "m2")), {"b": 100})
        for number in range(65)
    ]
    try:
        published = world.publish([*world.endpoints(), *crowd])
        assert published.accepted, published
        assert published.seconds < 15
        assert call(world.port, "/e/crowd64/score").status == 200
        assert world.process.poll() is None
    finally:
        assert world.publish(world.endpoints()).accepted
    assert call(world.port, "/e/crowd64/score").status == 404
    assert "dep__crowd64__b" not in world.publisher.stats()


def test_a_queue_grows_without_rebuilding_its_cluster(world):
    endpoints = [*world.endpoints(), Endpoint("q", OpenAuth(), (Deployment("b", (), 2, 1000),), {"b": 100})]
    assert world.publish(endpoints).accepted
    endpoints[-1] = Endpoint("q", OpenAuth(), (world.deployment("b", "one", concurrency=2),), {"b": 100})
    assert set(world.publish(endpoints).changed) >= {"cds/clusters.json"}
    runtime = world.publisher.admin.get("/runtime")
    assert "circuit_breakers.dep__q__b.default.max_pending_requests" in runtime
    assert world.publish(world.endpoints()).accepted


def test_envoy_comes_back_from_its_files_after_kill_9(world):
    world.stop(signal.SIGKILL)
    started = time.monotonic()
    world.start()
    assert time.monotonic() - started < 20
    wait_for(lambda: call(world.port, "/e/main/score", key=KEY).status == 200)
    published = world.publish(world.endpoints())
    assert (published.accepted, published.changed) == (True, ())


def test_the_certificate_is_replaced_while_serving(world):
    import ssl

    from apps.gateway.certificates import ensure_certificates

    def serial():
        pem = ssl.get_server_certificate(("127.0.0.1", world.tls_port))
        return ssl.PEM_cert_to_DER_cert(pem)

    before = serial()
    renewed = ensure_certificates(world.root / "certs", ca_pem=world.root / "ca.pem", extra_names=["other.example"])
    assert renewed.renewed
    wait_for(lambda: serial() != before, 5)
    assert call(world.tls_port, "/e/main/score", key=KEY, tls=world.tls()).status == 200
