"""The verbs of `portway local`. They print what people read; errors are problems of the catalogue."""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.builds import engine
from apps.core.errors import Problem
from apps.endpoints import servers
from apps.endpoints.environments import asked_by
from apps.local import asked, environments, running
from apps.local.running import Record
from apps.registry import scripts

NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{1,30}[A-Za-z0-9])", re.ASCII)
GOOD = range(200, 300)


def run(options: argparse.Namespace) -> int:
    if options.verb in {"create", "update"}:
        return deploy(options)
    if options.verb == "list":
        for each in running.every():
            print(f"{each.name:<24} {running.state(each)[0]:<10} {each.driver:<8} {each.file}")
        return 0
    record = running.find(options.name)
    if options.verb == "show":
        return show(record)
    if options.verb == "logs":
        return logs(record, follow=options.follow, count=options.lines)
    if options.verb == "invoke":
        return invoke(record, options)
    running.remove(record)
    print(f"{record.name} is gone.")
    return 0


def deploy(options: argparse.Namespace) -> int:
    """Create and update are one: what the file says now takes the place of what runs."""
    file = options.file.resolve()
    data = asked.load(file, options.set)
    name = data["name"] = options.name or str(data.get("name") or "")
    if not NAME.fullmatch(name):
        raise Problem("bad-name", name=name, kind="deployment", rule="3 to 32 letters, digits and dashes")
    before = next((each for each in running.every() if each.name == name), None)
    if options.verb == "update" and before is None:
        raise Problem("not-found", kind="local deployment", name=name)
    if options.verb == "create" and before is not None:
        raise Problem("exists", kind="Local deployment", name=name)
    record = prepared(options, data, file, before)
    try:
        with running.cleaned(record):
            if options.debug:
                print(f"waiting up to {running.DEBUG_S:.0f} s for a debugger; in VS Code's launch.json:")
                print(json.dumps(launch(options.debug_port, data, file), indent=2), flush=True)
            record = running.start(record, log=say)
    except Problem:
        print(
            f"the last lines of its log (portway local logs {name}):",
            *running.lines(record, 12),
            sep="\n  ",
            file=sys.stderr,
        )
        raise
    print(f"{name} is ready. portway local invoke {name} -d '{{…}}'")
    return 0


def prepared(options: argparse.Namespace, data: dict[str, Any], file: Path, before: Record | None) -> Record:
    """Everything but the start: checks, environment, recipe."""
    name = data["name"]
    revision = before.revision + 1 if before else 1
    deployment = asked.deployment_of(data, file.parent, running.folder_of(name) / "files", revision=revision)
    servers.check(deployment)
    if deployment.code is not None:
        scripts.check(deployment.code, deployment.scoring_script)
    for sentence in asked.without_effect(data):
        say(sentence)
    docker = False if options.debug else (answers() if options.docker is None else options.docker)
    spec = asked_by(deployment, "docker" if docker else "process")
    if options.debug:
        spec = replace(spec, extra=(*spec.extra, "debugpy"))
    runnable = environments.prepare(spec, docker=docker, log=say)
    recipe = running.recipe_of(deployment, runnable, servers.server_of(deployment))
    if options.debug:
        free(options.debug_port)
        recipe = running.debugged(recipe, options.debug_port)
    return Record(
        name=name,
        endpoint=deployment.endpoint.name,
        file=str(file),
        driver="docker" if docker else "process",
        replica=f"local-{name.lower()}",
        revision=revision,
        recipe=recipe.as_json(),
    )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def answers() -> bool:
    """Whether a container engine does."""
    if not settings.DOCKER_URL:
        return False
    try:
        with engine.connected(5.0) as api:
            return bool(api.ping())
    except Problem as problem:
        say(f"{problem.message} A process is used instead.")
        return False


def free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Problem("bad-field", field="--debug-port", reason=f"{port} cannot be had: {error.strerror}") from None


def launch(port: int, data: dict[str, Any], file: Path) -> dict[str, Any]:
    """The entry of VS Code's launch.json."""
    code = (data.get("code_configuration") or {}).get("code") or "."
    local = (file.parent / code).resolve()
    return {
        "name": f"Portway: {data['name']}",
        "type": "debugpy",
        "request": "attach",
        "connect": {"host": "127.0.0.1", "port": port},
        "pathMappings": [{"localRoot": str(local), "remoteRoot": f"/var/azureml-app/{local.name}"}],
        "justMyCode": False,
    }


def show(record: Record) -> int:
    word, seen = running.state(record)
    told = {
        "name": record.name,
        "endpoint_name": record.endpoint,
        "state": word,
        "runs_as": record.driver,
        "isolation": seen.isolation,
        "revision": record.revision,
        "file": record.file,
        "scoring_path": record.spec.score_path,
        "address": seen.address,
    }
    print(json.dumps(told, indent=2))
    if word == "exited":
        raise running.why(record, seen)
    return 0


def logs(record: Record, *, follow: bool, count: int) -> int:
    if not follow:
        print("\n".join(running.lines(record, count)))
        return 0
    for line in running.follow(record):
        print(line, flush=True)
    return 0


def invoke(record: Record, options: argparse.Namespace) -> int:
    """Status to stderr, body to stdout; the exit code says whether it was 2xx."""
    body = options.data.encode() if options.data is not None else options.request_file.read_bytes()
    status, text = running.invoke(record, body, timeout_s=options.timeout)
    say(f"status {status}")
    print(text.decode("utf-8", "replace"))
    return 0 if status in GOOD else 1
