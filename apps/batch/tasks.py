"""The Celery side of batch work: a message says that something may have changed, the agent of this worker looks."""

from __future__ import annotations

import threading
from typing import Any

from celery import shared_task  # noqa: TID251 -- a wake-up, as the one of apps.core
from celery.signals import worker_ready, worker_shutting_down
from django.db import close_old_connections

from apps.batch.engine import nodes, pipeline, wake
from apps.batch.engine.agent import Agent

_agents: list[Agent] = []


@shared_task(name=wake.TASK)
def look() -> None:
    """Give waiting work to nodes, then let this worker's agent look for what is its own. May be lost or doubled."""
    close_old_connections()
    try:
        nodes.schedule()
    finally:
        close_old_connections()
    for agent in _agents:
        agent.wake.set()


@shared_task(name=wake.ADVANCE)
def advance(job: str) -> None:
    """Bring a pipeline forward. May be lost or doubled."""
    close_old_connections()
    try:
        pipeline.advance(job)
    finally:
        close_old_connections()


@worker_ready.connect
def start(**_: Any) -> None:
    agent = Agent()
    _agents.append(agent)
    threading.Thread(target=agent.run, name="agent", daemon=True).start()


@worker_shutting_down.connect
def stop(**_: Any) -> None:
    for agent in _agents:
        agent.stop.set()
        agent.wake.set()
