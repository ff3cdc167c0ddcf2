"""The same change as YAML, as `az ml` commands and as HTTP requests: what a form shows next to itself.

Each function takes what the form knows so far; parts that are not filled in yet are left out. Shapes: spec 3 for the
YAML, wire 5 for the bodies.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

import yaml
from django.conf import settings

from apps.core.durations import duration
from apps.studio.pretty import sound

TOKEN = "$PORTWAY_TOKEN"  # noqa: S105 -- the name of a variable, not a token
BODY_SHOWN = 4_000
WIDTH = 60  # of the panel that shows it


@dataclass(frozen=True)
class AsCode:
    """Three texts of the same meaning; `files` are the YAML files that the commands name."""

    yaml: str
    cli: str
    curl: str

    @property
    def tabs(self) -> list[tuple[str, str, str]]:
        return [("cli", "CLI", self.cli), ("yaml", "YAML", self.yaml), ("curl", "curl", self.curl)]


@dataclass
class Writer:
    """Collects files, commands and requests, in the order in which they have to be used."""

    workspace: str
    files: list[tuple[str, dict[str, Any] | str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def file(self, name: str, document: dict[str, Any] | str) -> str:
        self.files.append((name, document))
        return name

    def az(self, *words: str) -> None:
        where = ["-w", self.workspace, "-g", settings.RESOURCE_GROUP]
        self.commands.append(joined("az ml", [shlex.quote(each) for each in [*words, *where]]))

    def note(self, text: str) -> None:
        self.commands.append(f"# {text}")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, form: tuple[str, ...] = ()) -> None:
        self.send(method, f"{settings.BASE_URL}/api/v1/workspaces/{self.workspace}/{path}", body, form=form)

    def send(
        self,
        method: str,
        address: str,
        body: dict[str, Any] | None = None,
        *,
        form: tuple[str, ...] = (),
        headers: tuple[str, ...] = (),
    ) -> None:
        parts = ["--cacert ca.pem", f"-X {method}", f'-H "Authorization: Bearer {TOKEN}"']
        parts += [f"-H {shlex.quote(each)}" for each in headers]
        if body is not None:
            parts += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(body, indent=2))}"]
        parts += [f"-F {shlex.quote(each)}" for each in form]
        self.requests.append(joined(f"curl {shlex.quote(address)}", parts))

    def done(self) -> AsCode:
        many = len(self.files) > 1
        texts = [
            (f"# {name}\n" if many else "") + (each if isinstance(each, str) else dumped(each))
            for name, each in self.files
        ]
        return AsCode("---\n".join(texts), "\n".join(self.commands), "\n\n".join(self.requests))


def joined(first: str, parts: list[str]) -> str:
    """One command over as many lines as it needs: an option and its value stay together."""
    lines = [first]
    for each in parts:
        last = lines[-1]
        if not each.startswith("-"):
            lines[-1] = f"{last} {each}"
        else:
            lines.append(each)
    whole = " ".join(lines)
    return whole if len(whole) <= WIDTH else " \\\n  ".join(lines)


def pruned(value: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty: nobody writes such lines."""
    inner = {key: pruned(each) if isinstance(each, dict) else each for key, each in value.items()}
    return {key: each for key, each in inner.items() if each is not None and each != "" and each not in ({}, [])}


class _Dumper(yaml.SafeDumper):
    """Blocks of text as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def dumped(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


AUTH_ON_FILE = {"Key": "key", "AMLToken": "aml_token", "AADToken": "aad_token"}


def endpoint(writer: Writer, data: dict[str, Any], *, verb: str = "create") -> None:
    name = data.get("name") or "NAME"
    public = data.get("public_network_access", True)
    document = {
        "name": name,
        "description": data.get("description"),
        "auth_mode": AUTH_ON_FILE.get(data.get("auth_mode", ""), "key"),
        "public_network_access": None if public else "disabled",
        "tags": data.get("tags"),
    }
    if verb == "update":  # what was emptied must be said, or it stays
        document |= {"public_network_access": "enabled" if public else "disabled"}
    shown = pruned(document) if verb == "create" else document
    writer.az("online-endpoint", verb, "-f", writer.file("endpoint.yml", shown))
    properties = {
        "authMode": data.get("auth_mode") or "Key",
        "description": data.get("description"),
        "publicNetworkAccess": None if public else "Disabled",
    }
    body = {"tags": data.get("tags"), "properties": properties}
    if verb == "create":
        writer.call("PUT", f"onlineEndpoints/{name}", pruned(body))
    else:
        properties["publicNetworkAccess"] = "Enabled" if public else "Disabled"
        writer.call("PATCH", f"onlineEndpoints/{name}", body)


def deployment(writer: Writer, data: dict[str, Any], *, verb: str = "create") -> None:
    """`data["files"]`: the names of the code files that go along."""
    target, name = data.get("endpoint") or "ENDPOINT", data.get("name") or "blue"
    script = None
    if data.get("scoring_script"):
        script = {"code": "./code", "scoring_script": data["scoring_script"]}
        for file in data.get("files") or []:
            writer.note(f"put {file} into the folder code")
    document = {
        "name": name,
        "endpoint_name": target,
        "description": data.get("description"),
        "model": _reference(data.get("model")),
        "code_configuration": script,
        "environment": _reference(data.get("environment")),
        "environment_variables": data.get("environment_variables"),
        "model_mount_path": data.get("model_mount_path"),
        "properties": data.get("properties"),
        "instance_type": data.get("instance_type"),
        "instance_count": data.get("instance_count"),
        "request_settings": {
            "request_timeout_ms": data.get("request_timeout_ms"),
            "max_concurrent_requests_per_instance": data.get("max_concurrent_requests"),
        },
        "liveness_probe": data.get("liveness_probe"),
        "tags": data.get("tags"),
    }
    writer.az("online-deployment", verb, "-f", writer.file(f"{name}.yml", pruned(document)))
    code = data.get("code_in_use")
    if script and (data.get("files") or not code):
        files = tuple(f"files=@{each}" for each in data.get("files") or ["code.zip"])
        writer.call("POST", "uploads", form=files)
        uri = {"properties": {"codeUri": "URI_OF_THE_UPLOAD"}}
        writer.call("PUT", f"codes/{target}-{name}/versions/1", uri)
        code = {"codeId": f"azureml:{target}-{name}:1", "scoringScript": data["scoring_script"]}
    writer.call("PUT", f"onlineEndpoints/{target}/deployments/{name}", pruned(_deployment_body(data, code)))


def _deployment_body(data: dict[str, Any], code: dict[str, Any] | None) -> dict[str, Any]:
    timeout = data.get("request_timeout_ms")
    return {
        "sku": {"name": "Default", "capacity": data.get("instance_count")},
        "tags": data.get("tags"),
        "properties": {
            "description": data.get("description"),
            "model": _reference(data.get("model")),
            "codeConfiguration": code,
            "environmentId": _reference(data.get("environment")),
            "environmentVariables": data.get("environment_variables"),
            "modelMountPath": data.get("model_mount_path"),
            "properties": data.get("properties"),
            "instanceType": data.get("instance_type"),
            "requestSettings": {
                "requestTimeout": duration(timeout) if timeout else None,
                "maxConcurrentRequestsPerInstance": data.get("max_concurrent_requests"),
            },
            "livenessProbe": data.get("liveness_wire"),
            **data.get("kept", {}),
        },
    }


def _reference(version: Any) -> str | None:
    """azureml:name:version, of an asset's version or of its text."""
    return f"azureml:{version}" if version else None


def traffic(
    writer: Writer,
    name: str,
    split: dict[str, Any],
    mirror: dict[str, Any] | None = None,
    *,
    on_file: bool = True,
) -> None:
    """A split, and mirrored traffic when it is given; the command says it all, so a file of it is a matter of taste."""
    values = " ".join(f"{each}={percent}" for each, percent in sorted(split.items()))
    words = ["online-endpoint", "update", "-n", name, "--traffic", values]
    if mirror is not None:
        words += ["--mirror-traffic", " ".join(f"{each}={percent}" for each, percent in mirror.items()) or "{}"]
    writer.az(*words)
    properties: dict[str, Any] = {"traffic": split}
    document: dict[str, Any] = {"name": name, "traffic": split}
    if mirror is not None:
        properties["mirrorTraffic"] = document["mirror_traffic"] = mirror
    if on_file:
        writer.file("endpoint.yml", document)
    writer.call("PATCH", f"onlineEndpoints/{name}", {"properties": properties})


def model(writer: Writer, data: dict[str, Any]) -> None:
    name, version = data.get("name") or "NAME", data.get("version") or "1"
    run, kind = data.get("run"), data.get("type") or "mlflow_model"
    source = run or "./model"
    document = {
        "name": name,
        "version": version,
        "type": kind,
        "path": source,
        "description": data.get("description"),
        "tags": data.get("tags"),
    }
    writer.az("model", "create", "-f", writer.file("model.yml", pruned(document)))
    if not run:
        writer.call("POST", "uploads", form=("files=@model.zip",))
    properties = {
        "modelType": kind,
        "modelUri": run or "URI_OF_THE_UPLOAD",
        "description": data.get("description"),
        "tags": data.get("tags"),
    }
    writer.call("PUT", f"models/{name}/versions/{version}", {"properties": pruned(properties)})


WIRE_SERVERS = {"azureml_online": "AzureMLOnline", "triton": "Triton", "custom": "Custom"}


def package(writer: Writer, model: Any, data: dict[str, Any]) -> None:
    """`data["files"]`: the names of the code files that go along; `data["routes"]`: of a custom server."""
    name, version, server = data.get("name") or "NAME", data.get("version"), str(data.get("server") or "azureml_online")
    base, script, routes = _reference(data.get("environment")), data.get("scoring_script"), data.get("routes") or {}
    for file in data.get("files") or [] if script else []:
        writer.note(f"put {file} into the folder code")
    on_file = {f"{kind}_route": routes.get(f"{kind}Route") for kind in ("liveness", "readiness", "scoring")}
    document = {
        "target_environment": {"name": name, "version": version} if version else name,
        "base_environment_source": {"type": "environment_asset", "resource_id": base} if base else None,
        "inferencing_server": {
            "type": server,
            "code_configuration": {"code": "./code", "scoring_script": script} if script else None,
            "inference_configuration": on_file if routes else None,
        },
        "model_configuration": {"mode": str(data.get("mode") or "download"), "mount_path": data.get("mount_path")},
        "environment_variables": data.get("environment_variables"),
    }
    file = writer.file("package.yml", pruned(document))
    writer.az("model", "package", "-n", model.asset.name, "-v", model.version, "--file", file)
    code, source = None, {"baseEnvironmentSourceType": "EnvironmentAsset", "resourceId": base} if base else None
    if script:
        files = tuple(f"files=@{each}" for each in data.get("files") or ["code.zip"])
        writer.call("POST", "uploads", form=files)
        writer.call(
            "PUT", f"codes/{model.asset.name}-code/versions/1", {"properties": {"codeUri": "URI_OF_THE_UPLOAD"}}
        )
        code = {"codeId": f"azureml:{model.asset.name}-code:1", "scoringScript": script}
    body = {
        "targetEnvironmentName": name,
        "targetEnvironmentVersion": version,
        "baseEnvironmentSource": source,
        "inferencingServer": {
            "serverType": WIRE_SERVERS[server],
            "codeConfiguration": code,
            "inferenceConfiguration": routes,
        },
        "modelConfiguration": {
            "mode": str(data.get("mode") or "download").title(),
            "mountPath": data.get("mount_path"),
        },
        "environmentVariables": data.get("environment_variables"),
        "description": data.get("description"),
    }
    writer.call("POST", f"models/{model.asset.name}/versions/{model.version}/package", pruned(body))


def environment(writer: Writer, data: dict[str, Any]) -> None:
    name, version = data.get("name") or "NAME", data.get("version") or "1"
    conda, image, described = data.get("conda_file") or "", data.get("image"), data.get("description")
    routes = data.get("inference_config")
    document = {"name": name, "version": version, "description": described, "image": image}
    document["inference_config"] = _on_file(routes)
    if conda or not image:
        document["conda_file"] = "./conda.yml"
    writer.az("environment", "create", "-f", writer.file("environment.yml", pruned(document)))
    if conda or not image:
        writer.file("conda.yml", conda)  # as it was typed: nothing reads it here
    properties = {"condaFile": conda or (None if image else ""), "image": image, "description": described}
    properties["inferenceConfig"] = routes
    writer.call("PUT", f"environments/{name}/versions/{version}", {"properties": pruned(properties)})


def environment_of_context(writer: Writer, data: dict[str, Any]) -> None:
    name, version = data.get("name") or "NAME", data.get("version") or "1"
    dockerfile, described = data.get("dockerfile_path") or "Dockerfile", data.get("description")
    build = {"path": "./context", "dockerfile_path": dockerfile}
    routes = data.get("inference_config")
    document = {"name": name, "version": version, "description": described, "build": build}
    document["inference_config"] = _on_file(routes)
    writer.az("environment", "create", "-f", writer.file("environment.yml", pruned(document)))
    writer.call("POST", "uploads", form=("file=@context.zip",))
    context = {"contextUri": "URI_OF_THE_UPLOAD", "dockerfilePath": dockerfile}
    properties = {"build": context, "description": described, "inferenceConfig": routes}
    writer.call("PUT", f"environments/{name}/versions/{version}", {"properties": pruned(properties)})


def _on_file(routes: dict[str, Any] | None) -> dict[str, Any] | None:
    """Routes as a YAML file has them."""
    if routes is None:
        return None
    return {name.replace("Route", "_route"): route for name, route in routes.items()}


def request(endpoint_name: str, *, path: str, body: str, deployment: str = "") -> list[tuple[str, str, str]]:
    """A call of the live endpoint in three languages: (id, name, text)."""
    address = f"{settings.BASE_URL}/e/{endpoint_name}{path}"
    try:
        value = json.loads(body) if len(body) <= BODY_SHOWN else None
        json.dumps(value)
    except (ValueError, RecursionError):
        value = None
    short = value is not None
    header = [("azureml-model-deployment", deployment)] if deployment else []
    return [
        ("curl", "curl", _curl(address, json.dumps(value) if short else "", header)),
        ("python", "Python", _python(address, value if short else None, header)),
        ("javascript", "JavaScript", _javascript(address, value if short else None, header)),
    ]


def _curl(address: str, body: str, headers: list[tuple[str, str]]) -> str:
    parts = ["--cacert ca.pem", '-H "Authorization: Bearer $ENDPOINT_KEY"', '-H "Content-Type: application/json"']
    parts += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers]
    return joined(f"curl {shlex.quote(address)}", [*parts, f"-d {shlex.quote(body)}" if body else "-d @request.json"])


def _python(address: str, body: Any, headers: list[tuple[str, str]]) -> str:
    more = "".join(f"        {name!r}: {value!r},\n" for name, value in headers)
    payload = repr(body) if body is not None else 'json.load(open("request.json"))'
    return f"""\
import json, os, ssl, urllib.request

body = {payload}
request = urllib.request.Request(
    {address!r},
    json.dumps(body).encode(),
    {{
        "Authorization": "Bearer " + os.environ["ENDPOINT_KEY"],
        "Content-Type": "application/json",
{more}    }},
)
trust = ssl.create_default_context(cafile="ca.pem")
with urllib.request.urlopen(request, context=trust, timeout=60) as answer:
    print(answer.headers["azureml-model-deployment"], answer.read().decode())
"""


def _javascript(address: str, body: Any, headers: list[tuple[str, str]]) -> str:
    more = "".join(f"    {json.dumps(name)}: {json.dumps(value)},\n" for name, value in headers)
    payload = (
        sound(json.dumps(body, ensure_ascii=False))
        if body is not None
        else 'JSON.parse(await readFile("request.json", "utf8"))'
    )
    load = "" if body is not None else 'import { readFile } from "node:fs/promises";\n\n'
    return f"""\
{load}// Node: start it with NODE_EXTRA_CA_CERTS=ca.pem
const answer = await fetch({json.dumps(address)}, {{
  method: "POST",
  headers: {{
    Authorization: `Bearer ${{process.env.ENDPOINT_KEY}}`,
    "Content-Type": "application/json",
{more}  }},
  body: JSON.stringify({payload}),
}});
console.log(answer.status, answer.headers.get("azureml-model-deployment"), await answer.text());
"""
