"""The routes of a server that an image brings (spec 3.7): what may be said of them."""

from __future__ import annotations

import re
from typing import Any

from apps.core.errors import Problem

NEEDED = ("livenessRoute", "readinessRoute", "scoringRoute")
PATH = re.compile(r"/[!-~]{0,499}")  # what an address may hold: printable, no spaces
PORT_MOST = 65_535


def check_inference_config(config: Any) -> None:
    """Raises Problem "bad-field" for a route that is missing, or that no server could have."""
    if config is None:
        return
    if not isinstance(config, dict) or set(config) != set(NEEDED):
        raise _bad("", f"needs {', '.join(NEEDED)}, each with port and path, and nothing else")
    for name in NEEDED:
        route = config[name]
        if not isinstance(route, dict) or set(route) != {"port", "path"}:
            raise _bad(name, "needs a port and a path, and nothing else")
        port, path = route["port"], route["path"]
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= PORT_MOST:
            raise _bad(f"{name}.port", f"must be 1 to {PORT_MOST}, not {port!r}")
        if not isinstance(path, str) or not PATH.fullmatch(path) or set(path) & set("?#\\"):
            raise _bad(f"{name}.path", f"must begin with / and hold no spaces, ? or #, not {str(path)[:60]!r}")


def on_one_port(port: int, *, score: str, ready: str, live: str = "") -> dict[str, Any]:
    """The usual case: one server answers all three."""
    return {
        "livenessRoute": {"port": port, "path": live or ready},
        "readinessRoute": {"port": port, "path": ready},
        "scoringRoute": {"port": port, "path": score},
    }


def _bad(where: str, reason: str) -> Problem:
    field = f"inferenceConfig.{where}" if where else "inferenceConfig"
    return Problem("bad-field", field=field, reason=reason, target=field)
