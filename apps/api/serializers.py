"""The bodies on the wire. One place says what is accepted; everything else is refused (spec D5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from apps.core.errors import Problem
from apps.registry.enums import DatastoreType, DataType, ModelType


class Strict(serializers.Serializer[Any]):
    """Refuses fields it does not know; drops the `echoed` ones, which the SDK sends back from a GET (wire 3.5)."""

    echoed: frozenset[str] = frozenset()
    kind = ""  # the field that decides which others there are: its fault is told first

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError({"non_field_errors": ["must be an object"]})
        if self.kind and self.kind in data:
            self._check_kind(data[self.kind])
        unknown = set(data) - set(self.fields) - self.echoed
        if unknown:
            path = ".".join(filter(None, [_path(self), min(unknown)]))
            raise Problem("unknown-field", field=path, target=path)
        return super().to_internal_value({key: value for key, value in data.items() if key in self.fields})

    def _check_kind(self, value: Any) -> None:
        try:
            self.fields[self.kind].run_validation(value)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({self.kind: error.detail}) from None


def _path(serializer: serializers.BaseSerializer[Any]) -> str:
    names = []
    node: Any = serializer
    while node is not None and node.field_name:
        names.append(node.field_name)
        node = node.parent
    return ".".join(reversed(names))


class AnyCase(serializers.ChoiceField):
    """A choice whose case does not matter (wire 3.5); gives back our own spelling."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str):
            for key in self.choices:
                if str(key).lower() == data.lower():
                    return key
        return super().to_internal_value(data)


class TextMap(serializers.DictField):
    """A map of names to texts; numbers and booleans become text, as the SDK's YAML loader leaves them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            child=serializers.CharField(allow_blank=True, max_length=32_000, trim_whitespace=False), **options
        )

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            data = {key: str(value) if isinstance(value, bool) else value for key, value in data.items()}
        result: dict[str, str] = super().to_internal_value(data)
        if any("\x00" in key + value for key, value in result.items()):
            raise serializers.ValidationError("must not hold NUL characters")
        return result


def optional(field: type[Any], **options: Any) -> Any:
    return field(required=False, allow_null=True, **options)


class Keys(Strict):
    primaryKey = optional(serializers.CharField, trim_whitespace=False)  # noqa: N815 -- the wire's name
    secondaryKey = optional(serializers.CharField, trim_whitespace=False)  # noqa: N815


class EndpointProperties(Strict):
    echoed = frozenset({"scoringUri", "swaggerUri", "provisioningState"})
    authMode = AnyCase(["Key", "AMLToken", "AADToken"], required=False)  # noqa: N815 -- the wire's name
    description = optional(serializers.CharField, allow_blank=True, max_length=5000)
    properties = TextMap(required=False, allow_null=True)
    traffic = serializers.DictField(required=False, allow_null=True)
    mirrorTraffic = serializers.DictField(required=False, allow_null=True)  # noqa: N815
    publicNetworkAccess = optional(AnyCase, choices=["Enabled", "Disabled"])  # noqa: N815
    compute = optional(serializers.CharField, allow_blank=True)
    keys = Keys(required=False, allow_null=True)


ARM_ECHO = frozenset({"id", "name", "type", "systemData", "kind", "etag"})


class EndpointBody(Strict):
    echoed = ARM_ECHO
    location = optional(serializers.CharField, allow_blank=True)
    tags = TextMap(required=False, allow_null=True)
    identity = optional(serializers.DictField)
    properties = EndpointProperties()


class EndpointPatch(Strict):
    tags = TextMap(required=False)
    properties = EndpointProperties(required=False)


class Sku(Strict):
    echoed = frozenset({"tier", "size", "family"})
    name = optional(serializers.CharField)
    capacity = serializers.IntegerField(required=False, min_value=0, max_value=10_000)


class CodeConfiguration(Strict):
    codeId = optional(serializers.CharField)  # noqa: N815
    scoringScript = serializers.CharField(max_length=500)  # noqa: N815


class RequestSettings(Strict):
    requestTimeout = optional(serializers.CharField)  # noqa: N815
    maxConcurrentRequestsPerInstance = optional(serializers.IntegerField)  # noqa: N815
    maxQueueWait = optional(serializers.CharField)  # noqa: N815


class Probe(Strict):
    initialDelay = optional(serializers.CharField)  # noqa: N815
    period = optional(serializers.CharField)
    timeout = optional(serializers.CharField)
    failureThreshold = optional(serializers.IntegerField, min_value=1)  # noqa: N815
    successThreshold = optional(serializers.IntegerField, min_value=1)  # noqa: N815


class ContainerResources(Strict):
    """Kubernetes' quantities; the domain reads them. Its own name of a GPU is taken too."""

    cpu = optional(serializers.CharField, max_length=40)
    memory = optional(serializers.CharField, max_length=40)
    gpu = optional(serializers.CharField, max_length=40)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and NVIDIA in data:
            if "gpu" in data:
                raise serializers.ValidationError(f"name gpu or {NVIDIA}, not both")
            data = {("gpu" if key == NVIDIA else key): value for key, value in data.items()}
        return super().to_internal_value(data)


class ContainerResourceRequirements(Strict):
    containerResourceRequests = ContainerResources(required=False, allow_null=True)  # noqa: N815
    containerResourceLimits = ContainerResources(required=False, allow_null=True)  # noqa: N815


NVIDIA = "nvidia.com/gpu"


class ScaleSettings(Strict):
    scaleType = AnyCase(["Default"])  # noqa: N815


class DeploymentProperties(Strict):
    echoed = frozenset({"provisioningState"})
    endpointComputeType = AnyCase(["Managed"], required=False)  # noqa: N815
    description = optional(serializers.CharField, allow_blank=True, max_length=5000)
    model = optional(serializers.CharField)
    modelMountPath = optional(serializers.RegexField, regex=r"^/[A-Za-z0-9._/-]+\Z", max_length=300)  # noqa: N815
    codeConfiguration = CodeConfiguration(required=False, allow_null=True)  # noqa: N815
    environmentId = optional(serializers.CharField)  # noqa: N815
    environmentVariables = TextMap(required=False, allow_null=True)  # noqa: N815
    instanceType = optional(serializers.CharField)  # noqa: N815
    containerResourceRequirements = ContainerResourceRequirements(required=False, allow_null=True)  # noqa: N815
    appInsightsEnabled = optional(serializers.BooleanField)  # noqa: N815
    scaleSettings = ScaleSettings(required=False, allow_null=True)  # noqa: N815
    requestSettings = RequestSettings(required=False, allow_null=True)  # noqa: N815
    livenessProbe = Probe(required=False, allow_null=True)  # noqa: N815
    readinessProbe = Probe(required=False, allow_null=True)  # noqa: N815
    egressPublicNetworkAccess = optional(AnyCase, choices=["Enabled", "Disabled"])  # noqa: N815
    properties = TextMap(required=False, allow_null=True)


class DeploymentBody(Strict):
    echoed = ARM_ECHO
    location = optional(serializers.CharField, allow_blank=True)
    tags = TextMap(required=False, allow_null=True)
    sku = Sku(required=False, allow_null=True)
    properties = DeploymentProperties()


class DeploymentPatch(Strict):
    tags = TextMap(required=False)
    sku = Sku(required=False)


class RegenerateKeys(Strict):
    keyType = AnyCase(["Primary", "Secondary"])  # noqa: N815
    keyValue = optional(serializers.CharField)  # noqa: N815


class LogRequest(Strict):
    containerType = optional(AnyCase, choices=["StorageInitializer", "InferenceServer"])  # noqa: N815
    tail = optional(serializers.IntegerField, min_value=1, max_value=5000)


class AssetProperties(Strict):
    echoed = frozenset({"provisioningState", "stage", "jobName", "assetUri"})
    description = optional(serializers.CharField, allow_blank=True, max_length=5000)
    tags = TextMap(required=False, allow_null=True)
    properties = TextMap(required=False, allow_null=True)
    isAnonymous = serializers.BooleanField(required=False, default=False)  # noqa: N815
    isArchived = serializers.BooleanField(required=False, default=False)  # noqa: N815


class ModelProperties(AssetProperties):
    modelType = AnyCase(ModelType.values, required=False, default=ModelType.CUSTOM)  # noqa: N815
    modelUri = serializers.CharField(max_length=2000)  # noqa: N815
    flavors = optional(serializers.DictField)


class ModelBody(Strict):
    echoed = ARM_ECHO
    properties = ModelProperties()


class Route(Strict):
    port = serializers.IntegerField(min_value=1, max_value=65_535)
    path = serializers.CharField()


class InferenceConfig(Strict):
    livenessRoute = Route()  # noqa: N815
    readinessRoute = Route()  # noqa: N815
    scoringRoute = Route()  # noqa: N815


class BuildContext(Strict):
    contextUri = serializers.CharField(max_length=2000)  # noqa: N815
    dockerfilePath = optional(serializers.CharField, max_length=400)  # noqa: N815


class BuildBody(Strict):
    driver = optional(serializers.ChoiceField, choices=["process", "docker"])


class BaseEnvironmentSource(Strict):
    # the SDK sends the word of its YAML file as it is
    baseEnvironmentSourceType = AnyCase(["EnvironmentAsset", "environment_asset"], required=False)  # noqa: N815
    resourceId = serializers.CharField(max_length=1000)  # noqa: N815


class InferencingServer(Strict):
    serverType = AnyCase(["AzureMLOnline", "Triton", "Custom"])  # noqa: N815
    codeConfiguration = CodeConfiguration(required=False, allow_null=True)  # noqa: N815
    inferenceConfiguration = InferenceConfig(required=False, allow_null=True)  # noqa: N815


class ModelConfiguration(Strict):
    mode = optional(AnyCase, choices=["Download", "Copy"])
    mountPath = optional(serializers.CharField, max_length=300)  # noqa: N815


class PackageBody(Strict):
    """Azure's PackageRequest; the target is named by one of two fields, which differ between its versions."""

    targetEnvironmentId = optional(serializers.CharField, max_length=1000)  # noqa: N815
    targetEnvironmentName = optional(serializers.CharField, max_length=255)  # noqa: N815
    targetEnvironmentVersion = optional(serializers.CharField, max_length=64)  # noqa: N815
    baseEnvironmentSource = BaseEnvironmentSource(required=False, allow_null=True)  # noqa: N815
    inferencingServer = InferencingServer()  # noqa: N815
    modelConfiguration = ModelConfiguration(required=False, allow_null=True)  # noqa: N815
    environmentVariables = TextMap(required=False, allow_null=True)  # noqa: N815
    description = optional(serializers.CharField, allow_blank=True, max_length=5000)
    tags = TextMap(required=False, allow_null=True)


class EnvironmentProperties(AssetProperties):
    echoed = AssetProperties.echoed | {"environmentType", "modelPackage"}
    image = optional(serializers.CharField, max_length=500)
    build = BuildContext(required=False, allow_null=True)
    condaFile = optional(serializers.CharField, trim_whitespace=False)  # noqa: N815
    requirements = optional(serializers.CharField, trim_whitespace=False)
    osType = optional(AnyCase, choices=["Linux"])  # noqa: N815
    inferenceConfig = InferenceConfig(required=False, allow_null=True)  # noqa: N815


class EnvironmentBody(Strict):
    echoed = ARM_ECHO
    properties = EnvironmentProperties()


class CodeProperties(AssetProperties):
    codeUri = serializers.CharField(max_length=2000)  # noqa: N815
    properties = serializers.DictField(required=False, allow_null=True)  # type: ignore[assignment]


class CodeBody(Strict):
    echoed = ARM_ECHO
    properties = CodeProperties()


class ComponentProperties(AssetProperties):
    componentSpec = serializers.DictField()  # noqa: N815 -- the registry's pipelines.documents reads it


class ComponentBody(Strict):
    echoed = ARM_ECHO
    properties = ComponentProperties()


class ContainerProperties(AssetProperties):
    echoed = AssetProperties.echoed | {"latestVersion", "nextVersion", "dataType"}


class ContainerBody(Strict):
    echoed = ARM_ECHO
    properties = ContainerProperties()


class DataProperties(AssetProperties):
    dataType = AnyCase(DataType.values, required=False, default=DataType.FOLDER)  # noqa: N815
    dataUri = serializers.CharField(max_length=2000)  # noqa: N815


class DataBody(Strict):
    echoed = ARM_ECHO
    properties = DataProperties()


class DatastoreSecrets(Strict):
    echoed = frozenset({"secretsType"})
    key = optional(serializers.CharField, max_length=2000)
    sasToken = optional(serializers.CharField, max_length=4000)  # noqa: N815


class DatastoreCredentials(Strict):
    credentialsType = AnyCase(["AccountKey", "Sas", "None"])  # noqa: N815
    accessKeyId = optional(serializers.CharField, max_length=200)  # noqa: N815
    secrets = DatastoreSecrets(required=False, allow_null=True)


class DatastoreProperties(Strict):
    echoed = frozenset({"serviceDataAccessAuthIdentity", "subscriptionId", "resourceGroup"})
    kind = "datastoreType"
    datastoreType = AnyCase(DatastoreType.values)  # noqa: N815
    description = optional(serializers.CharField, allow_blank=True, max_length=5000)
    tags = TextMap(required=False, allow_null=True)
    properties = TextMap(required=False, allow_null=True)
    isDefault = optional(serializers.BooleanField)  # noqa: N815
    accountName = optional(serializers.CharField, max_length=100)  # noqa: N815
    containerName = optional(serializers.CharField, max_length=100)  # noqa: N815
    bucketName = optional(serializers.CharField, max_length=100)  # noqa: N815
    endpoint = optional(serializers.CharField, max_length=300)
    protocol = optional(AnyCase, choices=["https", "http"])
    region = optional(serializers.CharField, max_length=100)
    prefix = optional(serializers.CharField, max_length=500)
    root = optional(serializers.CharField, max_length=500)
    credentials = DatastoreCredentials(required=False, allow_null=True)


class DatastoreBody(Strict):
    echoed = ARM_ECHO
    properties = DatastoreProperties()


class PendingUploadBody(Strict):
    pendingUploadType = AnyCase(["TemporaryBlobReference"], default="TemporaryBlobReference")  # noqa: N815
    pendingUploadId = optional(serializers.CharField, max_length=200)  # noqa: N815


class SecretsBody(Strict):
    """What the SDK asks for; the secrets of a datastore do not expire."""

    expirableSecret = optional(serializers.BooleanField)  # noqa: N815
    expireAfterHours = optional(serializers.IntegerField)  # noqa: N815
