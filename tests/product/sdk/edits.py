"""Online endpoints from YAML files: changed after they were made, with all three kinds of credentials."""

import json

from azure.ai.ml import load_online_deployment, load_online_endpoint
from azure.ai.ml.entities import ManagedOnlineEndpoint, OnlineRequestSettings
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from common import CONDA, IMAGE, client, refused, write

ENDPOINT = """
$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineEndpoint.schema.json
name: my-endpoint
auth_mode: key
description: mine
tags: {a: b}
"""
DEPLOYMENT = f"""
$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
name: blue
endpoint_name: edited
model: {{path: ./model/model.txt}}
code_configuration: {{code: ./src, scoring_script: score.py}}
environment: {{conda_file: ./conda.yml, image: "{IMAGE}:latest"}}
instance_type: small
instance_count: 1
environment_variables: {{COLOUR: blue}}
request_settings: {{request_timeout_ms: 3000, max_concurrent_requests_per_instance: 1, max_queue_wait_ms: 3000}}
liveness_probe: {{initial_delay: 10, period: 10, timeout: 2, success_threshold: 1, failure_threshold: 30}}
scale_settings: {{type: default}}
"""
endpoints, deployments = client.online_endpoints, client.online_deployments
write("src/score.py", "import os\ndef init(): pass\ndef run(data): return os.environ['COLOUR']\n")
write("model/model.txt", "m")
write("conda.yml", CONDA)
request = write("request.json", '{"data": 1}')
of_deployment = write("deployment.yml", DEPLOYMENT)


def deployed(**changes):
    """The changes are of the YAML file's fields, dots as two underscores."""
    overrides = [{name.replace("__", "."): value} for name, value in changes.items()]
    made = load_online_deployment(of_deployment, params_override=overrides)
    return deployments.begin_create_or_update(made).result()


def changed(name, **values):
    endpoint = endpoints.get(name)
    for field, value in values.items():
        setattr(endpoint, field, value)
    return endpoints.begin_create_or_update(endpoint).result()


made = load_online_endpoint(write("endpoint.yml", ENDPOINT), params_override=[{"name": "edited"}, {"tags.c": "d"}])
made = endpoints.begin_create_or_update(made).result()
assert made.tags == {"a": "b", "c": "d"}
assert made.scoring_uri.startswith("https://")
for colour in ("blue", "green"):
    assert deployed(name=colour, environment_variables__COLOUR=colour).provisioning_state == "Succeeded"
mirrored = changed("edited", traffic={"blue": 100, "green": 0}, mirror_traffic={"green": 10})
assert mirrored.mirror_traffic == {"green": 10}
split = changed("edited", traffic={"blue": 50, "green": 50}, mirror_traffic={}, tags={"z": "y"}, description="new")
assert (split.traffic, split.tags, split.description) == ({"blue": 50, "green": 50}, {"z": "y"}, "new")
green = deployments.get("green", "edited")
green.instance_count = 2
green.environment_variables = {"COLOUR": "olive"}
green.request_settings = OnlineRequestSettings(request_timeout_ms=5000, max_concurrent_requests_per_instance=2)
green.tags = {"k": "v"}
green = deployments.begin_create_or_update(green).result()
assert (green.instance_count, green.request_settings.request_timeout_ms, green.tags) == (2, 5000, {"k": "v"})
refused(HttpResponseError, lambda: deployments.begin_delete("green", "edited").result(), "DeploymentHasTraffic")
assert json.loads(endpoints.invoke("edited", deployment_name="green", request_file=request)) == "olive"
before = endpoints.get_keys("edited").primary_key
endpoints.begin_regenerate_keys("edited", key_type="primary").result()
assert endpoints.get_keys("edited").primary_key != before
changed("edited", traffic={"blue": 100, "green": 0})
deployments.begin_delete("green", "edited").result()
assert [each.name for each in deployments.list("edited")] == ["blue"]
refused(ResourceNotFoundError, lambda: deployments.get("green", "edited"))
endpoints.begin_delete("edited").result()

# tokens, of endpoints and of users; the SDK names the deployment once named in every later request of a process
for name, mode in (("by-token", "aml_token"), ("by-user", "aad_token")):
    endpoint = ManagedOnlineEndpoint(name=name, auth_mode=mode)
    assert endpoints.begin_create_or_update(endpoint).result().auth_mode == mode
    assert endpoints.get_keys(name).access_token
    deployed(name="green", endpoint_name=name)
    changed(name, traffic={"green": 100})
    assert json.loads(endpoints.invoke(name, request_file=request)) == "blue"
assert changed("by-token", auth_mode="key").auth_mode == "key"
assert endpoints.get_keys("by-token").primary_key
for name in ("by-token", "by-user"):
    endpoints.begin_delete(name).result()
