"""Changes of online endpoints, their deployments and traffic as YAML, commands and requests."""

from __future__ import annotations

from typing import Any

from apps.core.durations import duration
from apps.studio.ascode import Writer, pruned, reference

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
        "model": reference(data.get("model")),
        "code_configuration": script,
        "environment": reference(data.get("environment")),
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
            "model": reference(data.get("model")),
            "codeConfiguration": code,
            "environmentId": reference(data.get("environment")),
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
