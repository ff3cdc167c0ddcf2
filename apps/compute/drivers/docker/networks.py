"""One network per installation and kind, on which no container reaches another. docs/decisions/docker-networks.md."""

from __future__ import annotations

from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Any

from docker.errors import APIError

from apps.compute.drivers.base import DriverUnavailable, Network, ReplicaSpec
from apps.compute.drivers.docker.engine import Engine, said, unwilling
from apps.compute.drivers.docker.options import INSTALLATION

SEPARATE = {"com.docker.network.bridge.enable_icc": "false"}
ATTEMPTS = 3
KINDS = ("internal", "egress")


def kind_of(spec: ReplicaSpec) -> str:
    """One of none, internal (reached from this machine, reaches nothing) and egress."""
    if spec.network is Network.EGRESS:
        return "egress"
    return "none" if spec.port is None else "internal"


def name_of(installation: str, kind: str) -> str:
    return f"portway-{installation}-{kind}"


def find(engine: Engine, installation: str, kind: str) -> str | None:
    """The id of the installation's network of that kind.

    The engine allows two of one name, and then starts no container on either: of several, which a race can leave, the
    oldest stays.
    """
    name = name_of(installation, kind)
    with engine.obeyed() as client:
        found = [each for each in client.networks(names=[name]) if each["Name"] == name]
    for each in found:
        check(each, installation, internal=kind == "internal")
    oldest, *others = sorted(found, key=lambda each: (each["Created"], each["Id"])) or [None]
    for each in others:
        remove(engine, each["Id"])
    return str(oldest["Id"]) if oldest else None


def remove(engine: Engine, network: str) -> None:
    try:
        with engine.asked() as client:
            client.remove_network(network)
    except APIError as error:
        if error.status_code not in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:  # gone already, or still in use
            raise unwilling(error) from error


def check(network: dict[str, Any], installation: str, *, internal: bool) -> None:
    """A network of our name that would not keep what we promise must not be used."""
    ours = (network.get("Labels") or {}).get(INSTALLATION) == installation
    apart = (network.get("Options") or {}).items() >= SEPARATE.items()
    if not ours or not apart or bool(network.get("Internal")) is not internal:
        raise DriverUnavailable(
            f"The network {network['Name']} was not made by Portway, or was changed since. Remove it "
            f"(docker network rm {network['Name']}): Portway makes its own anew.",
            retry_after=30.0,
        )


def ensure(engine: Engine, installation: str, kind: str, *, lock: AbstractContextManager[None]) -> str:
    """The id of the network, made when it is not there. Ids, since two networks may have one name."""
    if found := find(engine, installation, kind):
        return found
    with lock:
        for _ in range(ATTEMPTS):
            if found := find(engine, installation, kind):
                return found
            make(engine, installation, kind)
    raise DriverUnavailable(f"The network {name_of(installation, kind)} is not there after it was made.")


def make(engine: Engine, installation: str, kind: str) -> None:
    try:
        with engine.asked() as client:
            client.create_network(
                name_of(installation, kind),
                driver="bridge",
                internal=kind == "internal",
                options=dict(SEPARATE),
                labels={INSTALLATION: installation},
                check_duplicate=True,
            )
    except APIError as error:
        if error.status_code == HTTPStatus.CONFLICT:  # somebody else was faster
            return
        if "address pool" in said(error):
            raise DriverUnavailable(
                f"The container engine has no addresses left for a network: {said(error)} Remove networks nobody uses "
                "(docker network prune), or give it more (default-address-pools in daemon.json).",
                retry_after=30.0,
            ) from error
        raise unwilling(error) from error


def lost(words: str) -> bool:
    """Whether the engine says that a container's network is not there any more, or is there twice."""
    return "network" in words and ("not found" in words or "ambiguous" in words)
