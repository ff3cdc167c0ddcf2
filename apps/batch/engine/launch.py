"""How the workers of a job are started: decided once, when the job is prepared, and stored with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apps.batch.engine import folders
from apps.batch.models import Job, Node
from apps.batch.settings import JobSettings
from apps.builds.contract import RUNTIME, code_folder
from apps.builds.domain import Runnable
from apps.compute.drivers.base import Mount, Network, ReplicaSpec, Resources
from apps.endpoints.contents import Contents
from apps.endpoints.recipes.common import Parts
from apps.registry.scripts import root_of

__all__ = ["INPUT", "INPUTS", "OUTPUTS", "OWNER", "SCORE", "Launch", "command", "scoring"]

OWNER = "portway-batch"
INPUT = "/mnt/batch/input"
SCORE = "/mnt/batch/score"
INPUTS = "/mnt/inputs"
OUTPUTS = "/mnt/outputs"
COMMAND = "/mnt/command"
SCRIPT = "command.sh"
AS_SHELL = "import os, sys; os.execv('/bin/sh', ['/bin/sh', sys.argv[1]])"
PATH = "/usr/local/bin:/usr/bin:/bin"
GRACE_S = 5.0


@dataclass(frozen=True)
class Launch:
    """Stored as JSON in `Job.launch`. `mounts`: (source, target, read only)."""

    driver: str
    argv: tuple[str, ...]
    env: dict[str, str]
    mounts: tuple[tuple[str, str, bool], ...]
    image: str = ""
    image_user: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Launch:
        mounts = tuple((source, target, bool(read_only)) for source, target, read_only in stored["mounts"])
        return cls(**{**stored, "argv": tuple(stored["argv"]), "mounts": mounts})

    def spec(self, node: Node, *more: Mount, labels: dict[str, str]) -> ReplicaSpec:
        """The worker of one node. Its name says under which lease it was started."""
        return ReplicaSpec(
            name=f"{node.name}-t{node.token}",
            owner=OWNER,
            argv=self.argv,
            env=self.env,
            resources=Resources(cpu_milli=node.cpu_milli, mem_bytes=node.mem_bytes, gpus=node.gpus),
            mounts=(*(Mount(*each) for each in self.mounts), *more),
            labels=labels,
            network=Network.EGRESS,
            grace_s=GRACE_S,
            image=self.image,
            image_user=self.image_user,
        )


def scoring(job: Job, contents: Contents, runnable: Runnable, *, driver: str, source: Path | None) -> Launch:
    """The batch worker for a scoring script or an MLflow model. `source`: the input's folder, None when it is afar.

    Raises Problem "unsupported" when the image has no Python.
    """
    settings = JobSettings.of(job.settings)
    parts = Parts(contents)
    python = parts.add_runtime(runnable)
    parts.add_overlay(runnable)
    parts.add_model()
    parts.add_code()
    parts.env |= {
        "PORTWAY_BATCH_INPUT": INPUT,
        "PORTWAY_BATCH_OUTPUT": "append_row" if settings.appends else "summary_only",
        "PORTWAY_BATCH_LOGGING_LEVEL": settings.logging_level.lower(),
        "AZUREML_BI_OUTPUT_PATH": SCORE,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if contents.code is None and contents.model is not None:
        parts.env["PORTWAY_MLFLOW_MODEL"] = str(Path(parts.env["AZUREML_MODEL_DIR"], contents.model.path))
    parts.env |= contents.environment_variables
    mounts = [(source_, target, True) for source_, target in parts.mounts]
    mounts.append((str(folders.score(job)), SCORE, False))
    if source is not None:
        mounts.append((str(source), INPUT, True))
    return Launch(driver, (python, f"{RUNTIME}/batch_boot.py"), parts.env, tuple(mounts), runnable.image)


def command(
    job: Job,
    runnable: Runnable,
    *,
    driver: str,
    sources: dict[str, Path],
    variables: dict[str, str],
) -> Launch:
    """A step's command in a shell. `sources`: what is mounted to read, by its target; outputs are mounted by its node.

    `variables`: what the script refers to; those of the step are added.
    """
    mounts = [(str(source), target, True) for target, source in sources.items()]
    mounts.append((str(folders.script(job)), COMMAND, True))
    env = dict(JobSettings.of(job.settings).variables or {})
    script = f"{COMMAND}/{SCRIPT}"
    argv: tuple[str, ...] = ("/bin/sh", script)
    if runnable.python is not None:
        # Begun as Python: compute without containers shows a program the interpreter it is started with, and no other.
        argv = (str(runnable.python), "-I", "-S", "-c", AS_SHELL, script)
        env = {"PATH": f"{runnable.python.parent}:{PATH}"} | env
    if runnable.path is not None:
        mounts.append((str(runnable.path), str(runnable.path), True))
    if job.code is not None:
        mounts.append((str(root_of(job.code)), code_folder(job.code), True))
        env["PORTWAY_CODE"] = code_folder(job.code)
    return Launch(driver, argv, env | variables, tuple(mounts), runnable.image)
