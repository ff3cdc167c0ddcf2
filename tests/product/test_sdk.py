"""The official `azure-ai-ml` SDK, unchanged, against the running product: what users' scripts do (wire 13.1).

The SDK has an environment of its own: it cannot share one with the server. PORTWAY_TEST_SDK names its Python.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SDK = shutil.which(os.environ.get("PORTWAY_TEST_SDK", ""))
SCRIPTS = Path(__file__).parent / "sdk"
THEMES = ("assets", "online", "batch", "edits", "batches", "pipelines", "workspace")
DEADLINE_S = 540
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(SDK is None, reason="azure-ai-ml is not installed: PORTWAY_TEST_SDK names a Python that has it"),
]


@pytest.fixture(scope="module")
def pointed(product):
    """The environment variables that `portway sdk-env` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "sdk-env"],
        env=product.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = [
        line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines() if line.startswith("export ")
    ]
    return os.environ | {name: value.strip("'") for name, value in lines}


@pytest.mark.parametrize("script", THEMES)
def test_scripts_of_users(pointed, tmp_path, script):
    done = subprocess.run(
        [SDK, str(SCRIPTS / f"{script}.py"), str(tmp_path)],
        env=pointed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
