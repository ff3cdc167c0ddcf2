"""Pipelines as tests make them: small components of shell commands, a deployment that runs them."""

from apps.batch import domain
from apps.batch.enums import DeploymentType, JobState, ProvisioningState
from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster
from apps.registry.domain import register_component

DATA = {"type": "uri_folder"}
PREPARE = {
    "type": "command",
    "command": "mkdir -p ${{outputs.prepared}}/deep && "
    'for f in ${{inputs.data}}/*; do tr a-z A-Z < "$f" > ${{outputs.prepared}}/deep/$(basename "$f"); done',
    "inputs": {"data": DATA},
    "outputs": {"prepared": None},
}
SCORE = {
    "type": "command",
    "command": "cat ${{inputs.data}}/deep/* > ${{outputs.scores}}/all.txt; "
    "echo mode ${{inputs.mode}} $[[extra ${{inputs.extra}}]] >> ${{outputs.scores}}/all.txt",
    "inputs": {
        "data": DATA,
        "mode": {"type": "string", "default": "append"},
        "extra": {"type": "string", "optional": True},
    },
    "outputs": {"scores": DATA},
}
PIPELINE = {
    "type": "pipeline",
    "inputs": {
        "input_data": DATA,
        "score_mode": {"type": "string", "default": "append"},
        "extra": {"type": "string", "optional": True},
    },
    "outputs": {"scores": {"type": "uri_folder", "mode": "upload"}},
    "jobs": {
        "prep": {
            "component": "azureml:prepare:1",
            "inputs": {"data": "${{parent.inputs.input_data}}"},
            "outputs": {"prepared": None},
        },
        "score": {
            "component": "azureml:score:1",
            "inputs": {
                "data": "${{parent.jobs.prep.outputs.prepared}}",
                "mode": "${{parent.inputs.score_mode}}",
                "extra": "${{parent.inputs.extra}}",
            },
            "outputs": {"scores": "${{parent.outputs.scores}}"},
        },
    },
}


def component(batch, name, document, version="1"):
    if document["type"] == "command" and not document.get("environment"):
        batch.environment()
        document = {**document, "environment": "azureml:plain:1"}
    return register_component(
        workspace=batch.workspace, name=name, document=document, actor=batch.actor, version=version
    )[0]


def one_step(command, *, inputs=None, outputs=None, given=None, **more):
    """(command component, pipeline with it as its step `only`); outputs of the step are those of the pipeline."""
    step = {"type": "command", "command": command, "inputs": inputs or {}, "outputs": outputs or {}, **more}
    bound = {name: "${{parent.inputs." + name + "}}" for name in inputs or {}}
    outer = {
        "type": "pipeline",
        "inputs": inputs or {},
        "outputs": outputs or {},
        "jobs": {
            "only": {
                "component": "azureml:only:1",
                "inputs": bound | (given or {}),
                "outputs": {name: "${{parent.outputs." + name + "}}" for name in outputs or {}},
            }
        },
    }
    return step, outer


def deploy(batch, version, *, name="flow", endpoint="pipes", **settings):
    cluster = Cluster.objects.filter(workspace=batch.workspace).first() or batch.cluster(idle_s=60)
    parent, _ = BatchEndpoint.objects.get_or_create(
        name=endpoint, workspace=batch.workspace, defaults={"state": ProvisioningState.SUCCEEDED}
    )
    made = BatchDeployment.objects.create(
        endpoint=parent,
        name=name,
        type=DeploymentType.PIPELINE,
        component=version,
        settings={"default_compute": cluster.name, **settings},
        state=ProvisioningState.SUCCEEDED,
    )
    BatchEndpoint.objects.filter(pk=parent.pk).update(default_deployment=made)
    return made


def deploy_one(batch, command, *, settings=None, **more):
    step, outer = one_step(command, **more)
    component(batch, "only", step)
    return deploy(batch, component(batch, "outer", outer), **(settings or {}))


def prepare_and_score(batch, **settings):
    component(batch, "prepare", PREPARE)
    component(batch, "score", SCORE)
    return deploy(batch, component(batch, "flow", PIPELINE), **settings)


def run(batch, inputs=None, *, deployment=None, outputs=None, name=""):
    spec = domain.JobSpec(inputs=inputs or {}, outputs=outputs or {}, name=name)
    endpoint = BatchEndpoint.objects.get(name="pipes")
    return domain.invoke(endpoint=endpoint, deployment=deployment, spec=spec, actor=batch.actor)[0]


def folder(uri):
    return {"type": "UriFolder", "uri": uri}


def words(value):
    return {"type": "Literal", "value": value}


def ended(batch, job, state=JobState.COMPLETED):
    batch.ended(job)
    told = [(each.step, each.state, each.error) for each in job.children.all()]
    assert job.state == state, (job.error, told)
    return job


def steps(job):
    """State of each step, and whether it ran."""
    return {each.step: (each.state, each.reused_from_id is None) for each in job.children.all()}


def text(batch, job, output, name):
    return (batch.blobs / job.outputs[output]["uri"].partition("/paths/")[2] / name).read_text()
