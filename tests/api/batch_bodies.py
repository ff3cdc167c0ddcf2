"""What the SDK sends and reads, operation by operation (wire 5.4 to 5.9), for workspace lab."""

import copy

SHORT = "/api/v1/workspaces/lab"
ARM = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/portway"
    "/providers/Microsoft.MachineLearningServices/workspaces/lab"
)
ENDPOINT = {
    "location": "local",
    "properties": {
        "description": "A heart condition classifier for batch inference",
        "authMode": "aadToken",
        "properties": {},
    },
    "tags": {},
}
DEPLOYMENT = {
    "location": "local",
    "properties": {
        "description": "A heart condition classifier based on XGBoost",
        "environmentId": f"{ARM}/environments/plain/versions/1",
        "model": {"assetId": f"{ARM}/models/iris/versions/1", "referenceType": "Id"},
        "codeConfiguration": {"codeId": f"{ARM}/codes/code/versions/1", "scoringScript": "score.py"},
        "outputFileName": "predictions.csv",
        "outputAction": "AppendRow",
        "errorThreshold": -1,
        "resources": {"instanceCount": 2, "properties": {}},
        "retrySettings": {"maxRetries": 3, "timeout": "PT5M"},
        "loggingLevel": "info",
        "miniBatchSize": 2,
        "maxConcurrencyPerInstance": 2,
        "compute": f"{ARM}/computes/batch-cluster",
        "properties": {},
    },
    "tags": {},
}
PIPELINE = {
    "location": "local",
    "tags": {},
    "properties": {
        "deploymentConfiguration": {
            "settings": {"default_compute": "batch-cluster"},
            "componentId": {"assetId": f"{ARM}/components/hello_batch/versions/1", "referenceType": "Id"},
            "deploymentConfigurationType": "PipelineComponent",
        },
        "errorThreshold": -1,
        "maxConcurrencyPerInstance": 1,
        "miniBatchSize": 10,
        "outputFileName": "predictions.csv",
    },
}
COMPUTE = {
    "location": "local",
    "properties": {
        "computeType": "AmlCompute",
        "properties": {
            "vmSize": "STANDARD_DS3_V2",
            "vmPriority": "LowPriority",
            "scaleSettings": {"maxNodeCount": 5, "minNodeCount": 0, "nodeIdleTimeBeforeScaleDown": "PT2M"},
            "remoteLoginPortPublicAccess": "NotSpecified",
            "enableNodePublicIp": True,
            "osType": "Linux",
        },
        "disableLocalAuth": True,
    },
}
DATA = "azureml://datastores/workspaceblobstore/paths/in"
INVOKE = {
    "properties": {
        "inputData": {"heart": {"jobInputType": "UriFolder", "uri": DATA}},
        "outputData": {
            "score": {
                "jobOutputType": "UriFile",
                "uri": "azureml://datastores/workspaceblobstore/paths/out/scores.csv",
            }
        },
        "properties": {"experimentName": "exp1"},
    }
}
INVOKE_REST = {"properties": {"InputData": {"heart": {"JobInputType": "UriFolder", "Uri": DATA}}}}


def with_changes(body, changes):
    """A copy, with what dotted paths name set; DROP takes a field away."""
    made = copy.deepcopy(body)
    for path, value in changes.items():
        *above, last = path.split(".")
        place = made
        for name in above:
            place = place.setdefault(name, {})
        if value is DROP:
            place.pop(last, None)
        else:
            place[last] = value
    return made


class Drop:
    def __repr__(self):
        return "DROP"


DROP = Drop()


def paths(value, above=()):
    """The dotted path of every field of a body."""
    for key, each in value.items() if isinstance(value, dict) else ():
        yield ".".join((*above, key))
        yield from paths(each, (*above, key))
