"""One container at a time: look at it, end it, remove it. Whose it is, the caller has asked before."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

import requests
from docker.errors import APIError, NotFound

from apps.compute.drivers.base import DriverUnavailable
from apps.compute.drivers.docker import views
from apps.compute.drivers.docker.engine import Engine, unwilling
from apps.compute.drivers.docker.views import Container

BUSY_S = 0.2
END_SECONDS = 15.0
ALREADY = {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}


def look(engine: Engine, reference: str) -> Container | None:
    try:
        with engine.asked() as client:
            return views.container(client.inspect_container(reference))
    except NotFound:
        return None
    except APIError as error:
        raise unwilling(error) from error


def end(engine: Engine, found: Container, *, grace_s: float) -> None:
    """TERM, or what its image wants instead; KILL after `grace_s` seconds."""
    if found.paused:
        tell(engine, found, "unpause")
    if grace_s > 0:
        tell(engine, found, "kill", signal=found.stop_signal)
        if waited(engine, found, grace_s):
            return
    tell(engine, found, "kill", signal="SIGKILL")
    if not waited(engine, found, END_SECONDS):
        raise DriverUnavailable(f"The container {found.name} does not end although it was killed.")


def tell(engine: Engine, found: Container, verb: str, **more: Any) -> None:
    try:
        with engine.asked(slow=True) as client:
            getattr(client, verb)(found.id, **more)
    except APIError as error:
        if error.status_code not in ALREADY:
            raise unwilling(error) from error


def waited(engine: Engine, found: Container, seconds: float) -> bool:
    """True when it has ended within that time."""
    try:
        with engine.asked() as client:
            try:
                client.wait(found.id, timeout=seconds, condition="not-running")
            except (requests.Timeout, requests.ConnectionError):  # the time is up, or the engine has gone
                seen = look(engine, found.id)
                return seen is None or not seen.living
    except NotFound:
        return True
    except APIError as error:
        raise unwilling(error) from error
    return True


def remove(engine: Engine, reference: str) -> None:
    """Kill and remove it, with its volumes; fine when it is gone. Waits for somebody who removes it already."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        try:
            with engine.asked(slow=True) as client:
                client.remove_container(reference, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                raise unwilling(error) from error
            time.sleep(BUSY_S)
        else:
            return
    raise DriverUnavailable(f"The container {reference} cannot be removed: its removal does not end.")


def rename(engine: Engine, found: Container, name: str) -> None:
    try:
        with engine.asked(slow=True) as client:
            client.rename(found.id, name)
    except NotFound:
        return
    except APIError as error:
        raise unwilling(error) from error
