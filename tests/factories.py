"""Rows as they are once something runs, made without running it."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from itertools import count

from django.utils import timezone

_numbers = count(1)

SIGNATURE = {
    "inputs": [
        {"type": "double", "name": "age", "required": True},
        {"type": "string", "name": "sex", "required": True},
    ],
    "outputs": [{"type": "double", "name": "risk"}],
    "params": None,
}


def make_tree(*, size_bytes=2048, files=3):
    from apps.registry.models import Tree

    digest = hashlib.sha256(str(next(_numbers)).encode()).hexdigest()
    return Tree.objects.create(digest=digest, size_bytes=size_bytes, files=files)


def make_model(workspace, name="iris", version="1", **values):
    from apps.registry.models import Model, ModelVersion

    asset, _ = Model.objects.get_or_create(workspace=workspace, name=name)
    values = {
        "type": "mlflow_model",
        "tree": make_tree(),
        "signature": SIGNATURE,
        "flavors": {"python_function": {}, "sklearn": {}},
    } | values
    return ModelVersion.objects.create(asset=asset, version=version, **values)


def make_environment(workspace, name="sklearn", version="1", **values):
    from apps.registry.models import Environment, EnvironmentVersion

    asset, _ = Environment.objects.get_or_create(workspace=workspace, name=name)
    values = {"conda_file": "dependencies:\n  - python=3.11\n  - pip:\n      - scikit-learn\n"} | values
    return EnvironmentVersion.objects.create(asset=asset, version=version, **values)


def make_endpoint(workspace, name=None, *, keys=True, **values):
    from apps.endpoints.models import OnlineEndpoint
    from apps.gateway.domain import ensure_keys

    name = name or f"endpoint-{next(_numbers)}"
    endpoint = OnlineEndpoint.objects.create(workspace=workspace, name=name, **({"state": "Succeeded"} | values))
    if keys and endpoint.auth_mode == "Key":
        ensure_keys(name)
    return endpoint


def make_deployment(endpoint, name="blue", *, ready=1, model=None, **values):
    """A deployment with `ready` instances; with none it has never come up."""
    from apps.compute.models import Replica, ReplicaSet
    from apps.endpoints.models import OnlineDeployment

    values = {"state": "Succeeded", "instance_type": "small", "instance_count": max(1, ready)} | values
    deployment = OnlineDeployment(
        endpoint=endpoint,
        name=name,
        model=model or make_model(endpoint.workspace, f"m{next(_numbers)}"),
        **values,
    )
    if ready:
        deployment.serving = ReplicaSet.objects.create(
            owner_key=deployment.owner_key,
            revision=deployment.revision,
            driver="fake",
            spec={},
            desired=ready,
        )
        for index in range(ready):
            Replica.objects.create(
                set=deployment.serving,
                name=f"r{next(_numbers)}",
                index=index,
                state="ready",
                ready_at=timezone.now(),
            )
    deployment.save()
    return deployment


def make_operation(endpoint, kind="online-deployment.create", *, steps=(), **values):
    """`steps`: (name, state, log) of those that have begun."""
    from apps.core.models import Operation, OperationStep

    values = {
        "workspace": endpoint.workspace.name,
        "target": endpoint.topic,
        "lock": endpoint.topic,
        "payload": {"endpoint": endpoint.pk},
        "state": "running",
    } | values
    now = timezone.now()
    operation = Operation.objects.create(kind=kind, started_at=now - timedelta(seconds=9), **values)
    for position, (name, state, log) in enumerate(steps):
        began = now - timedelta(seconds=9 - 3 * position)
        ended = None if state == "running" else began + timedelta(seconds=2.4)
        OperationStep.objects.create(
            operation=operation,
            position=position,
            name=name,
            state=state,
            log=log,
            started_at=began,
            finished_at=ended,
        )
    return operation


def make_cluster(workspace, name="cpu", **values):
    from apps.batch.models import Cluster

    values = {"instance_type": "small", "max_nodes": 2} | values
    return Cluster.objects.get_or_create(workspace=workspace, name=name, defaults=values)[0]


def make_batch_deployment(workspace, endpoint="forests", name="blue", **values):
    """The deployment `name` of a batch endpoint, and the endpoint's default one if it has none."""
    from apps.batch.models import BatchDeployment, BatchEndpoint

    parent, _ = BatchEndpoint.objects.get_or_create(name=endpoint, workspace=workspace, defaults={"state": "Succeeded"})
    values = {"state": "Succeeded", "cluster": make_cluster(workspace)} | values
    values.setdefault("model", None)
    deployment = BatchDeployment.objects.create(endpoint=parent, name=name, **values)
    if parent.default_deployment is None:
        parent.default_deployment = deployment
        parent.save()
    return deployment


PIPELINE_INPUTS = {
    "images": {"type": "uri_folder", "description": "What is scored."},
    "labels": {"type": "uri_file", "optional": True},
    "rate": {"type": "number", "min": 0, "max": 1, "default": 0.5},
    "count": {"type": "integer"},
    "fast": {"type": "boolean", "default": True},
    "mode": {"type": "string", "enum": ["append", "replace"], "default": "append"},
    "note": {"type": "string", "optional": True},
}


def make_pipeline_deployment(workspace, endpoint="rivers", name="flow", inputs=PIPELINE_INPUTS):
    """A deployment of a pipeline of one step, which takes what the pipeline takes. Needs an environment `sklearn`."""
    from apps.registry.domain import register_component

    step = {"type": "command", "command": "echo hi", "environment": "azureml:sklearn:1", "inputs": inputs}
    step |= {"outputs": {"scores": {"type": "uri_folder"}}}
    bound = {key: f"${{{{parent.inputs.{key}}}}}" for key in inputs}
    job = {"component": step, "inputs": bound, "outputs": {"scores": "${{parent.outputs.scores}}"}}
    document = {"type": "pipeline", "inputs": inputs, "outputs": step["outputs"], "jobs": {"main": job}}
    made, _new = register_component(workspace=workspace, name=f"{endpoint}_{name}", document=document, actor=None)
    values = {"type": "PipelineComponent", "component": made, "settings": {"default_compute": "cpu"}}
    return make_batch_deployment(workspace, endpoint, name, **values)


def make_data(workspace, name="tiles", version="1", **values):
    from apps.registry.models import Data, DataVersion

    asset, _ = Data.objects.get_or_create(workspace=workspace, name=name)
    values = {"uri": "azureml://datastores/workspaceblobstore/paths/in"} | values
    return DataVersion.objects.create(asset=asset, version=version, **values)


def make_datastore(workspace, name="bay", **values):
    from apps.registry.models import Datastore

    values = {
        "type": "S3",
        "settings": {"bucketName": "tiles", "endpoint": "https://s3.example.com"},
        "credentials": '{"credentialsType": "AccountKey", "accessKeyId": "AKIA", "key": "never-shown"}',
    } | values
    return Datastore.objects.create(workspace=workspace, name=name, **values)


def make_schedule(endpoint, name="nightly", **values):
    from apps.batch.models import Schedule

    uri = "azureml://datastores/workspaceblobstore/paths/in"
    values = {"cron": "0 6 * * *", "body": {"inputs": {"data": {"type": "UriFolder", "uri": uri}}}} | values
    values.setdefault("next_at", timezone.now() + timedelta(hours=3))
    return Schedule.objects.create(workspace=endpoint.workspace, endpoint=endpoint, name=name, **values)


def make_job(deployment, name="job-1", *, states="dddfdrq", **values):
    """A job that has begun; `states`: a letter for each mini-batch of one file, as the map of the studio has them."""
    from apps.batch.models import Job, MiniBatch

    words = {"d": "done", "f": "failed", "r": "running", "q": "queued"}
    now = timezone.now()
    workspace = deployment.endpoint.workspace
    uri = "azureml://datastores/workspaceblobstore/paths"
    values = {
        "endpoint": deployment.endpoint,
        "deployment": deployment,
        "endpoint_name": deployment.endpoint.name,
        "deployment_name": deployment.name,
        "cluster": deployment.cluster,
        "launch": {"driver": "process", "argv": [], "env": {}, "mounts": []},
        "state": "Running" if set(states) & set("rq") else "Completed",
        "settings": {"instance_count": 2, "max_concurrency_per_instance": 2, "mini_batch_size": 1},
        "inputs": {"data": {"type": "UriFolder", "uri": f"{uri}/in"}},
        "outputs": {"score": {"type": "UriFolder", "uri": f"{uri}/out/{name}"}},
        "files": len(states),
        "total": len(states),
        "done": states.count("d"),
        "failed": states.count("f"),
        "failed_files": states.count("f"),
        "rows": states.count("d"),
        "started_at": now - timedelta(seconds=90),
        "ended_at": None if set(states) & set("rq") else now,
    } | values
    job = Job.objects.create(workspace=workspace, name=name, **values)
    error = {"code": "ValueError", "message": "bad pixel", "evidence": "score.py:7", "trace": "Traceback: bad pixel"}
    MiniBatch.objects.bulk_create(
        [
            MiniBatch(
                job=job,
                number=number,
                files=[f"scan-{number:06d}.png"],
                file_count=1,
                state=words[letter],
                attempt=0 if letter in "qr" else 1,
                node="" if letter == "q" else f"cpu-{number % 2}",
                process=None if letter == "q" else 0,
                duration_ms=120 if letter in "df" else None,
                error=error if letter == "f" else None,
                started_at=None if letter == "q" else now - timedelta(seconds=60),
                ended_at=now - timedelta(seconds=number % 50) if letter in "df" else None,
            )
            for number, letter in enumerate(states)
        ],
        batch_size=5000,
    )
    return job


def make_world(workspace, actor=None):
    """One of everything a page can be about."""
    from apps.accounts.domain import create_token
    from apps.compute.domain import seed_instance_types, seed_targets

    seed_instance_types()
    seed_targets()
    model = make_model(workspace, "iris")
    environment = make_environment(workspace)
    endpoint = make_endpoint(workspace, "flowers", traffic={"blue": 90, "green": 10}, created_by=actor)
    deployments = [make_deployment(endpoint, name, model=model) for name in ("blue", "green")]
    operation = make_operation(endpoint, state="succeeded", steps=[("route", "done", "published")])
    token = create_token(user=actor, name="laptop")[0] if actor else None
    job = make_job(make_batch_deployment(workspace, model=model), created_by=actor)
    return {
        "model": model,
        "environment": environment,
        "endpoint": endpoint,
        "deployments": deployments,
        "operation": operation,
        "token": token,
        "job": job,
        "data": make_data(workspace),
        "schedule": make_schedule(job.endpoint),
        "datastore": make_datastore(workspace),
        "component": make_component(workspace),
    }


def make_node(cluster, name="cpu-1", **values):
    from apps.batch.models import Node

    values = {"cpu_milli": 100, "mem_bytes": 2**20, "state": "idle", "idle_since": timezone.now()} | values
    return Node.objects.create(cluster=cluster, name=name, **values)


def make_host(name="worker-1", **values):
    from apps.batch.models import Host

    values = {"cpu_milli": 4000, "mem_bytes": 8 * 2**30, "seen_at": timezone.now()} | values
    return Host.objects.create(name=name, **values)


def make_component(workspace, name="step", version="1", **values):
    from apps.registry.models import Component, ComponentVersion

    asset, _ = Component.objects.get_or_create(workspace=workspace, name=name)
    values = {"type": "command", "spec": {"command": "echo hi"}} | values
    return ComponentVersion.objects.create(asset=asset, version=version, **values)


def make_build(*, requirements="scikit-learn==1.5.0", used=None, size=3 * 2**20, state="succeeded", on_disk=True):
    """An environment on disk, with one file; `used`: when it was last asked for."""
    from pathlib import Path

    from django.conf import settings

    from apps.builds.models import Build, Resolution

    key = hashlib.sha256(f"build{next(_numbers)}".encode()).hexdigest()
    path = Path(settings.HOME.environments) / key[:20]
    if on_disk:
        path.mkdir(parents=True)
        (path / "pyvenv.cfg").write_text("home = /usr\n")
    build = Build.objects.create(
        key=key,
        state=state,
        path=str(path),
        python="3.11.7",
        requirements=requirements,
        lock=f"{requirements}\n",
        size_bytes=size,
        finished_at=timezone.now(),
        last_used_at=used or timezone.now() - timedelta(days=60),
    )
    Resolution.objects.create(request_key=key[::-1], build=build)
    return build


def make_administrator(name="ada"):
    from apps.accounts.models import User

    return User.objects.create_user(username=name, password="a long password", is_superuser=True, is_staff=True)


def make_console_world(workspace, people):
    """What `make_world` makes, an administrator Ada, and rows of every list of the console."""
    from apps.accounts.models import Membership
    from apps.compute.models import Replica
    from apps.core import audit
    from apps.core.models import AuditRecord

    people["ada"] = people.get("ada") or make_administrator()
    made = make_world(workspace, people["olga"])
    made["build"] = make_build()
    audit.record(people["olga"], "test.done", workspace=workspace.name, target="online-endpoint/flowers", why="because")
    job = made["job"]
    return {
        **made,
        "host": make_host(seen_at=timezone.now() - timedelta(hours=1)),
        "node": make_node(job.cluster, state="running", host="worker-1", job=job, idle_since=None),
        "workspace": workspace,
        "people": people,
        "user": people["dan"],
        "membership": Membership.objects.get(user=people["dan"]),
        "replica": Replica.objects.order_by("pk").first(),
        "record": AuditRecord.objects.first(),
    }
