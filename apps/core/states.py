"""State moves: the only writer of a state column."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import models


class Conflict(Exception):  # noqa: N818 -- a condition the caller handles, not a failure
    """Somebody else moved the row first, or it never was in an expected state."""


def move(obj: models.Model, to: str, *, expect: Collection[str] | str, **values: Any) -> None:
    """Set `obj.state` to `to`, and `values` with it, if the row still is in one of the states `expect`.

    One conditional UPDATE. The object in memory follows.

    Raises:
        Conflict: the row is in another state, or gone.
    """
    expected = [expect] if isinstance(expect, str) else list(expect)
    manager = type(obj)._default_manager  # noqa: SLF001 -- Django's documented public API
    hit = manager.filter(pk=obj.pk, state__in=expected).update(state=to, **values)
    if hit != 1:
        raise Conflict(f"{type(obj).__name__} {obj.pk} is no longer {' or '.join(expected)}")
    for name, value in {"state": to, **values}.items():
        setattr(obj, name, value)
