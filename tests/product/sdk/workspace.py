"""What a workspace has beside endpoints: compute, datastores, data, environments; and what is refused, and how."""

from azure.ai.ml.entities import (
    AccountKeyConfiguration,
    AmlCompute,
    AzureBlobDatastore,
    AzureFileDatastore,
    ComputeInstance,
    Data,
    Environment,
    Workspace,
)
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from common import CONDA, IMAGE, client, folder, refused, write

computes = client.compute
cluster = AmlCompute(name="tools", min_instances=0, max_instances=1, idle_time_before_scale_down=60)
computes.begin_create_or_update(cluster).result()
cluster = computes.get("tools")
cluster.max_instances = 2
cluster.tags = {"a": "b"}
assert computes.begin_create_or_update(cluster).result().max_instances == 2
cluster.idle_time_before_scale_down = 300
assert computes.begin_update(cluster).result().idle_time_before_scale_down == 300
assert "tools" in {each.name for each in computes.list(compute_type="AmlCompute")}
assert list(computes.list_nodes("tools")) == []
assert {"small", "medium"} <= {each.name for each in computes.list_sizes(compute_type="AmlCompute")}
assert {each.name["value"] for each in computes.list_usage()} >= {"cores", "memory"}
computes.begin_delete("tools").result()
refused(HttpResponseError, lambda: computes.begin_create_or_update(ComputeInstance(name="mine")), "computeType")

stores = client.datastores
key = AccountKeyConfiguration(account_key="a2V5a2V5a2V5a2V5")
blob = AzureBlobDatastore(name="blobs", account_name="account", container_name="container", credentials=key)
stores.create_or_update(blob)
assert stores.get("blobs").credentials.account_key is None
assert stores.get("blobs", include_secrets=True).credentials.account_key == key.account_key
assert {each.name for each in stores.list()} == {"workspaceblobstore", "blobs"}
assert stores.get_default().name == "workspaceblobstore"
stores.delete("blobs")
refused(ResourceNotFoundError, lambda: stores.get("blobs"), "blobs")
share = AzureFileDatastore(name="share", account_name="account", file_share_name="container", credentials=key)
refused(HttpResponseError, lambda: stores.create_or_update(share), "AzureFile")
ours = AzureBlobDatastore(name="workspaceartifactstore", account_name="account", container_name="container")
refused(ResourceExistsError, lambda: stores.create_or_update(ours), "comes with the workspace")

write("data/1.csv", "a\n")
for version in ("1", "2"):
    assert client.data.create_or_update(Data(name="auto", path=str(folder / "data"))).version == version
assert client.data.get("auto", label="latest").version == "2"
client.data.archive("auto", version="1")
assert [each.version for each in client.data.list("auto")] == ["2"]
client.data.restore("auto", version="1")
client.data.archive("auto")
assert "auto" not in {each.name for each in client.data.list()}
client.data.restore("auto")
assert "auto" in {each.name for each in client.data.list()}

environments = client.environments
plain = Environment(name="image", image="docker.io/library/python:3.11-slim")
assert environments.create_or_update(plain).version == "1"
conda = write("conda.yml", CONDA)
assert environments.create_or_update(Environment(name="both", image=IMAGE, conda_file=conda)).version == "1"
conda = write("more.yml", f"channels: [conda-forge]\n{CONDA}")
assert environments.create_or_update(Environment(name="both", image=IMAGE, conda_file=conda)).version == "2"
assert environments.get("both", version="1").image == IMAGE
environments.archive("both", version="1")
assert [each.version for each in environments.list("both")] == ["2"]
environments.archive("image")
assert "image" not in {each.name for each in environments.list()}

assert [each.name for each in client.workspaces.list()] == ["default"]
refused(ResourceNotFoundError, lambda: client.workspaces.get("nowhere"), "nowhere")
refused(ResourceNotFoundError, lambda: client.workspaces.begin_create(Workspace(name="nowhere")))
refused(HttpResponseError, lambda: client.workspaces.get_keys("default"), "Portway does not serve it")
refused(ResourceNotFoundError, lambda: list(client.connections.list()), "at this path")
refused(ResourceNotFoundError, lambda: list(client.registries.list()), "at this path")
refused(ResourceNotFoundError, lambda: list(client.serverless_endpoints.list()), "at this path")
assert list(client.feature_stores.list()) == []
