"""Telling open pages that something changed. Hints only: a page that misses one sees the change at its next poll."""

from __future__ import annotations

from typing import Any

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

log = structlog.get_logger(__name__)


def changed(workspace: str, *topics: str) -> None:
    """After commit, tell the pages of a workspace that these topics (e.g. "endpoint:iris") changed. Never raises."""
    transaction.on_commit(lambda: _send(workspace, topics), robust=True)


def group(workspace: str) -> str:
    return f"workspace.{workspace}"


def ended(user_id: int) -> None:
    """After commit, close the sockets of a user who may not go on. Never raises."""
    transaction.on_commit(lambda: _tell(user_group(user_id), {"type": "ended"}), robust=True)


def user_group(user_id: int) -> str:
    return f"user.{user_id}"


def _send(workspace: str, topics: tuple[str, ...]) -> None:
    _tell(group(workspace), {"type": "changed", "topics": list(topics)})


def _tell(name: str, event: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(layer.group_send)(name, event)
    except Exception as error:  # noqa: BLE001 -- the broker may be away; pages poll as well
        log.debug("event.lost", reason=str(error))
