"""Models, packages, environments, components, data and datastores as YAML, commands and requests."""

from __future__ import annotations

from typing import Any

from apps.registry.pipelines.written import Written
from apps.studio.ascode import Writer, pruned, reference


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
    base, script, routes = reference(data.get("environment")), data.get("scoring_script"), data.get("routes") or {}
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


def component(writer: Writer, written: Written | None, files: list[str]) -> None:
    """`files`: the names of the code files that go along."""
    document = dict(written.document) if written else {}
    name, version = str(document.get("name") or "NAME"), str(document.get("version") or "1")
    for file in files:
        writer.note(f"put {file} into the folder {document.get('code') or 'code'}")
    writer.az("component", "create", "-f", writer.file("component.yml", written.text if written else ""))
    if files:
        writer.call("POST", "uploads", form=tuple(f"files=@{each}" for each in files))
        writer.call("PUT", f"codes/{name}/versions/1", {"properties": {"codeUri": "URI_OF_THE_UPLOAD"}})
        document["code"] = f"azureml:{name}:1"
    writer.call("PUT", f"components/{name}/versions/{version}", {"properties": {"componentSpec": document}})


def data(writer: Writer, values: dict[str, Any]) -> None:
    name, version = values.get("name") or "NAME", values.get("version") or "1"
    path, kind = values.get("path") or "", str(values.get("type") or "uri_folder")
    document = {
        "name": name,
        "version": version,
        "type": kind,
        "path": path or "./data",
        "description": values.get("description"),
        "tags": values.get("tags"),
    }
    writer.az("data", "create", "-f", writer.file("data.yml", pruned(document)))
    if not path:
        writer.call("POST", "uploads", form=("files=@data.zip",))
    properties = {"dataType": kind, "dataUri": path or "URI_OF_THE_UPLOAD", "description": values.get("description")}
    writer.call("PUT", f"data/{name}/versions/{version}", {"properties": pruned(properties)})


def datastore(writer: Writer, values: dict[str, Any]) -> None:
    """Secrets are named, never written: the text is copied into files and chats. `kept`: the type of what stays."""
    name, s3 = values.get("name") or "NAME", values.get("type") == "S3"
    kind = "AccountKey"
    secrets = {"key": "SECRET"}
    if not s3 and values.get("sas_token"):
        kind, secrets = "Sas", {"sasToken": "SECRET"}
    if values.get("kept") or not (values.get("key") or values.get("sas_token")):
        kind, secrets = values.get("kept") or "None", {}
    properties: dict[str, Any] = {
        "datastoreType": "S3" if s3 else "AzureBlob",
        "bucketName": values.get("bucket_name") if s3 else None,
        "region": values.get("region") if s3 else None,
        "accountName": None if s3 else values.get("account_name"),
        "containerName": None if s3 else values.get("container_name"),
        "endpoint": values.get("endpoint"),
        "prefix": values.get("folder"),
        "description": values.get("description"),
        "tags": values.get("tags"),
        "credentials": {
            "credentialsType": kind,
            "accessKeyId": values.get("access_key_id") if s3 and secrets else None,
            "secrets": {"secretsType": kind, **secrets} if secrets else None,
        },
    }
    if s3:
        writer.note("S3 has no YAML on Azure: use the request")
    elif kind != "None" and not secrets:
        writer.note("az ml cannot leave out secrets that stay: use the request")
    else:
        document = {
            "name": name,
            "type": "azure_blob",
            "account_name": values.get("account_name"),
            "container_name": values.get("container_name"),
            "endpoint": values.get("endpoint"),
            "description": values.get("description"),
            "tags": values.get("tags"),
            "credentials": {"account_key" if "key" in secrets else "sas_token": "SECRET"} if secrets else None,
        }
        writer.az("datastore", "create", "-f", writer.file("datastore.yml", pruned(document)))
    writer.call("PUT", f"datastores/{name}", {"properties": pruned(properties)})
