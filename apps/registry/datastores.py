"""Verbs on datastores: the names under which a workspace knows places for data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from django.conf import settings as installation
from django.db import IntegrityError, transaction

from apps.accounts.models import Workspace
from apps.accounts.policy import is_administrator
from apps.core import audit
from apps.core.errors import Problem
from apps.registry.enums import DatastoreType
from apps.registry.locations import checked_path
from apps.registry.models import Datastore
from apps.registry.names import check_asset_name
from apps.registry.queries import DEFAULT_DATASTORE, data_in, default_datastore
from apps.registry.stores.addresses import account_url
from apps.registry.stores.base import refused
from apps.registry.stores.guard import check_url

ARTIFACTS = "workspaceartifactstore"
ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
REGION = re.compile(r"[a-z0-9-]{1,40}")
HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251})(?::[0-9]{1,5})?", re.IGNORECASE)
NEEDED = {
    (DatastoreType.AZURE_BLOB, "AccountKey"): {"key"},
    (DatastoreType.AZURE_BLOB, "Sas"): {"sasToken"},
    (DatastoreType.AZURE_BLOB, "None"): set(),
    (DatastoreType.S3, "AccountKey"): {"accessKeyId", "key"},
    (DatastoreType.S3, "None"): set(),
    (DatastoreType.LOCAL, "None"): set(),
}


def save_datastore(
    *,
    workspace: Workspace,
    name: str,
    type: str,  # noqa: A002 -- Azure's word
    settings: dict[str, Any],
    credentials: dict[str, Any] | None,
    actor: Any,
    description: str = "",
    tags: dict[str, str] | None = None,
    properties: dict[str, str] | None = None,
) -> tuple[Datastore, bool]:
    """Create or change a datastore; (it, whether it is new).

    `credentials`: credentialsType and its secrets. Without secrets those it has stay, if it stays at the same place:
    they must never go to another one.

    Raises:
        Problem: "bad-name", "bad-field", "conflict" for the default datastore or another type, "forbidden" for folders
            of this machine, which only administrators may name.
    """
    check_asset_name("datastore", name)
    check_changeable(name)
    _CHECKS[DatastoreType(type)](settings, actor)
    values: dict[str, Any] = {
        "settings": settings,
        "description": description,
        "tags": tags or {},
        "properties": properties or {},
    }
    try:
        with transaction.atomic():
            found = Datastore.objects.select_for_update().filter(workspace=workspace, name=name).first()
            if found is not None and found.type != type:
                raise Problem("conflict", reason=f"Datastore {name} is of type {found.type}. Delete it first.")
            values["credentials"] = _credentials(found, type, settings, credentials or {"credentialsType": "None"})
            if found is None:
                row = Datastore.objects.create(workspace=workspace, name=name, type=type, created_by=actor, **values)
            else:
                row = found
                for key, value in values.items():
                    setattr(row, key, value)
                row.save()
            verb = "create" if found is None else "update"
            audit.record(actor, f"datastore.{verb}", workspace=workspace.name, target=f"datastore/{name}")
    except IntegrityError:
        raise Problem("conflict", reason=f"Datastore {name} is being made by somebody else.") from None
    return row, found is None


def check_changeable(name: str) -> None:
    """Raises Problem "conflict" for the default datastore, and for the one that shows logs of jobs."""
    if name in (DEFAULT_DATASTORE, ARTIFACTS):
        raise Problem("conflict", reason=f"{name} comes with the workspace and cannot be changed.")


@transaction.atomic
def delete_datastore(*, datastore: Datastore, actor: Any) -> None:
    """Forget a datastore; what is in it stays. Raises Problem "conflict" for the default one, "in-use"."""
    if datastore.is_default:
        raise Problem("conflict", reason=f"{datastore.name} comes with the workspace and cannot be deleted.")
    if users := data_in(datastore):
        raise Problem("in-use", kind="datastore", name=datastore.name, users=", ".join(users))
    audit.record(actor, "datastore.delete", workspace=datastore.workspace.name, target=f"datastore/{datastore.name}")
    datastore.delete()


def secrets_of(datastore: Datastore, *, actor: Any) -> dict[str, Any]:
    """Its credentials, with credentialsType; who asked is recorded."""
    name = datastore.workspace.name
    audit.record(actor, "datastore.list-secrets", workspace=name, target=f"datastore/{datastore.name}")
    return stored_credentials(datastore)


def stored_credentials(datastore: Datastore) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(datastore.credentials or '{"credentialsType": "None"}')
    return found


def datastores_of(workspace: Workspace) -> list[Datastore]:
    """All of them, the default one first."""
    default_datastore(workspace)
    return list(workspace.datastores.select_related("workspace", "created_by"))


def _credentials(found: Datastore | None, type: str, settings: dict[str, Any], given: dict[str, Any]) -> str | None:  # noqa: A002
    kind = given["credentialsType"]
    needed = NEEDED.get((DatastoreType(type), kind))
    if needed is None:
        raise refused("credentials.credentialsType", f"a datastore of type {type} takes no {kind}")
    if not needed:
        return None
    secrets = {key: value for key, value in given.items() if value and key != "credentialsType"}
    if found is not None and not secrets.keys() - {"accessKeyId"}:
        same_place = _place(found.settings) == _place(settings)
        kept = stored_credentials(found)
        same_key = secrets.get("accessKeyId", kept.get("accessKeyId")) == kept.get("accessKeyId")
        if kept["credentialsType"] == kind and same_place and same_key:
            return found.credentials
    if set(secrets) != needed:
        raise refused("credentials.secrets", f"{kind} needs {' and '.join(sorted(needed))}, and nothing else")
    if any(not value.isprintable() or not value.isascii() for value in secrets.values()):
        raise refused("credentials.secrets", "must be printable ASCII characters")
    return json.dumps({"credentialsType": kind, **secrets})


def _place(settings: dict[str, Any]) -> list[Any]:
    return [settings.get(key) for key in ("accountName", "endpoint", "protocol", "containerName", "bucketName")]


def _matching(settings: dict[str, Any], field: str, rule: re.Pattern[str], words: str) -> None:
    if not rule.fullmatch(settings.get(field) or ""):
        raise refused(field, f"must be {words}")


def _check_azure(settings: dict[str, Any], actor: Any) -> None:  # noqa: ARG001
    endpoint = settings.get("endpoint") or ""
    _matching(settings, "accountName", ACCOUNT, "3 to 24 lower-case letters and digits")
    _matching(settings, "containerName", CONTAINER, "3 to 63 lower-case letters, digits and dashes")
    if endpoint and "://" not in endpoint:
        _matching(settings, "endpoint", HOST, "a host such as core.windows.net, or a URL")
    check_url(account_url(settings), "endpoint")
    checked_path(settings.get("prefix") or "", "prefix")


def _check_s3(settings: dict[str, Any], actor: Any) -> None:  # noqa: ARG001
    _matching(settings, "bucketName", BUCKET, "3 to 63 lower-case letters, digits, dots and dashes")
    if settings.get("region"):
        _matching(settings, "region", REGION, "a region such as eu-central-1")
    if settings.get("endpoint"):
        check_url(settings["endpoint"], "endpoint")
    checked_path(settings.get("prefix") or "", "prefix")


def _check_local(settings: dict[str, Any], actor: Any) -> None:
    """The state folder holds the secrets of this installation: no folder within it, and none around it."""
    if not is_administrator(actor):
        raise refused("root", "only an administrator may name folders of this machine")
    text = settings.get("root") or ""
    root, home = Path(text), Path(installation.HOME.root).resolve()
    if not root.is_absolute() or not text.isprintable() or not root.is_dir():
        raise refused("root", "must be the absolute path of a folder of this machine")
    root = root.resolve()
    if root.is_relative_to(home) or home.is_relative_to(root):
        raise refused("root", "must not be the state folder of Portway, in it, or around it")


_CHECKS = {DatastoreType.AZURE_BLOB: _check_azure, DatastoreType.S3: _check_s3, DatastoreType.LOCAL: _check_local}
