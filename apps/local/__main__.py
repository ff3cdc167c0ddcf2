"""`portway local …`: deployments of this machine's own files, before any server is involved."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import django

MISSING = "the variable PORTWAY_HOME must name the state folder: call `portway local`"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="portway local", description="Try a deployment on this machine.")
    verbs = made.add_subparsers(dest="verb", required=True)
    for verb, text in (("create", "start a deployment"), ("update", "start it anew with what the files say now")):
        each = verbs.add_parser(verb, help=text)
        each.add_argument("-f", "--file", type=Path, required=True, help="YAML, as for `az ml online-deployment`")
        each.add_argument("-n", "--name", default="", help="instead of the name in the file")
        each.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="change a field of the file")
        docker = each.add_mutually_exclusive_group()
        docker.add_argument("--docker", action="store_true", default=None, help="in a container (if an engine answers)")
        docker.add_argument("--no-docker", action="store_false", dest="docker", help="as an isolated process")
        each.add_argument("--debug", action="store_true", help="wait for a debugger; implies --no-docker")
        each.add_argument("--debug-port", type=int, default=5678)
    verbs.add_parser("list", help="the deployments of this machine")
    for verb, text in (
        ("show", "one of them"),
        ("delete", "take it away"),
        ("logs", "what it says"),
        ("invoke", "ask it"),
    ):
        each = verbs.add_parser(verb, help=text)
        each.add_argument("name", nargs="?", default="", help="not needed when there is only one")
        if verb == "logs":
            each.add_argument("-f", "--follow", action="store_true")
            each.add_argument("-n", "--lines", type=int, default=100)
        if verb == "invoke":
            body = each.add_mutually_exclusive_group(required=True)
            body.add_argument("-r", "--request-file", type=Path)
            body.add_argument("-d", "--data", help="the body itself")
            each.add_argument("--timeout", type=float, default=90.0, help="seconds")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 fine, 1 failed, 2 wrong use, 130 Ctrl-C."""
    options = parser().parse_args(arguments)
    if not os.environ.get("PORTWAY_HOME"):
        print(MISSING, file=sys.stderr)
        return 2
    django.setup()  # settings and classes; the database is never asked
    from apps.compute.drivers.base import DriverError  # noqa: PLC0415 -- after setup
    from apps.core.errors import Problem  # noqa: PLC0415
    from apps.local import commands  # noqa: PLC0415

    try:
        return commands.run(options)
    except Problem as problem:
        print(f"{problem.message}", file=sys.stderr)
        for label, text in (("evidence", problem.evidence), ("next", problem.next_step)):
            if text:
                print(f"  {label}: {text}", file=sys.stderr)
        return 1
    except DriverError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
