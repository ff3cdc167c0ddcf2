"""The command `portway`. Exit codes: 0 fine, 1 failed, 2 wrong use."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cli import checks, client, jobs, parts
from cli.home import Home, HomeError
from cli.up import Ports, UpError, down, running_pid, up

FINDINGS_S = 60


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: C901, PLR0911 -- one return per command
    """Run one command; an error is one line on stderr."""
    parser = argparse.ArgumentParser(prog="portway", description="Model serving on your own machines.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="run everything in the foreground")
    commands.add_parser("down", help="stop it")
    commands.add_parser("status", help="what runs, and what does not")
    commands.add_parser("doctor", help="look for what could go wrong on this machine")
    logs = commands.add_parser("logs", help="show the log of a part")
    logs.add_argument("part", nargs="?", choices=[part.name for part in parts.parts(Home(Path()), {})], default="web")
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("-n", "--lines", type=int, default=50)
    build = commands.add_parser("build", help="build a version of an environment and follow its log")
    build.add_argument("environment", metavar="NAME:VERSION")
    build.add_argument("-w", "--workspace", default="default")
    jobs.add(commands)
    commands.add_parser("sdk-env", help='print exports for azure-ai-ml: eval "$(portway sdk-env)"')
    commands.add_parser("local", help="try a deployment on this machine, without a server: portway local -h")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["local"]:  # its options are its own
        return local(given[1:])
    options = parser.parse_args(given)
    try:
        home = Home.from_environment()
        if options.command == "up":
            return up(home)
        if options.command == "down":
            return down(home)
        if options.command == "status":
            return status(home)
        if options.command == "doctor":
            return doctor(home)
        if options.command == "logs":
            return show_log(home, options.part, lines=options.lines, follow=options.follow)
        if "run" in options:
            return int(options.run(client.Client.from_environment(home), options, print_now))
        if options.command == "build":
            return client.build(client.Client.from_environment(home), options.workspace, options.environment, print_now)
        return sdk_env(home)
    except (UpError, HomeError) as error:
        print(f"portway: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def print_now(line: str) -> None:
    print(line, flush=True)


def local(arguments: Sequence[str]) -> int:
    """Become `apps.local`, in the caller's folder: paths are relative to it."""
    home = Path(os.environ.get("PORTWAY_LOCAL_HOME", "~/.portway-local")).expanduser().resolve()
    environment = {**parts.environment_of(Home(home)), "PYTHONPATH": str(parts.SOURCE)}
    for name in ("DATABASE_URL", "REDIS_URL", "PORTWAY_HANDOUT"):
        environment.pop(name, None)
    argv = [sys.executable, "-m", "apps.local", *arguments]
    os.execve(argv[0], argv, environment)  # noqa: S606 -- Ctrl-C goes to it


def status(home: Home) -> int:
    """One line per part; exit code 1 when one is down."""
    pid = running_pid(home)
    report = health(home)
    if report is None:
        print(f"portway is {'starting, or its web part is down' if pid else 'not running'} ({home.root})")
        return 1
    print(f"portway {'up' if pid else 'up, but not started by `portway up`'}, home {home.root}")
    for name, part in report["parts"].items():
        print(f"  {name:<12} {'up' if part['up'] else 'DOWN':<5} {part.get('detail', '')}".rstrip())
    return 0 if report["up"] else 1


def health(home: Home) -> dict | None:
    """What `/healthz` says, asked on the web part's own socket; None when it does not answer."""
    link = http.client.HTTPConnection("localhost", timeout=10)
    link.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.sock.settimeout(10)
    try:
        link.sock.connect(str(home.web_socket))
        link.request("GET", "/healthz")
        return dict(json.loads(link.getresponse().read()))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        link.close()


def doctor(home: Home) -> int:
    """Checks of the machine; exit code 1 when one of them fails."""
    home.create()
    found = checks.machine(home)
    for each in found:
        print(f"  {'ok  ' if each.fine else 'WARN'} {each.text if each.fine else each.advice}")
    if not running_pid(home):
        print("  --   Portway is not running here; start it for more checks")
        return 0 if all(each.fine for each in found) else 1
    report = health(home)
    for name, part in (report or {"parts": {}})["parts"].items():
        print(f"  {'ok  ' if part['up'] else 'FAIL'} {name} {part.get('detail', '')}".rstrip())
    beside = findings(home)
    return 0 if report and report["up"] and beside and all(each.fine for each in found) else 1


def findings(home: Home) -> bool:
    """Print what is so beside the parts (container engine, worker hosts); whether all of it is fine."""
    argv = [sys.executable, "manage.py", "findings"]
    try:
        done = subprocess.run(
            argv,
            cwd=parts.SOURCE,
            env=parts.environment_of(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=FINDINGS_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"  FAIL what lies beside the parts was not told within {FINDINGS_S} s")
        return False
    print(done.stdout, end="")
    return done.returncode == 0


def show_log(home: Home, part: str, *, lines: int, follow: bool) -> int:
    """The end of a part's log, and with `follow` what comes after it."""
    path = home.logs / f"{part}.log"
    if not path.exists():
        raise UpError(f"There is no log of {part} in {home.logs} yet.")
    with path.open(errors="replace") as stream:
        print("".join(stream.readlines()[-lines:]), end="")
        while follow:
            print(stream.read(), end="", flush=True)
            time.sleep(0.3)
    return 0


def sdk_env(home: Home) -> int:
    """Exports that make azure-ai-ml and azure-identity talk to this server."""
    secret = home.secrets / "sdk-token"
    if not secret.exists():
        raise UpError("There is no token yet: run `portway up` once.")
    ports = Ports.from_environment()
    base = f"https://{ports.host}:{ports.tls}"
    exports = {
        "ARM_CLOUD_METADATA_URL": f"{base}/metadata/endpoints?api-version=2019-05-01",
        "REQUESTS_CA_BUNDLE": str(home.ca),
        "IDENTITY_ENDPOINT": f"{base}/msi/token",
        "IDENTITY_HEADER": secret.read_text().strip(),
        "MLFLOW_TRACKING_URI": f"{base}/mlflow",
        "MLFLOW_TRACKING_TOKEN": secret.read_text().strip(),
    }
    for name, value in exports.items():
        print(f"export {name}='{value}'")
    return 0


if __name__ == "__main__":
    os.chdir(parts.SOURCE)
    sys.exit(main())
