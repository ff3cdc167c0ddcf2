"""Changes of batch work as YAML, commands and requests. Shapes: spec 3.4, 3.5, 3.10 and 7.1, wire 5.4 and 5.9."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.conf import settings

from apps.core.durations import duration
from apps.studio.ascode import Writer, pruned, reference

ACTIONS = {"AppendRow": "append_row", "SummaryOnly": "summary_only"}
TIERS = {"Dedicated": "dedicated", "LowPriority": "low_priority"}


def _put(verb: str) -> str:
    return "PUT" if verb == "create" else "PATCH"


def endpoint(writer: Writer, data: dict[str, Any], *, verb: str = "create") -> None:
    name = data.get("name") or "NAME"
    document = {"name": name, "description": data.get("description"), "tags": data.get("tags")}
    writer.az("batch-endpoint", verb, "-f", writer.file("endpoint.yml", pruned(document)))
    properties = {"authMode": "AADToken", "description": data.get("description")}
    body = {"tags": data.get("tags"), "properties": properties}
    writer.call(_put(verb), f"batchEndpoints/{name}", pruned(body) if verb == "create" else body)


def deployment(writer: Writer, data: dict[str, Any], *, verb: str = "create") -> None:
    """`data["files"]`: the names of the code files that go along."""
    target, name = data.get("endpoint") or "ENDPOINT", data.get("name") or "NAME"
    script, action = data.get("scoring_script"), str(data.get("output_action") or "AppendRow")
    file_name = data.get("output_file_name") if action == "AppendRow" else None
    seconds = data.get("timeout_s")
    for file in data.get("files") or [] if script else []:
        writer.note(f"put {file} into the folder code")
    document = {
        "name": name,
        "endpoint_name": target,
        "type": "model",
        "description": data.get("description"),
        "model": reference(data.get("model")),
        "code_configuration": {"code": "./code", "scoring_script": script} if script else None,
        "environment": reference(data.get("environment")),
        "compute": reference(data.get("cluster")),
        "resources": {"instance_count": data.get("instance_count")},
        "settings": {
            "max_concurrency_per_instance": data.get("max_concurrency_per_instance"),
            "mini_batch_size": data.get("mini_batch_size"),
            "retry_settings": {"max_retries": data.get("max_retries"), "timeout": seconds},
            "error_threshold": data.get("error_threshold"),
            "output_action": ACTIONS[action],
            "output_file_name": file_name,
            "logging_level": str(data.get("logging_level") or "").lower(),
            "environment_variables": data.get("environment_variables"),
        },
        "tags": data.get("tags"),
    }
    writer.az("batch-deployment", verb, "-f", writer.file(f"{name}.yml", pruned(document)))
    code = None
    if script:
        code = {"codeId": f"azureml:{target}-{name}:1", "scoringScript": script}
        writer.call("POST", "uploads", form=tuple(f"files=@{each}" for each in data.get("files") or ["code.zip"]))
        uri = {"properties": {"codeUri": "URI_OF_THE_UPLOAD"}}
        writer.call("PUT", f"codes/{target}-{name}/versions/1", uri)
    model = reference(data.get("model"))
    body = {
        "tags": data.get("tags"),
        "properties": {
            "description": data.get("description"),
            "model": {"referenceType": "Id", "assetId": model} if model else None,
            "codeConfiguration": code,
            "environmentId": reference(data.get("environment")),
            "environmentVariables": data.get("environment_variables"),
            "compute": reference(data.get("cluster")),
            "resources": {"instanceCount": data.get("instance_count")},
            "miniBatchSize": data.get("mini_batch_size"),
            "maxConcurrencyPerInstance": data.get("max_concurrency_per_instance"),
            "errorThreshold": data.get("error_threshold"),
            "retrySettings": _retries(data),
            "outputAction": action,
            "outputFileName": file_name,
            "loggingLevel": data.get("logging_level"),
        },
    }
    writer.call("PUT", f"batchEndpoints/{target}/deployments/{name}", pruned(body))


def pipeline_deployment(writer: Writer, data: dict[str, Any], *, verb: str = "create") -> None:
    target, name = data.get("endpoint") or "ENDPOINT", data.get("name") or "NAME"
    cluster, component = data.get("cluster"), reference(data.get("component"))
    settings = {
        "default_compute": str(cluster) if cluster else None,
        "default_datastore": str(data.get("default_datastore") or ""),
        "continue_on_step_failure": bool(data.get("continue_on_step_failure")),
        "force_rerun": bool(data.get("force_rerun")),
    }
    document = {
        "name": name,
        "endpoint_name": target,
        "type": "pipeline",
        "description": data.get("description"),
        "component": component,
        "settings": settings,
        "tags": data.get("tags"),
    }
    writer.az("batch-deployment", verb, "-f", writer.file(f"{name}.yml", pruned(document)))
    configuration = {
        "deploymentConfigurationType": "PipelineComponent",
        "componentId": {"referenceType": "Id", "assetId": component} if component else None,
        "settings": settings,
    }
    properties = {"description": data.get("description"), "deploymentConfiguration": configuration}
    body = pruned({"tags": data.get("tags"), "properties": properties})
    writer.call("PUT", f"batchEndpoints/{target}/deployments/{name}", body)


def _retries(data: dict[str, Any]) -> dict[str, Any]:
    """Forms have the timeout in seconds, a job's overrides in milliseconds."""
    timeout = data.get("timeout_ms") or (data.get("timeout_s") or 0) * 1000
    return {"maxRetries": data.get("max_retries"), "timeout": duration(timeout) if timeout else None}


KINDS = {"UriFolder": "uri_folder", "UriFile": "uri_file"}


def job(writer: Writer, data: dict[str, Any]) -> None:
    """`data`: endpoint, deployment, what `_invocation` takes; `files`: whether it is sent along; `types` of values."""
    target, name = data.get("endpoint") or "ENDPOINT", data.get("deployment")
    inputs = {key: _on_file(key, each, data) for key, each in data["inputs"].items()}
    file = writer.file("inputs.yml", {"inputs": inputs})
    words = ["batch-endpoint", "invoke", "-n", target, *(["-d", name] if name else []), "--file", file]
    outputs = data.get("outputs") or {}
    score = outputs.get("score", {}).get("uri") if list(outputs) == ["score"] else None
    options = [
        ("--output-path", score),
        ("--mini-batch-size", data.get("mini_batch_size")),
        ("--instance-count", data.get("instance_count")),
    ]
    for option, value in options:
        words += [option, str(value)] if value else []
    sets = {
        "output_file_name": data.get("output_file_name"),
        "error_threshold": data.get("error_threshold"),
        "retry_settings.max_retries": data.get("max_retries"),
        "retry_settings.timeout": data.get("timeout_s"),
        **({} if score else {f"outputs.{key}.path": each["uri"] for key, each in outputs.items()}),
    }
    for key, value in sets.items():
        words += ["--set", f"{key}={value}"] if value not in (None, "") else []
    writer.az(*words)
    headers = (f"azureml-model-deployment: {name}",) if name else ()
    address = f"{settings.BASE_URL}/batch/{target}/jobs"
    writer.send("POST", address, {"properties": _invocation(data)}, headers=headers)


def _on_file(name: str, given: dict[str, Any], data: dict[str, Any]) -> Any:
    """An input as YAML has it: a value is called a default there."""
    if given["type"] == "Literal":
        return {"type": data.get("types", {}).get(name, "string"), "default": given["value"]}
    return {
        "type": KINDS.get(given["type"], given["type"]),
        "path": given["uri"] or ("./input" if data.get("files") else "INPUT"),
    }


def _invocation(data: dict[str, Any]) -> dict[str, Any]:
    """The `properties` of an invocation: inputs and outputs as `JobSpec` has them, and the overrides beside them."""
    properties = {
        "InputData": {name: _wire(each, "JobInputType") for name, each in data["inputs"].items()},
        "OutputData": {name: _wire(each, "JobOutputType") for name, each in (data.get("outputs") or {}).items()},
        "displayName": data.get("display_name"),
        "experimentName": data.get("experiment_name"),
        "description": data.get("description"),
        "tags": data.get("tags"),
        "properties": data.get("properties"),
        "miniBatchSize": data.get("mini_batch_size"),
        "errorThreshold": data.get("error_threshold"),
        "retrySettings": _retries(data),
        "compute": {"instanceCount": data.get("instance_count")},
        "outputFileName": data.get("output_file_name"),
        "loggingLevel": data.get("logging_level"),
    }
    return pruned(properties)


def _wire(given: dict[str, Any], kind: str) -> dict[str, Any]:
    uri = given.get("uri") or ("INPUT" if kind == "JobInputType" and given["type"] != "Literal" else None)
    return {kind: given["type"], "Uri": uri, "Value": given.get("value"), "Mode": given.get("mode")}


def _python_input(given: dict[str, Any]) -> str:
    if given["type"] == "Literal":
        return f"Input(type='string', default={given['value']!r})"
    return f"Input(type={KINDS.get(given['type'], given['type'])!r}, path={given['uri']!r})"


def schedule(writer: Writer, name: str, spec: dict[str, Any]) -> None:
    """`spec`: the fields of a `ScheduleSpec`, of `endpoint` the name; `job`: what `_invocation` takes."""
    name = name or "NAME"
    definition = {
        "batchEndpoint": spec.get("endpoint") or "ENDPOINT",
        "deploymentName": spec.get("deployment"),
        "properties": _invocation(spec["job"]),
    }
    properties = {
        "displayName": spec.get("display_name"),
        "description": spec.get("description"),
        "tags": spec.get("tags"),
        "isEnabled": bool(spec.get("enabled")),
        "trigger": _trigger(spec),
        "action": {"actionType": "InvokeBatchEndpoint", "endpointInvocationDefinition": definition},
    }
    body = {"properties": pruned(properties)}
    writer.note("az ml has no schedules of batch endpoints")
    writer.portway("schedule", "create", name, "--file", writer.file("schedule.yml", body))
    writer.call("PUT", f"schedules/{name}", body)


def _trigger(spec: dict[str, Any]) -> dict[str, Any]:
    """Times as they are in UTC, so that they mean the same in every zone that is typed."""
    kind = {"triggerType": "Cron", "expression": spec.get("cron") or "0 6 * * *"}
    if recurrence := spec.get("recurrence"):
        kind = {"triggerType": "Recurrence", **recurrence}
    given = {"startTime": spec.get("starts_at"), "endTime": spec.get("ends_at")}
    times = {name: f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for name, at in given.items() if at is not None}
    return {**kind, "timeZone": spec.get("time_zone") or "UTC", **times}


def cluster(writer: Writer, data: dict[str, Any], *, verb: str = "create") -> None:
    name, tier = data.get("name") or "NAME", str(data.get("tier") or "Dedicated")
    document = {
        "name": name,
        "type": "amlcompute",
        "description": data.get("description"),
        "size": str(data.get("instance_type") or "SIZE"),
        "tier": TIERS[tier],
        "min_instances": data.get("min_nodes"),
        "max_instances": data.get("max_nodes"),
        "idle_time_before_scale_down": data.get("idle_s"),
        "tags": data.get("tags"),
    }
    writer.az("compute", verb, "-f", writer.file("compute.yml", pruned(document)))
    scale = {
        "minNodeCount": data.get("min_nodes"),
        "maxNodeCount": data.get("max_nodes"),
        "nodeIdleTimeBeforeScaleDown": duration((data.get("idle_s") or 0) * 1000),
    }
    inner = {"vmSize": document["size"], "vmPriority": tier, "scaleSettings": scale}
    properties = {"computeType": "AmlCompute", "description": data.get("description"), "properties": inner}
    writer.call("PUT", f"computes/{name}", pruned({"tags": data.get("tags"), "properties": properties}))


def python(target: str, inputs: dict[str, dict[str, Any]]) -> str:
    """With the official SDK, as its users know it."""
    made = [f"        {name!r}: {_python_input(each)},\n" for name, each in inputs.items()]
    return f"""\
from azure.ai.ml import Input, MLClient

client = MLClient.from_config()  # see the API page for the settings
job = client.batch_endpoints.invoke(
    endpoint_name={target!r},
    inputs={{
{"".join(made)}    }},
)
client.jobs.stream(job.name)
client.jobs.download(name=job.name, output_name="score", download_path="./results")
"""
