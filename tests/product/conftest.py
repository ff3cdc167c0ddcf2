"""The whole product, started as a user starts it, once per module."""

import shutil
import tempfile
from pathlib import Path

import pytest

from bench.product import Product

PLAIN = "dependencies: [python=3.11]\n"
SCRIPT = "import os\n\ndef init():\n    pass\n\ndef run(data):\n    return os.environ.get('COLOUR', 'none')\n"


@pytest.fixture(scope="module")
def folder():
    """A short path: sockets live below it."""
    made = Path(tempfile.mkdtemp(prefix="pwp-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def product(folder):
    """Running, without the demo."""
    made = Product(folder / "h", PORTWAY_DEMO="0")
    try:
        made.up()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def echo(product, folder):
    """The properties that deploy a script which answers with its colour, in an environment without packages."""
    (folder / "src").mkdir()
    (folder / "src" / "score.py").write_text(SCRIPT)
    code = product.register("codes", "echo", "1", codeUri=f"file://{folder / 'src'}")
    environment = product.register("environments", "plain", "1", condaFile=PLAIN)
    return {"codeConfiguration": {"codeId": code, "scoringScript": "score.py"}, "environmentId": environment}


def cgroups_of(home):
    """Control groups whose folder is this installation's."""
    from apps.compute.drivers.isolation import group_name

    parent = Path(group_name("x", home / "replicas")).parent.name
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/{parent}") if path.is_dir()]
