"""A batch endpoint: compute, deployment, jobs over a local folder, results fetched; then pipelines."""

from azure.ai.ml import Input, load_component, load_job
from azure.ai.ml.entities import (
    AmlCompute,
    BatchEndpoint,
    BatchRetrySettings,
    CodeConfiguration,
    Environment,
    Model,
    ModelBatchDeployment,
    ModelBatchDeploymentSettings,
)
from azure.ai.ml.entities._load_functions import load_pipeline_component_batch_deployment
from common import CONDA, IMAGE, client, files_in, folder, write

COMPONENT = """
type: pipeline
name: listing
version: "1"
inputs: {data: {type: uri_folder}}
outputs: {out: {type: uri_folder}}
jobs:
  one:
    type: command
    component:
      type: command
      name: one
      version: "1"
      inputs: {data: {type: uri_folder}}
      outputs: {out: {type: uri_folder}}
      environment: azureml:shell@latest
      code: ./src
      command: ls ${{inputs.data}} > ${{outputs.out}}/list.txt
    inputs: {data: "${{parent.inputs.data}}"}
    outputs: {out: "${{parent.outputs.out}}"}
"""
DEPLOYMENT = """
type: pipeline
name: pipe
endpoint_name: batch-of-sdk
component: azureml:listing@latest
settings: {default_compute: of-sdk, continue_on_step_failure: false}
"""
JOB = """
type: pipeline
settings: {default_compute: "azureml:of-sdk"}
jobs:
  one:
    type: command
    environment: azureml:shell@latest
    code: ./src
    command: echo hi > ${{outputs.out}}/hi.txt
    outputs: {out: {type: uri_folder}}
"""
SCRIPT = """
import os, time
def init(): pass
def run(files):
    time.sleep(60 if "slow" in files[0] else 0)
    return [os.path.basename(each) for each in files]
"""
endpoints, deployments, jobs = client.batch_endpoints, client.batch_deployments, client.jobs

write("src/score.py", SCRIPT)
conda = write("conda.yml", CONDA)
for number in range(12):
    write(f"data/{number:02}.csv", "a\n1\n")
data = Input(type="uri_folder", path=str(folder / "data"))

compute = AmlCompute(name="of-sdk", min_instances=0, max_instances=2, size="STANDARD_DS3_V2")
assert client.compute.begin_create_or_update(compute).result().provisioning_state == "Succeeded"
assert "of-sdk" in {each.name for each in client.compute.list()}
endpoints.begin_create_or_update(BatchEndpoint(name="batch-of-sdk")).result()
blue = ModelBatchDeployment(
    name="blue",
    endpoint_name="batch-of-sdk",
    model=Model(path=write("model.txt", "m")),
    code_configuration=CodeConfiguration(code=str(folder / "src"), scoring_script="score.py"),
    environment=Environment(conda_file=conda, image=IMAGE),
    compute="of-sdk",
    settings=ModelBatchDeploymentSettings(
        instance_count=1,
        max_concurrency_per_instance=2,
        mini_batch_size=3,
        output_action="append_row",
        output_file_name="predictions.csv",
        retry_settings=BatchRetrySettings(max_retries=1, timeout=60),
    ),
)
deployments.begin_create_or_update(blue).result()
endpoint = endpoints.get("batch-of-sdk")
endpoint.defaults.deployment_name = "blue"
assert endpoints.begin_create_or_update(endpoint).result().defaults.deployment_name == "blue"

job = endpoints.invoke(endpoint_name="batch-of-sdk", input=data)
jobs.stream(job.name)
assert jobs.get(job.name).status == "Completed"
jobs.download(name=job.name, download_path=str(folder / "out"), output_name="score")
rows = files_in(folder / "out")["predictions.csv"].decode().split()
assert rows == [f"{number:02}.csv" for number in range(12)]
assert len(list(jobs.list(parent_job_name=job.name))) == 1
assert [each.name for each in endpoints.list_jobs(endpoint_name="batch-of-sdk")] == [job.name]
assert [each.name for each in deployments.list_jobs(endpoint_name="batch-of-sdk", name="blue")] == [job.name]

write("long/slow.csv", "a\n1\n")
long = Input(type="uri_folder", path=str(folder / "long"))
second = endpoints.invoke(endpoint_name="batch-of-sdk", deployment_name="blue", input=long)
jobs.begin_cancel(second.name).result()
assert jobs.get(second.name).status in {"CancelRequested", "Finalizing", "Canceled"}

client.environments.create_or_update(Environment(name="shell", conda_file=conda, image=IMAGE))
client.components.create_or_update(load_component(write("component.yml", COMPONENT)))
made = load_pipeline_component_batch_deployment(write("deployment.yml", DEPLOYMENT))
deployments.begin_create_or_update(made).result()
third = endpoints.invoke(endpoint_name="batch-of-sdk", deployment_name="pipe", inputs={"data": data})
jobs.stream(third.name)
assert jobs.get(third.name).status == "Completed"
jobs.download(name=third.name, download_path=str(folder / "listed"), output_name="out")
[listed] = files_in(folder / "listed").values()
assert listed.decode().split() == rows
fourth = jobs.create_or_update(load_job(write("job.yml", JOB)))
jobs.stream(fourth.name)
assert jobs.get(fourth.name).status == "Completed"

deployments.begin_delete("pipe", "batch-of-sdk").result()
endpoints.begin_delete("batch-of-sdk").result()
