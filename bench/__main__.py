"""`python -m bench [row …]`: the figures of the README, measured on this machine in a few minutes.

Portway runs as a user starts it, in a home of its own. Ratios are what counts: client and servers share the machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import batch, rows, studio
from bench.product import Failed, Product

ROWS: dict[str, Callable[[rows.Bench], Iterator[rows.Row]]] = {
    "start": rows.start,
    "deploy": rows.deploy,
    "containers": rows.containers,
    "memory": rows.memory,
    "requests": rows.requests,
    "traffic": rows.traffic,
    "publish": rows.publish,
    "studio": rows.studio,
    "batch": batch.batch,
    "short": batch.short,
    "runtime": rows.runtime,
}
LIMIT_S = 360


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"which rows; all but runtime unless named: {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=3, help="of one second for each throughput figure")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    wanted = options.rows or [name for name in ROWS if name != "runtime"]
    folder = Path(tempfile.mkdtemp(prefix="pwb-", dir="/tmp"))
    product = Product(folder / "h", PORTWAY_ADMIN_PASSWORD=studio.PASSWORD)
    bench = rows.Bench(product, folder, options.rounds)
    started = time.monotonic()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start", flush=True)
    try:
        for name in ROWS:
            if name in wanted:
                report(name, bench, started)
    finally:
        product.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end, {time.monotonic() - started:.0f} s in all")
    return 1 if bench.failed else 0


def report(name: str, bench: rows.Bench, started: float) -> None:
    if time.monotonic() - started > LIMIT_S:
        print(f"{name:<10}skipped: {LIMIT_S} s are over", flush=True)
        return
    try:
        for row in ROWS[name](bench):
            print(f"{row.what:<58}{row.value:>28}   {row.target}".rstrip(), flush=True)
    except (Failed, OSError, RuntimeError, TimeoutError) as error:
        bench.failed = True
        print(f"{name:<10}failed: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
