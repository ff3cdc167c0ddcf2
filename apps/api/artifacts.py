"""Logs of jobs as the SDK downloads them: blobs of `workspaceartifactstore`, a datastore that is nowhere else.

Their names are `ExperimentRun/dcid.<run>/<name of the log>`; nothing can be written there.
"""

from __future__ import annotations

import os
import re
from typing import Any, BinaryIO

from django.conf import settings
from django.http import HttpRequest
from django.urls.converters import StringConverter

from apps.accounts.models import Workspace
from apps.api import sas
from apps.api.blobs import Blobs
from apps.api.jobs import run_of
from apps.batch.engine import joblogs
from apps.batch.enums import JobType
from apps.batch.models import Job
from apps.registry import datastores
from apps.registry.blobs import Blob, Container, Listing
from apps.registry.enums import DatastoreType

STORE = datastores.ARTIFACTS
NAME = re.compile(r"(?P<folder>ExperimentRun/dcid\.(?P<run>[^/]{1,255})/)(?P<log>.*)", re.DOTALL)
EXECUTION = "logs/azureml/executionlogs.txt"  # what the SDK streams of a pipeline
STDOUT = "user_logs/std_log.txt"  # … and of a command
PRINTED = re.compile(r"logs/user/stdout/[^/]+/process0\.stdout\.txt")


class ContainerName(StringConverter):
    """In a URL."""

    regex = r"azureml-artifacts-[0-9]{1,18}"


def logs_of(job: Job) -> dict[str, tuple[str, int]]:
    """(the file of the tree, its bytes) of each log by its own name, and by those that the SDK looks for."""
    files = {name: (name, size) for name, size in joblogs.tree(job)}
    if joblogs.MASTER in files:
        files[EXECUTION] = files[joblogs.MASTER]
    printed = [each for name, each in files.items() if PRINTED.fullmatch(name)]
    if job.type == JobType.COMMAND and printed:
        files[STDOUT] = printed[-1]
    return files


def container_of(workspace: Workspace) -> Container:
    return Container(f"azureml-artifacts-{workspace.pk}", workspace)


def facade(workspace: Workspace) -> dict[str, Any]:
    """The datastore on the wire."""
    return {
        "datastoreType": DatastoreType.AZURE_BLOB,
        "accountName": f"{settings.HOST}:{settings.PORT}/{sas.ACCOUNT}",
        "containerName": container_of(workspace).name,
        "endpoint": sas.SUFFIX,
        "protocol": "https",
        "credentials": {"credentialsType": "Sas"},
        "isDefault": False,
        "serviceDataAccessAuthIdentity": "None",
        "description": "",
        "tags": {},
        "properties": {},
    }


class Artifacts(Blobs):
    http_method_names = ["get", "head"]

    def _container(self, name: str, request: HttpRequest) -> Container:
        found = Workspace.objects.filter(pk=int(name.rpartition("-")[2])).first()
        return self._allowed(container_of(found) if found else None, name, request)

    def _find(self, blob: str) -> Blob | None:
        pair = self._opened(blob)
        if pair is None:
            return None
        pair[1].close()
        return pair[0]

    def _opened(self, blob: str) -> tuple[Blob, BinaryIO] | None:
        match = NAME.fullmatch(blob)
        job = run_of(self.container.workspace, match["run"]) if match else None
        entry = logs_of(job).get(match["log"]) if match and job else None
        path = joblogs.path_of(job, entry[0]) if job and entry else None
        if path is None:
            return None
        try:
            stream = path.open("rb")
        except FileNotFoundError:  # working files of ended jobs go after some days
            return None
        stat = os.fstat(stream.fileno())
        return _blob(blob, stat.st_size, stat.st_mtime), stream

    def _page(self, prefix: str, *, nested: bool, after: str, most: int) -> Listing:
        """Always nested: no other reader than the SDK is known."""
        match = NAME.fullmatch(prefix)
        job = run_of(self.container.workspace, match["run"]) if match else None
        if match is None or job is None:
            return Listing([], [], "")
        modified = (job.ended_at or job.created_at).timestamp()
        files = sorted((f"{match['folder']}{name}", size) for name, (_, size) in logs_of(job).items())
        found = [(name, size) for name, size in files if name.startswith(prefix) and name > after]
        shown = [_blob(name, size, modified) for name, size in found[:most]]
        return Listing(shown, [], shown[-1].name if len(found) > most else "")


def _blob(name: str, size: int, modified: float) -> Blob:
    return Blob(name, size, modified, f'"0x{size:X}"')  # a log only grows
