"""Rows of batch work, made without running anything."""

from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster, Job, MiniBatch, Node
from apps.compute.domain import seed_instance_types, seed_targets
from apps.registry.domain import register_code, register_component, register_environment
from tests.factories import make_model
from tests.world import PLAIN, tree_of

NAMES = "def init():\n    pass\n\ndef run(mini_batch):\n    return mini_batch\n"


def make_cluster(workspace, name="cpu", **values):
    seed_instance_types()
    seed_targets()
    return Cluster.objects.create(workspace=workspace, name=name, **({"instance_type": "small"} | values))


def make_code(workspace, script=NAMES, actor=None):
    return register_code(workspace=workspace, name="code", tree=tree_of(**{"score.py": script}), actor=actor)[0]


def make_environment(workspace, actor=None):
    return register_environment(workspace=workspace, name="plain", version="1", conda_file=PLAIN, actor=actor)[0]


def make_component(workspace, name="hello_batch", version="1", command="echo hi"):
    """A pipeline component whose only step runs a command."""
    make_environment(workspace)
    step = {"type": "command", "command": command, "environment": "azureml:plain:1"}
    document = {"type": "pipeline", "jobs": {"main_job": {"component": step}}}
    return register_component(workspace=workspace, name=name, version=version, document=document, actor=None)[0]


def make_batch_endpoint(workspace, name="forests", **values):
    return BatchEndpoint.objects.create(workspace=workspace, name=name, **({"state": "Succeeded"} | values))


def make_batch_deployment(endpoint, name="blue", *, cluster=None, default=True, **values):
    cluster = cluster or Cluster.objects.filter(workspace=endpoint.workspace).first()
    cluster = cluster or make_cluster(endpoint.workspace)
    made = BatchDeployment.objects.create(
        endpoint=endpoint,
        name=name,
        **({"cluster": cluster, "model": make_model(endpoint.workspace, f"m-{name}"), "state": "Succeeded"} | values),
    )
    if default:
        BatchEndpoint.objects.filter(pk=endpoint.pk).update(default_deployment=made)
        endpoint.refresh_from_db()
    return made


def make_job(deployment, name="job-1", *, parts=0, **values):
    """With `parts` mini-batches of one file each."""
    endpoint = deployment.endpoint
    values = {
        "workspace": endpoint.workspace,
        "endpoint": endpoint,
        "deployment": deployment,
        "endpoint_name": endpoint.name,
        "deployment_name": deployment.name,
        "cluster": deployment.cluster,
        "model": deployment.model,
        "state": "Running",
        "launch": {"driver": "process", "argv": [], "env": {}, "mounts": []},
        "inputs": {"data": {"type": "UriFolder", "uri": "azureml://datastores/workspaceblobstore/paths/in"}},
        "total": parts,
        "files": parts,
    } | values
    job = Job.objects.create(name=name, **values)
    blobs = "azureml://datastores/workspaceblobstore/paths/azureml"
    job.outputs = {"score": {"type": "UriFolder", "uri": f"{blobs}/{job.run_id}/score"}}
    job.save()
    MiniBatch.objects.bulk_create(
        MiniBatch(job=job, number=number, files=[f"f{number}.csv"], file_count=1) for number in range(parts)
    )
    return job


def make_node(cluster, name="cpu-1", **values):
    return Node.objects.create(
        cluster=cluster, name=name, **({"cpu_milli": 100, "mem_bytes": 2**20, "state": "idle"} | values)
    )
