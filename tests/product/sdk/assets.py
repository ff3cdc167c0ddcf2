"""Models, environments and data: sent from local files, listed, archived and fetched again."""

import os

from azure.ai.ml.entities import BuildContext, Data, Environment, Model
from azure.core.exceptions import ResourceNotFoundError
from common import CONDA, IMAGE, client, files_in, folder, write

assert client.workspaces.get("default").name == "default"
assert client.datastores.get_default().name == "workspaceblobstore"

one = write("one.bin", os.urandom(1000))
write("m/a.txt", "a")
write("m/deep/b.txt", "b")
large = os.urandom(70 * 2**20)  # more than the SDK sends at once: it goes in blocks

assert client.models.create_or_update(Model(name="one", path=one, type="custom_model")).version == "1"
assert client.models.create_or_update(Model(name="one", path=one, type="custom_model")).version == "2"
made = client.models.create_or_update(Model(name="folder", version="7", path=str(folder / "m"), type="custom_model"))
assert "/datastores/workspaceblobstore/paths/LocalUpload/" in made.path
client.models.create_or_update(Model(name="large", path=write("large.bin", large), type="custom_model"))
assert client.models.get("one", label="latest").version == "2"
assert {"one", "folder", "large"} <= {each.name for each in client.models.list()}
assert [each.version for each in client.models.list("one")] == ["2", "1"]
client.models.archive("one", version="1")
assert [each.version for each in client.models.list("one")] == ["2"]
client.models.restore("one", version="1")
try:
    client.models.get("nothing", "1")
except ResourceNotFoundError:
    pass
else:
    raise AssertionError("there is no such model")

client.models.download("folder", "7", download_path=str(folder / "fetched"))
assert files_in(folder / "fetched" / "folder" / "m") == {"a.txt": b"a", "deep/b.txt": b"b"}
client.models.download("large", "1", download_path=str(folder / "fetched"))
assert list(files_in(folder / "fetched" / "large").values()) == [large]

conda = write("conda.yml", CONDA)
environment = Environment(name="plain", conda_file=conda, image=IMAGE)
assert client.environments.create_or_update(environment).version == "1"
write("c/Dockerfile", "FROM scratch\n")
context = Environment(name="context", build=BuildContext(path=str(folder / "c")))
assert client.environments.create_or_update(context).version == "1"
assert client.environments.get("plain", label="latest").version == "1"

for number in range(5):
    write(f"data/{number}.csv", f"a\n{number}\n")
tiles = client.data.create_or_update(Data(name="tiles", path=str(folder / "data"), type="uri_folder"))
assert client.data.get("tiles", label="latest").path == tiles.path
tile = client.data.create_or_update(Data(name="tile", path=str(folder / "data" / "1.csv"), type="uri_file"))
assert tile.path.endswith("/1.csv")
