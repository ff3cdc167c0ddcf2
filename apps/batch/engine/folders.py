"""Where a job's work lies: `<artifacts>/batch/<job id>/`.

`parts/`: segments with results. `score/`: what the script writes itself. `logs/`: the logs tree of spec 7.2.
`outputs/<attempt>/<name>/`: what a command writes. `command/`: its script. `inputs/<name>/` and `stage/<node>/`: inputs
fetched from afar. Every worker host must see the same folder. What is needed no more goes, see `apps.batch.retention`.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from apps.batch.models import Job

WRITABLE = 0o777  # by the workers' user, which has no rights elsewhere; the folders above let nobody list them
PASSABLE = 0o711


LOGS = "logs"
SWEPT = "swept"


def root() -> Path:
    return Path(settings.HOME.artifacts) / "batch"


def of(job: Job) -> Path:
    return root() / str(job.pk)


def parts(job: Job) -> Path:
    return _made(of(job) / "parts", 0o700)


def logs(job: Job) -> Path:
    return _made(of(job) / LOGS, 0o700)


def score(job: Job) -> Path:
    """What scripts find as AZUREML_BI_OUTPUT_PATH."""
    return _made(of(job) / "score", WRITABLE)


def output(job: Job, attempt: str, name: str) -> Path:
    """What one attempt at a command writes for an output."""
    return _made(of(job) / "outputs" / attempt / name, WRITABLE)


def fetched(job: Job, name: str) -> Path:
    return _made(of(job) / "inputs" / name, 0o755)


def script(job: Job) -> Path:
    return _made(of(job) / "command", 0o755)


def stage(job: Job, node: str) -> Path:
    return _made(of(job) / "stage" / node, 0o755)


def _made(path: Path, mode: int) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for parent in path.parents:
        if parent.is_relative_to(root()) and parent.stat().st_mode & 0o777 != PASSABLE:
            parent.chmod(PASSABLE)
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
    return path


def remove(job: Job) -> None:
    shutil.rmtree(of(job), ignore_errors=True)


def is_swept(job: Job) -> bool:
    """Whether what its mini-batches need, and have written, was taken away."""
    return (of(job) / SWEPT).exists()


def mark_swept(folder: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):  # deleted meanwhile; not ours
        (folder / SWEPT).touch()


def forget_work(folder: Path) -> bool:
    """Remove all of a job's folder but its logs; whether there was anything."""
    mark_swept(folder)
    try:
        work = [each for each in folder.iterdir() if each.name not in {LOGS, SWEPT}]
    except (FileNotFoundError, NotADirectoryError):
        return False
    for each in work:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        else:
            each.unlink(missing_ok=True)
    return bool(work)
