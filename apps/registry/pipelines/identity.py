"""When two runs of a step are the same: equal content of the component, equal inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from apps.registry.pipelines.interface import Data


def digest_of(value: Any) -> str:
    """The sha256, in hexadecimal, of JSON data; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(component_digest: str, inputs: Mapping[str, Any]) -> str:
    """The key under which the outputs of a deterministic step may be used again, sha256 in hexadecimal.

    `inputs`: as `interface.bind` gives them. The URI of data must change with its content.
    """
    return digest_of({"component": component_digest, "inputs": dict(inputs)})


def _plain(value: Any) -> Any:
    if isinstance(value, Data):
        return {"uri": value.uri, "type": value.type}  # how it is brought there changes nothing
    return asdict(value)
