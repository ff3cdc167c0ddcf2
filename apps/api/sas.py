"""Signed tokens for blobs, in the shape of the SDK's shared access signatures (wire 9).

Each names a container, a user, an end and what it is good for. The user's role counts at every request, so who loses it
loses the use of tokens given before.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import QueryDict
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission, can
from apps.registry.blobs import Container

SALT = "portway.blobs"
SUFFIX = "portway.local"
ACCOUNT = "storage"
VERSION = "2021-08-06"
KEPT = timedelta(hours=1)
FORMAT = "%Y-%m-%dT%H:%M:%SZ"
READS, WRITES = "rl", "racwl"
NEEDS = {READS: Permission.READ, WRITES: Permission.WRITE}


def address(container: Container) -> str:
    return f"{settings.BASE_URL}/{ACCOUNT}.blob.{SUFFIX}/{container.name}"


def token(container: Container, actor: Any) -> str:
    """The query string that lets an actor do here, for an hour, what its role allows now."""
    granted = WRITES if can(actor, Permission.WRITE, container.workspace) else READS
    until = (timezone.now() + KEPT).astimezone(UTC).strftime(FORMAT)
    given = {"sv": VERSION, "sr": "c", "sp": granted, "se": until, "skoid": str(actor.pk)}
    return urlencode({**given, "sig": _signature(container.name, given)})


def allows(query: QueryDict, container: str, workspace: Workspace, *, writing: bool) -> bool:
    """Whether a request with this query may read, or write, in the container."""
    given = {key: query.get(key, "") for key in ("sv", "sr", "sp", "se", "skoid")}
    if not constant_time_compare(query.get("sig", ""), _signature(container, given)):
        return False
    until = datetime.strptime(given["se"], FORMAT).replace(tzinfo=UTC)  # we have signed it: it is one
    if until <= timezone.now() or (writing and given["sp"] != WRITES):
        return False
    actor = get_user_model().objects.filter(pk=int(given["skoid"]), is_active=True).first()
    return actor is not None and can(actor, NEEDS[WRITES if writing else READS], workspace)


def _signature(container: str, given: dict[str, str]) -> str:
    text = "\n".join([container, *(given[key] for key in sorted(given))])
    return salted_hmac(SALT, text, algorithm="sha256").hexdigest()
