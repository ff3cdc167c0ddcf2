"""Batch endpoints from YAML files, changed afterwards, invoked in every way that the SDK has."""

from azure.ai.ml import Input, Output, load_batch_deployment, load_batch_endpoint
from azure.ai.ml.entities import AmlCompute, BatchRetrySettings, Data
from azure.ai.ml.entities._load_functions import load_model_batch_deployment
from common import CONDA, IMAGE, client, files_in, folder, write

ENDPOINT = """
$schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json
name: my-batch
auth_mode: aad_token
tags: {a: b}
"""
COMMON = f"""
endpoint_name: batch-of-yaml
model: {{path: ./model}}
code_configuration: {{code: ./src, scoring_script: score.py}}
environment: {{conda_file: ./conda.yml, image: "{IMAGE}:latest"}}
compute: azureml:of-yaml
resources: {{instance_count: 1}}
"""
SETTINGS = """
max_concurrency_per_instance: 2
mini_batch_size: 2
output_action: append_row
output_file_name: predictions.csv
retry_settings: {max_retries: 3, timeout: 30}
error_threshold: -1
logging_level: info
"""
NEW = f"name: new\ntype: model\n{COMMON}settings:" + SETTINGS.replace("\n", "\n  ")
OLD = f"name: old\n{COMMON}{SETTINGS}"
endpoints, deployments, jobs = client.batch_endpoints, client.batch_deployments, client.jobs
SCRIPT = "import os\ndef init(): pass\ndef run(files): return [os.path.basename(each) for each in files]\n"
write("src/score.py", SCRIPT)
write("conda.yml", CONDA)
write("model/model.txt", "m")
for number in range(4):
    write(f"data/{number}.csv", "a\n1\n")

client.compute.begin_create_or_update(AmlCompute(name="of-yaml", min_instances=0, max_instances=1)).result()
endpoint = load_batch_endpoint(write("endpoint.yml", ENDPOINT), params_override=[{"name": "batch-of-yaml"}])
assert endpoints.begin_create_or_update(endpoint).result().scoring_uri.endswith("/batch-of-yaml/jobs")
deployments.begin_create_or_update(load_model_batch_deployment(write("new.yml", NEW))).result()
old = load_batch_deployment(write("old.yml", OLD), params_override=[{"tags.x": "y"}])
assert deployments.begin_create_or_update(old).result().tags == {"x": "y"}
assert {each.name for each in deployments.list("batch-of-yaml")} == {"new", "old"}
old = deployments.get("old", "batch-of-yaml")
old.mini_batch_size = 1
old.retry_settings = BatchRetrySettings(max_retries=2, timeout=40)
old = deployments.begin_create_or_update(old).result()
assert (old.mini_batch_size, old.retry_settings.max_retries, old.retry_settings.timeout) == (1, 2, 40)
endpoint = endpoints.get("batch-of-yaml")
endpoint.defaults = {"deployment_name": "new"}
endpoint.tags = {"c": "d"}
assert endpoints.begin_create_or_update(endpoint).result().tags == {"c": "d"}

whole = client.data.create_or_update(Data(name="rows", path=str(folder / "data"), type="uri_folder"))


def ran(**call):
    job = endpoints.invoke(endpoint_name="batch-of-yaml", **call)
    jobs.stream(job.name)
    assert jobs.get(job.name).status == "Completed"
    return job.name


def rows_of(name):
    jobs.download(name=name, download_path=str(folder / name), output_name="score")
    [found] = files_in(folder / name).values()
    return found.decode().split()


every = [f"{number}.csv" for number in range(4)]
for address in (whole.id, "azureml:rows@latest"):
    name = ran(input=Input(type="uri_folder", path=address))
assert rows_of(name) == every
ran(input=Input(type="uri_file", path=str(folder / "data" / "1.csv")), experiment_name="mine")
place = "azureml://datastores/workspaceblobstore/paths/results/mine.csv"
name = ran(
    inputs={"rows": Input(type="uri_folder", path=whole.path)},
    outputs={"score": Output(type="uri_file", path=place)},
    params_override=[{"mini_batch_size": "4"}, {"compute.instance_count": "1"}],
)
assert jobs.get(name).outputs["score"].path == place
name = ran(deployment_name="old", input=Input(type="uri_folder", path=whole.path))
assert name in {each.name for each in endpoints.list_jobs("batch-of-yaml")}
assert [each.name for each in deployments.list_jobs("batch-of-yaml", name="old")] == [name]
deployments.begin_delete("old", "batch-of-yaml").result()
endpoints.begin_delete("batch-of-yaml").result()
