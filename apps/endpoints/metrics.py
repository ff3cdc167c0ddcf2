"""One look at everything that is measured: the gateway's counters, the replicas and what they use."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import structlog

from apps.compute import domain as compute
from apps.compute.drivers.base import Usage
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway import counters
from apps.gateway.counters import Counted
from apps.monitoring.sampling import Gauges, Moment, Seen, record

log = structlog.get_logger(__name__)

USAGE_S = 2.0
RUNNING = {ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNREADY, ReplicaState.DRAINING}


def sample() -> int:
    """Take one sample of every deployment; how many rows it made. While the gateway is away there is none: a gap."""
    endpoints = {each.name: each for each in OnlineEndpoint.objects.only("name", "mirror_traffic")}
    mirrored = [(each.name, name) for each in endpoints.values() for name in each.mirror_traffic]
    scrape = counters.scrape(mirrored)
    if scrape is None:
        log.info("metrics.no_gateway")
        return 0
    deployments = OnlineDeployment.objects.filter(endpoint__in=endpoints.values())
    wanted = {
        (endpoint, name): count
        for endpoint, name, count in deployments.values_list("endpoint__name", "name", "instance_count")
    }
    replicas: dict[str, list[Replica]] = defaultdict(list)
    for replica in Replica.objects.select_related("set"):
        replicas[replica.set.owner_key].append(replica)
    used = compute.usage([each for some in replicas.values() for each in some], deadline_s=USAGE_S)
    seen = [
        _seen(
            endpoint=endpoints.get(key[0]),
            key=key,
            counted=scrape.counted.get(key, Counted()),
            desired=wanted.get(key),
            replicas=replicas.get("/".join(key), []),
            used=used,
        )
        for key in sorted({*scrape.counted, *wanted})
    ]
    return record(Moment(round(scrape.at * 1000), scrape.epoch, round(scrape.since * 1000)), seen)


def _seen(
    *,
    endpoint: OnlineEndpoint | None,
    key: counters.Key,
    counted: Counted,
    desired: int | None,
    replicas: list[Replica],
    used: dict[int, Usage],
) -> Seen:
    copies = endpoint is not None and key[1] in endpoint.mirror_traffic
    return Seen(
        endpoint=endpoint.pk if endpoint else 0,
        name="/".join(key),
        deployment=key[1],
        codes=counted.copies if copies else counted.codes,
        latency=counted.copy_latency if copies else counted.latency,
        source="copies" if copies else "requests",
        present=desired is not None,
        gauges=_gauges(counted.active, desired or 0, replicas, used),
        restarts={each.name: each.restarts for each in replicas},
        cpu_s={each.name: used[each.pk].cpu_seconds for each in replicas if each.pk in used},
    )


def _gauges(active: int, desired: int, replicas: list[Replica], used: dict[int, Usage]) -> Gauges:
    running = [each for each in replicas if each.handle and each.state in RUNNING]
    told = [used[each.pk].mem_bytes for each in running if each.pk in used]
    unknown = bool(running) and not told
    return Gauges(
        active=active,
        ready=sum(each.state == ReplicaState.READY for each in replicas),
        desired=desired,
        cpu_limit_milli=sum(_limit(each, "cpu_milli") for each in running),
        mem_bytes=None if unknown else sum(told),
        mem_max=None if unknown else max(told, default=0),
        mem_limit=sum(_limit(each, "mem_bytes") for each in running),
    )


def _limit(replica: Replica, name: str) -> int:
    spec: dict[str, Any] = replica.set.spec
    return int(spec.get(name) or 0)
