"""wrk: the load generator of the throughput rows."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def missing() -> str:
    return "" if shutil.which("wrk") else "wrk is not installed (apt-get install wrk)"


@dataclass
class Side:
    """One server under load: where it is, what it is sent, and the rates seen so far."""

    name: str
    url: str
    script: Path
    rates: list[float] = field(default_factory=list)
    middle: str = ""

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def script(path: Path, body: Any, headers: dict[str, str]) -> Path:
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(json.dumps(body))}"]
    given = {"Content-Type": "application/json", **headers}
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in given.items()]
    path.write_text("\n".join(lines))
    return path


def interleaved(sides: list[Side], connections: int, *, rounds: int, seconds: int = 1) -> None:
    """Every side in every round, so that a busy moment of the machine meets all of them."""
    for side in sides:
        side.rates.clear()
    for _ in range(rounds):
        for side in sides:
            rate, side.middle = _once(side, connections, seconds)
            side.rates.append(rate)


def _once(side: Side, connections: int, seconds: int) -> tuple[float, str]:
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(side.script), side.url]
    text = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"{side.name} failed requests: {text}")
    rate, middle = re.search(r"Requests/sec:\s+([\d.]+)", text), re.search(r"50%\s+(\S+)", text)
    if rate is None or middle is None:
        raise RuntimeError(f"wrk said: {text}")
    return float(rate[1]), middle[1]
