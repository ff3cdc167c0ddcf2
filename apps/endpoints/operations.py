"""The recipes of endpoint operations; each reads like the timeline its user sees."""

from __future__ import annotations

from contextlib import suppress

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.compute import domain as compute
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica, ReplicaSet
from apps.core import events, leases, limits
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.core.operations import Run, handles
from apps.endpoints import environments, preflight, recipes
from apps.endpoints.domain import record_traffic
from apps.endpoints.domain.capacity import hold_running
from apps.endpoints.enums import ProvisioningState
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway import domain as gateway
from apps.monitoring.models.logs import Why

LAST_WORD_S = 10.0  # a replica gives up by itself at the deadline, and says why
ROUTED = ("ready_path", "ready_port", "grpc_port", "idle_s")  # what the gateway must know of a recipe


def _endpoint_failed(operation: Operation, problem: Problem) -> None:
    state = _ended_as(problem)
    OnlineEndpoint.objects.filter(pk=operation.payload["endpoint"]).exclude(state=ProvisioningState.DELETING).update(
        state=state, error=problem.as_json()
    )


def _deployment_failed(operation: Operation, problem: Problem) -> None:
    """Stop the replicas that did not come up, keeping their logs. What served goes on serving."""
    deployment = OnlineDeployment.objects.filter(pk=operation.payload["deployment"]).first()
    if deployment is None or deployment.state == ProvisioningState.DELETING:
        return
    state = _ended_as(problem)
    OnlineDeployment.objects.filter(pk=deployment.pk).update(state=state, error=problem.as_json())
    for stale in _other_sets(deployment):
        with suppress(leases.LeaseTaken):  # the controller's sweep of leftovers stops it later
            compute.halt(stale)
    hold_running(deployment)


def _ended_as(problem: Problem) -> ProvisioningState:
    return ProvisioningState.CANCELED if problem.code == "canceled" else ProvisioningState.FAILED


def _other_sets(deployment: OnlineDeployment) -> list[ReplicaSet]:
    every = ReplicaSet.objects.filter(owner_key=deployment.owner_key)
    return [each for each in every if each.pk != deployment.serving_id]


def put_route(endpoint: OnlineEndpoint) -> None:
    """Write what the gateway must know of an endpoint."""
    serving = list(endpoint.deployments.exclude(serving=None).select_related("serving").order_by("name"))
    path = _scoring_path(endpoint, serving)
    if path != endpoint.scoring_path:
        OnlineEndpoint.objects.filter(pk=endpoint.pk).update(scoring_path=path)
        endpoint.scoring_path = path
    gateway.put_route(
        endpoint=endpoint.name,
        workspace=endpoint.workspace.name,
        auth=endpoint.auth_mode,
        traffic=endpoint.traffic,
        mirror=endpoint.mirror_traffic,
        targets=[_target(each) for each in serving],
        public=endpoint.public_network_access,
        rate_per_second=limits.get("requests_per_second"),
    )


def _scoring_path(endpoint: OnlineEndpoint, serving: list[OnlineDeployment]) -> str:
    """What the deployment with the largest share answers on; without any, what the endpoint had."""
    first = max(serving, key=lambda each: endpoint.traffic.get(each.name, 0), default=None)
    if first is None or first.serving is None:
        return endpoint.scoring_path
    return str(first.serving.spec.get("score_path", "/score"))


def _target(deployment: OnlineDeployment) -> gateway.Target:
    """The session names the revision that answers: after a failed update it is not the row's."""
    revision = deployment.serving.revision if deployment.serving else deployment.revision
    spec = deployment.serving.spec if deployment.serving else {}
    return gateway.Target(
        name=deployment.name,
        replica_set=str(deployment.serving_id),
        concurrency=deployment.max_concurrent_requests,
        request_timeout_ms=deployment.request_timeout_ms,
        session=f"{deployment.name}-{revision}",
        **{name: spec[name] for name in ROUTED if name in spec},  # a set of an older version lacks some
    )


def _settle_endpoint(endpoint: OnlineEndpoint) -> None:
    OnlineEndpoint.objects.filter(pk=endpoint.pk).update(state=ProvisioningState.SUCCEEDED, error=None)
    events.changed(endpoint.workspace.name, endpoint.topic)


def _load(run: Run) -> OnlineEndpoint:
    return OnlineEndpoint.objects.select_related("workspace").get(pk=run.payload["endpoint"])


def _load_deployment(run: Run) -> OnlineDeployment:
    related = ("endpoint__workspace", "model__asset", "code", "environment__asset", "serving")
    return OnlineDeployment.objects.select_related(*related).get(pk=run.payload["deployment"])


@handles("online-endpoint.create", steps=("route",), failed=_endpoint_failed)
@handles("online-endpoint.update", steps=("route",), failed=_endpoint_failed)
@handles("online-endpoint.regenerate-key", steps=("route",))
def route_endpoint(run: Run) -> None:
    endpoint = _load(run)
    with run.step("route"):
        put_route(endpoint)
        gateway.publish_or_fail()
        _settle_endpoint(endpoint)


@handles("online-endpoint.delete", steps=("route", "stop"))
def delete_endpoint(run: Run) -> None:
    endpoint = OnlineEndpoint.objects.select_related("workspace").filter(pk=run.payload["endpoint"]).first()
    if endpoint is None:
        return
    with run.step("route"):
        gateway.drop_route(endpoint.name)
        gateway.publish_or_fail()
    with run.step("stop"):
        for deployment in endpoint.deployments.all():
            _stop_all(run, deployment)
        with transaction.atomic():
            compute.release([each.owner_key for each in endpoint.deployments.select_related("endpoint")])
            endpoint.deployments.all().delete()
            endpoint.delete()


@handles(
    "online-deployment.create", steps=("environment", "start", "route"), failed=_deployment_failed, cancelable=True
)
def create_deployment(run: Run) -> None:
    deployment = _load_deployment(run)
    fresh = _bring_up(run, deployment)
    with run.step("route"):
        _switch(deployment, fresh)


def _deploy_failed(operation: Operation, problem: Problem) -> None:
    fresh = OnlineEndpoint.objects.filter(pk=operation.payload["endpoint"], state=ProvisioningState.CREATING)
    fresh.update(state=_ended_as(problem), error=problem.as_json())
    _deployment_failed(operation, problem)


@handles(
    "online-deployment.deploy",
    steps=("endpoint", "environment", "start", "route", "traffic"),
    failed=_deploy_failed,
    cancelable=True,
)
def deploy(run: Run) -> None:
    deployment = _load_deployment(run)
    with run.step("endpoint"):
        put_route(deployment.endpoint)  # also mends one whose last change failed
        gateway.publish_or_fail()
        _settle_endpoint(deployment.endpoint)
    fresh = _bring_up(run, deployment)
    with run.step("route"):
        _switch(deployment, fresh)
    with run.step("traffic"):
        _split(run, OnlineEndpoint.objects.select_related("workspace").get(pk=deployment.endpoint_id))


def _split(run: Run, endpoint: OnlineEndpoint) -> None:
    """The split that was asked for. Nobody else can have changed it: the operation holds the endpoint's lock."""
    wanted = run.payload["traffic"]
    if endpoint.traffic != wanted:
        with transaction.atomic():
            record_traffic(endpoint, wanted, endpoint.mirror_traffic, run.operation.actor)
            OnlineEndpoint.objects.filter(pk=endpoint.pk).update(
                traffic=wanted,
                revision=F("revision") + 1,
                modified_by=run.operation.actor,
                modified_at=timezone.now(),
            )
            endpoint.traffic = wanted
            put_route(endpoint)
    gateway.publish_or_fail()
    run.log(", ".join(f"{name} {percent} %" for name, percent in sorted(wanted.items())) or "no traffic")
    events.changed(endpoint.workspace.name, endpoint.topic)


@handles(
    "online-deployment.update",
    steps=("environment", "start", "route", "drain"),
    failed=_deployment_failed,
    cancelable=True,
)
def update_deployment(run: Run) -> None:
    deployment = _load_deployment(run)
    fresh = _bring_up(run, deployment)
    with run.step("route"):
        _switch(deployment, fresh)
    with run.step("drain"):
        for old in _other_sets(deployment):
            compute.destroy(old, why=Why.REPLACED)
        compute.reconcile(fresh, wait_s=10.0)
        gateway.publish_or_fail()
        compute.stop_draining(fresh)
        hold_running(deployment)


@handles("online-deployment.delete", steps=("route", "stop"))
def delete_deployment(run: Run) -> None:
    deployment = (
        OnlineDeployment.objects.select_related("endpoint__workspace").filter(pk=run.payload["deployment"]).first()
    )
    if deployment is None:
        return
    with run.step("route"):
        OnlineDeployment.objects.filter(pk=deployment.pk).update(serving=None)
        put_route(deployment.endpoint)
        gateway.publish_or_fail()
    with run.step("stop"):
        _stop_all(run, deployment)
        with transaction.atomic():
            compute.release([deployment.owner_key])
            deployment.delete()


def _bring_up(run: Run, deployment: OnlineDeployment) -> ReplicaSet:
    """The replica set of the deployment's present revision, with every replica ready."""
    driver = compute.driver_of(deployment.owner_key)
    with run.step("environment"):
        for sentence in [*recipes.without_effect(deployment, driver), *preflight.remarks(deployment)]:
            run.log(sentence)
        prepared = environments.prepare(run, deployment, driver=driver)
        for sentence in preflight.against(deployment, prepared.runnable, variables=deployment.environment_variables):
            run.log(sentence)
    with run.step("start"):
        fresh = ReplicaSet.objects.filter(owner_key=deployment.owner_key, revision=deployment.revision).first()
        if fresh is None:
            recipe, notes = recipes.build(deployment, prepared.runnable, prepared.server)
            for note in notes:
                run.log(note)
            compute.validate(recipe, driver)
            fresh = compute.ensure_set(
                owner_key=deployment.owner_key,
                revision=deployment.revision,
                recipe=recipe,
                driver_name=driver,
                desired=deployment.instance_count,
            )
        elif fresh.desired < deployment.instance_count:
            compute.scale(fresh, deployment.instance_count)
        _settle(run, fresh, timeout_s=settings.START_DEADLINE_S + LAST_WORD_S)
        if fresh.desired > deployment.instance_count:  # scale in only once nothing else can fail
            compute.scale(fresh, deployment.instance_count)
    return fresh


def _settle(run: Run, replica_set: ReplicaSet, *, timeout_s: float) -> None:
    seen: dict[str, str] = {}

    def tick() -> None:
        run.check()
        for replica in replica_set.replicas.all():
            if seen.get(replica.name) != replica.state:
                seen[replica.name] = replica.state
                run.log(f"instance {replica.index}: {replica.get_state_display().lower()}")

    try:
        compute.settle(replica_set, tick=tick, timeout_s=timeout_s)
    finally:
        _copy_logs(run, replica_set)


def _copy_logs(run: Run, replica_set: ReplicaSet) -> None:
    """What the model server said while starting belongs to the timeline; it outlives the replica."""
    for replica in replica_set.replicas.select_related("set")[:3]:
        try:
            lines = compute.logs(replica, tail=40)
        except Problem as problem:  # what it is told while something else is going wrong must not hide that
            run.log(f"[{replica.index}] {problem.message}")
            continue
        for line in lines:
            run.log(f"[{replica.index}] {line.text}")


def _switch(deployment: OnlineDeployment, fresh: ReplicaSet) -> None:
    """Send the deployment's traffic to the fresh set; requests in flight finish on the old one."""
    with transaction.atomic():
        OnlineDeployment.objects.filter(pk=deployment.pk).update(
            serving=fresh, state=ProvisioningState.SUCCEEDED, error=None
        )
        deployment.serving = fresh
        put_route(deployment.endpoint)
    gateway.publish_or_fail()
    events.changed(deployment.endpoint.workspace.name, deployment.endpoint.topic, deployment.topic)


def _stop_all(run: Run, deployment: OnlineDeployment) -> None:
    for replica_set in ReplicaSet.objects.filter(owner_key=deployment.owner_key):
        run.log(f"stopping {replica_set.replicas.count()} instances of revision {replica_set.revision}")
        compute.destroy(replica_set)


def _replica(run: Run) -> Replica | None:
    """The instance an administrator named; None when it was scaled in or replaced meanwhile: nothing is left to do."""
    return Replica.objects.select_related("set").filter(pk=run.payload["replica"]).first()


@handles("replica.restart", steps=("drain", "stop", "start", "route"))
def restart_replica(run: Run) -> None:
    replica = _replica(run)
    if replica is None:
        return
    started = replica.started_at.isoformat() if replica.started_at else ""
    if started == run.payload["started"] and replica.state != ReplicaState.PENDING:  # else an earlier attempt did it
        with compute.taken_out(replica) as out:
            with run.step("drain"):
                gateway.publish_or_fail()
            with run.step("stop"):
                compute.restart_replica(out)
    _come_up(run, replica.set)


@handles("replica.stop", steps=("drain", "stop"))
def stop_replica(run: Run) -> None:
    replica = _replica(run)
    if replica is None or replica.state == ReplicaState.HELD:
        return
    with compute.taken_out(replica) as out:
        with run.step("drain"):
            gateway.publish_or_fail()
        with run.step("stop"):
            compute.stop_replica(out, run.payload["reason"])


@handles("replica.start", steps=("start", "route"))
def start_replica(run: Run) -> None:
    replica = _replica(run)
    if replica is None:
        return
    compute.start_replica(replica)
    _come_up(run, replica.set)


def _come_up(run: Run, replica_set: ReplicaSet) -> None:
    with run.step("start"):
        _settle(run, replica_set, timeout_s=settings.START_DEADLINE_S + LAST_WORD_S)
    with run.step("route"):
        gateway.publish_or_fail()
