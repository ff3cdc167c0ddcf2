"""The client as its users make it, pointed here by environment variables alone, and the folder of a script's files."""

import sys
import warnings
from pathlib import Path

from azure.ai.ml import MLClient
from azure.identity import ManagedIdentityCredential

warnings.filterwarnings("ignore")
client = MLClient(ManagedIdentityCredential(), "00000000-0000-0000-0000-000000000000", "portway", "default")
folder = Path(sys.argv[1])
CONDA = "dependencies: [python=3.11]\n"
IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"


def write(path, content):
    """A file below the folder; its path as text."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(target)


def refused(error, call, *told):
    """That a call is refused, in so many words."""
    try:
        call()
    except error as answer:
        missing = [each for each in told if each not in str(answer)]
    else:
        missing = ["any refusal"]
    if missing:
        raise AssertionError(f"there was no {missing}")


def files_in(path):
    return {each.relative_to(path).as_posix(): each.read_bytes() for each in Path(path).rglob("*") if each.is_file()}
