"""Telling open pages that something changed. Hints only: a page that misses one sees the change at its next poll."""

from __future__ import annotations

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


def _send(workspace: str, topics: tuple[str, ...]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(layer.group_send)(group(workspace), {"type": "changed", "topics": list(topics)})
    except Exception as error:  # noqa: BLE001 -- the broker may be away; pages poll as well
        log.debug("event.lost", reason=str(error))
