"""An online endpoint from nothing to a prediction and away again, all of it from local files."""

import json

from azure.ai.ml.entities import (
    CodeConfiguration,
    Environment,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
)
from common import CONDA, IMAGE, client, folder, write

SCRIPT = "import os\ndef init(): print('loaded', flush=True)\ndef run(data): return os.environ['COLOUR']\n"
endpoints, deployments = client.online_endpoints, client.online_deployments
write("src/score.py", SCRIPT)
request = write("request.json", '{"data": 1}')


def deployment(colour):
    return ManagedOnlineDeployment(
        name=colour,
        endpoint_name="from-sdk",
        model=Model(path=write("model.txt", "m")),
        code_configuration=CodeConfiguration(code=str(folder / "src"), scoring_script="score.py"),
        environment=Environment(conda_file=write("conda.yml", CONDA), image=IMAGE),
        environment_variables={"COLOUR": colour},
        instance_type="Standard_DS3_v2",
        instance_count=1,
    )


endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="from-sdk", auth_mode="key")).result()
for colour in ("blue", "green"):  # the second time, code, model and environment are known already
    made = deployments.begin_create_or_update(deployment(colour)).result()
    assert made.provisioning_state == "Succeeded", made.provisioning_state
endpoint = endpoints.get("from-sdk")
endpoint.traffic = {"blue": 100, "green": 0}
assert endpoints.begin_create_or_update(endpoint).result().traffic == {"blue": 100}
assert json.loads(endpoints.invoke("from-sdk", request_file=request)) == "blue"
assert json.loads(endpoints.invoke("from-sdk", deployment_name="green", request_file=request)) == "green"
assert "loaded" in deployments.get_logs("blue", "from-sdk", lines=50)
assert deployments.get_logs("blue", "from-sdk", lines=50, container_type="storage-initializer")
before = endpoints.get_keys("from-sdk")
endpoints.begin_regenerate_keys("from-sdk", key_type="secondary").result()
after = endpoints.get_keys("from-sdk")
assert before.primary_key == after.primary_key
assert before.secondary_key != after.secondary_key
assert {each.name for each in deployments.list("from-sdk")} == {"blue", "green"}
deployments.begin_delete("green", "from-sdk").result()
endpoints.begin_delete("from-sdk").result()
assert "from-sdk" not in {each.name for each in endpoints.list()}
