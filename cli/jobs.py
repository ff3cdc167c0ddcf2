"""`portway job`, `batch-endpoint`, `schedule` and `compute`. Standard library only."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from cli.client import Client, RefusedError, message_of
from cli.up import UpError

Say = Callable[[str], None]
BAR = 30  # characters
AGAIN_S = 1.0
TYPES = {"uri_folder": "UriFolder", "uri_file": "UriFile"}
ENDED = ("Completed", "Failed", "Canceled", "Deleted")
WORKSPACE = re.compile(r"/workspaces/([^/]+)/")


def add(commands: Any) -> None:
    """The commands' arguments."""
    job = commands.add_parser("job", help="look at jobs, cancel them, get their results").add_subparsers(
        dest="verb", required=True
    )
    listed = _verb(job, "list", "the newest jobs", list_jobs, name=False)
    listed.add_argument("--status", default="", help="such as Running or Completed,Failed")
    listed.add_argument("--endpoint", default="")
    listed.add_argument("--top", type=int, default=20)
    _verb(job, "show", "a job as JSON", show_job)
    _verb(job, "stream", "follow a job until it ends", stream_job)
    _verb(job, "cancel", "stop a job; what is done is kept", act("cancel"))
    _verb(job, "retry", "run the failed mini-batches of an ended job again", act("retry"))
    logs = _verb(job, "logs", "the log files of a job, or what one of them says", show_logs)
    logs.add_argument("file", nargs="?", default="")
    download = _verb(job, "download", "the results of a job", download_output)
    download.add_argument("--output-name", default="score")
    download.add_argument("-p", "--path", type=Path, default=Path())
    batch = commands.add_parser("batch-endpoint", help="submit jobs").add_subparsers(dest="verb", required=True)
    invoke = _verb(batch, "invoke", "submit a job to a batch endpoint", invoke_endpoint, name=False)
    invoke.add_argument("-n", "--name", required=True, help="of the endpoint")
    invoke.add_argument("-d", "--deployment-name", default="")
    invoke.add_argument("--input", required=True, help="a data asset, azureml://datastores/… or https://…")
    invoke.add_argument("--input-type", choices=sorted(TYPES), default="uri_folder")
    invoke.add_argument("--set", action="append", default=[], metavar="K=V", help="such as mini_batch_size=20")
    invoke.add_argument("--stream", action="store_true", help="follow the job until it ends")
    schedule = commands.add_parser("schedule", help="look at schedules, save them, switch them on and off")
    schedule = schedule.add_subparsers(dest="verb", required=True)
    _verb(schedule, "list", "the schedules of a workspace", list_schedules, name=False)
    _verb(schedule, "show", "a schedule as JSON", show_schedule)
    saved = _verb(schedule, "create", "save one as a file has it; one of that name is replaced", create_schedule)
    saved.add_argument("-f", "--file", type=Path, required=True, help="YAML or JSON: the body of a PUT")
    changed = _verb(schedule, "update", "change what is given; its jobs are made in your name", update_schedule)
    changed.add_argument("--display-name")
    changed.add_argument("--description")
    changed.add_argument("--cron")
    changed.add_argument("--time-zone")
    changed.add_argument("--tag", action="append", default=[], metavar="K=V", help="K= takes it away")
    _verb(schedule, "enable", "switch it on; its jobs are made in your name", switch(on=True))
    _verb(schedule, "disable", "switch it off", switch(on=False))
    compute = commands.add_parser("compute", help="look at compute clusters").add_subparsers(dest="verb", required=True)
    _verb(compute, "list", "the clusters of a workspace", list_computes, name=False)
    _verb(compute, "show", "a cluster as JSON", show_compute)


def _verb(group: Any, verb: str, words: str, run: Callable[..., int], *, name: bool = True) -> Any:
    parser = group.add_parser(verb, help=words)
    parser.add_argument("-w", "--workspace", default="default")
    if name:
        parser.add_argument("name")
    parser.set_defaults(run=run)
    return parser


def _base(options: argparse.Namespace) -> str:
    return f"/api/v1/workspaces/{quote(options.workspace)}"


def _job(options: argparse.Namespace) -> str:
    return f"{_base(options)}/jobs/{quote(options.name, safe='')}"


def _print(answer: Any, say: Say) -> int:
    say(json.dumps(answer, indent=2, ensure_ascii=False))
    return 0


def list_jobs(client: Client, options: argparse.Namespace, say: Say) -> int:
    asked = {"$top": options.top, "status": options.status, "endpoint": options.endpoint}
    answer, _ = client.call("GET", f"{_base(options)}/jobs?{urlencode({k: v for k, v in asked.items() if v})}")
    for each in answer["value"]:
        properties = each["properties"]
        told = properties["properties"]
        parts = f"{told['done']}/{told['miniBatches']}"
        say(f"{each['name']:<38} {properties['status']:<16} {parts:>13}  {properties['experimentName']}")
    return 0


def show_job(client: Client, options: argparse.Namespace, say: Say) -> int:
    return _print(client.call("GET", _job(options))[0], say)


def act(verb: str) -> Callable[..., int]:
    def run(client: Client, options: argparse.Namespace, say: Say) -> int:
        answer, _ = client.call("POST", f"{_job(options)}/{verb}", {})
        say(f"{answer['name']} {answer['properties']['status']}")
        return 0

    return run


def show_logs(client: Client, options: argparse.Namespace, say: Say) -> int:
    if not options.file:
        for each in client.call("GET", f"{_job(options)}/logs")[0]["value"]:
            say(f"{each['size']:>12} {each['name']}")
        return 0
    after, text = "0", "-"
    while text:
        with client.open(f"{_job(options)}/logs/{quote(options.file)}?after={after}") as answer:
            text = answer.read().decode("utf-8", "replace")
            after = answer.headers["x-portway-next"]
        sys.stdout.write(text)
    return 0


def download_output(client: Client, options: argparse.Namespace, say: Say) -> int:
    place = f"{_job(options)}/outputs/{quote(options.output_name, safe='')}"
    count = 0
    url: str | None = place
    while url:
        page, _ = client.call("GET", url)
        for each in page["value"]:
            target = options.path / _inside(each["path"])
            target.parent.mkdir(parents=True, exist_ok=True)
            with client.open(f"{place}/{quote(each['path'])}") as answer, target.open("wb") as file:
                while piece := answer.read(1 << 18):
                    file.write(piece)
            say(str(target))
            count += 1
        url = page["nextLink"]
    if not count:
        raise UpError(f"{options.name} has no files in {options.output_name}.")
    return 0


def _inside(path: str) -> PurePosixPath:
    """A server names no file outside of the folder that was asked for."""
    found = PurePosixPath(path)
    if found.is_absolute() or ".." in found.parts:
        raise UpError(f"The server named a file outside of its output: {path!r}.")
    return found


def stream_job(client: Client, options: argparse.Namespace, say: Say) -> int:
    return stream(client, _job(options), say)


def stream(client: Client, job: str, say: Say) -> int:
    """Follow a job; the exit code. A stream that ends before its job is asked for again from where it was."""
    show = Progress(say)
    last = ""
    while True:
        with client.open(f"{job}/stream", {"Last-Event-ID": last} if last else {}) as answer:
            for event, kind, data in events(answer):
                last = event
                if kind == "log":
                    show.line(data["line"])
                elif kind == "progress":
                    show.progress(data)
                elif kind == "end":
                    return show.end(data)
        time.sleep(AGAIN_S)


def events(lines: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(id, event, data) of a stream of server-sent events."""
    found: dict[str, str] = {}
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line:
            name, _, value = line.partition(":")
            found[name] = value.removeprefix(" ")
        elif found.get("data"):
            yield found.get("id", ""), found.get("event", ""), json.loads(found["data"])
            found = {}


class Progress:
    """Lines of the log, and below them on a terminal how far the job is."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.live = sys.stderr.isatty()
        self.status = ""

    def line(self, text: str) -> None:
        self._clear()
        self.say(text)

    def progress(self, data: dict[str, Any]) -> None:
        if data["status"] != self.status:
            self.status = data["status"]
            self.line(f"-- {self.status}")
        if self.live:
            sys.stderr.write(f"\r{bar(data)}\x1b[K")
            sys.stderr.flush()

    def end(self, data: dict[str, Any]) -> int:
        self._clear()
        if data["status"] == "Completed":
            return 0
        raise RefusedError((data.get("error") or {}).get("message") or f"The job is {data['status'].lower()}.")

    def _clear(self) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def bar(data: dict[str, Any]) -> str:
    done, failed, total = (int(data[name]) for name in ("done", "failed", "miniBatches"))
    filled = BAR * (done + failed) // total if total else 0
    more = f", {failed} failed" if failed else ""
    return f"[{'#' * filled}{'.' * (BAR - filled)}] {done + failed} of {total} mini-batches{more}"


def invoke_endpoint(client: Client, options: argparse.Namespace, say: Say) -> int:
    kind = TYPES[options.input_type]
    body: dict[str, Any] = {"inputData": {kind: {"jobInputType": kind, "uri": options.input}}}
    for each in options.set:
        _set(body, each)
    headers = {"azureml-model-deployment": options.deployment_name} if options.deployment_name else {}
    path = f"/batch/{quote(options.name, safe='')}/jobs"
    job, _ = client.call("POST", path, {"properties": body}, headers)
    say(job["name"])
    if not options.stream:
        return 0
    match = WORKSPACE.search(urlsplit(job["id"]).path)
    workspace = match[1] if match else options.workspace
    return stream(client, f"/api/v1/workspaces/{quote(workspace)}/jobs/{quote(job['name'], safe='')}", say)


def _set(body: dict[str, Any], text: str) -> None:
    """`retry_settings.max_retries=2` as the body spells it. Raises UpError."""
    path, sign, value = text.partition("=")
    names = [re.sub(r"_([a-z])", lambda match: match[1].upper(), name) for name in path.split(".")]
    if not sign or not all(names):
        raise UpError(f"--set takes KEY=VALUE, not {text!r}.")
    place = body
    for name in names[:-1]:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise UpError(f"--set {text}: {name} has no fields.")
    try:
        place[names[-1]] = json.loads(value)
    except ValueError:
        place[names[-1]] = value


def _schedule(options: argparse.Namespace) -> str:
    return f"{_base(options)}/schedules/{quote(options.name, safe='')}"


def list_schedules(client: Client, options: argparse.Namespace, say: Say) -> int:
    answer, _ = client.call("GET", f"{_base(options)}/schedules")
    for each in answer["value"]:
        properties = each["properties"]
        trigger = properties["trigger"]
        idle = "ended" if properties["isEnabled"] else "disabled"
        due = properties["properties"]["nextRuns"].partition(",")[0] or idle
        shown = properties["displayName"] or ""
        when = trigger.get("expression") or f"every {trigger['interval']} {trigger['frequency'].lower()}"
        say(f"{each['name']:<33} {when:<20} {trigger['timeZone']:<20} {due:<25} {shown}".rstrip())
    return 0


def show_schedule(client: Client, options: argparse.Namespace, say: Say) -> int:
    return _print(client.call("GET", _schedule(options))[0], say)


def create_schedule(client: Client, options: argparse.Namespace, say: Say) -> int:
    answer, _ = client.call("PUT", _schedule(options), _document(options.file))
    say(answer["name"])
    return 0


def _document(file: Path) -> Any:
    """What a file of YAML or JSON holds. Raises UpError."""
    import yaml  # noqa: PLC0415 -- of the portal's packages; the rest of the client needs none of them

    try:
        return yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UpError(f"{file} cannot be read: {error}") from None


def update_schedule(client: Client, options: argparse.Namespace, say: Say) -> int:
    body, _ = client.call("GET", _schedule(options))
    properties = body["properties"]
    if options.cron is not None:
        kept = ("timeZone", "startTime", "endTime")
        times = {name: each for name, each in properties["trigger"].items() if name in kept}
        properties["trigger"] = {"triggerType": "Cron", **times}
    places = {
        "displayName": (properties, options.display_name),
        "description": (properties, options.description),
        "expression": (properties["trigger"], options.cron),
        "timeZone": (properties["trigger"], options.time_zone),
    }
    for name, (place, value) in places.items():
        if value is not None:
            place[name] = value
    for each in options.tag:
        key, sign, value = each.partition("=")
        if not sign or not key:
            raise UpError(f"--tag takes KEY=VALUE, not {each!r}.")
        if value:
            properties["tags"][key] = value
        else:
            properties["tags"].pop(key, None)
    answer, _ = client.call("PUT", _schedule(options), body)
    say(answer["name"])
    return 0


def switch(*, on: bool) -> Callable[..., int]:
    def run(client: Client, options: argparse.Namespace, say: Say) -> int:
        body, _ = client.call("GET", _schedule(options))
        body["properties"]["isEnabled"] = on
        answer, _ = client.call("PUT", _schedule(options), body)
        say(f"{answer['name']} {'enabled' if answer['properties']['isEnabled'] else 'disabled'}")
        return 0

    return run


def list_computes(client: Client, options: argparse.Namespace, say: Say) -> int:
    answer, _ = client.call("GET", f"{_base(options)}/computes")
    for each in answer["value"]:
        properties = each["properties"]
        inner = properties["properties"]
        nodes = f"{inner['currentNodeCount']} of {inner['scaleSettings']['maxNodeCount']} nodes"
        say(f"{each['name']:<33} {inner['vmSize']:<20} {inner['vmPriority']:<12} {nodes:<16} {_state(properties)}")
    return 0


def _state(properties: dict[str, Any]) -> str:
    return str(properties["provisioningState"]) + "".join(
        f": {message_of(each)}" for each in properties["properties"]["errors"]
    )


def show_compute(client: Client, options: argparse.Namespace, say: Say) -> int:
    return _print(client.call("GET", f"{_base(options)}/computes/{quote(options.name, safe='')}")[0], say)
