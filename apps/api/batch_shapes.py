"""The bodies of batch endpoints, deployments, compute and jobs on the wire (wire 5.4 to 5.9)."""
# ruff: noqa: N815 -- the wire's names

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from apps.api.serializers import ARM_ECHO, AnyCase, CodeConfiguration, Strict, TextMap, optional
from apps.batch.domain.triggers import DAYS
from apps.batch.enums import LoggingLevel, OutputAction

LONGEST = 5000
MOST_INPUTS = 200
INPUT_TYPES = ("UriFolder", "UriFile", "MLTable", "Literal", "MLFlowModel", "CustomModel", "TritonModel")
OUTPUT_TYPES = tuple(name for name in INPUT_TYPES if name != "Literal")


def text(**options: Any) -> Any:
    return optional(serializers.CharField, allow_blank=True, max_length=LONGEST, **options)


def whole(**options: Any) -> Any:
    return optional(serializers.IntegerField, min_value=-(2**31), max_value=2**31 - 1, **options)


class Defaults(Strict):
    deploymentName = text()


class BatchEndpointProperties(Strict):
    echoed = frozenset({"scoringUri", "swaggerUri", "provisioningState", "keys"})
    authMode = AnyCase(["AADToken"], required=False)
    description = text()
    properties = TextMap(required=False, allow_null=True)
    defaults = Defaults(required=False, allow_null=True)


class BatchEndpointBody(Strict):
    echoed = ARM_ECHO | {"sku"}
    location = text()
    tags = TextMap(required=False, allow_null=True)
    identity = optional(serializers.DictField)
    properties = BatchEndpointProperties()


class BatchEndpointPatch(Strict):
    tags = TextMap(required=False)
    properties = BatchEndpointProperties(required=False)


class Reference(Strict):
    referenceType = AnyCase(["Id"], required=False)
    assetId = serializers.CharField(max_length=1000)


class Resources(Strict):
    instanceCount = whole()
    instanceType = text()
    properties = optional(serializers.DictField)


class Retries(Strict):
    maxRetries = whole()
    timeout = optional(serializers.CharField, max_length=60)


class DeploymentConfiguration(Strict):
    deploymentConfigurationType = AnyCase(["PipelineComponent", "Model"])
    componentId = Reference(required=False, allow_null=True)
    description = text()
    settings = TextMap(required=False, allow_null=True)
    tags = TextMap(required=False, allow_null=True)


class BatchDeploymentProperties(Strict):
    echoed = frozenset({"provisioningState"})
    description = text()
    model = Reference(required=False, allow_null=True)
    codeConfiguration = CodeConfiguration(required=False, allow_null=True)
    environmentId = text()
    environmentVariables = TextMap(required=False, allow_null=True)
    compute = text()
    resources = Resources(required=False, allow_null=True)
    miniBatchSize = whole()
    maxConcurrencyPerInstance = whole()
    errorThreshold = whole()
    retrySettings = Retries(required=False, allow_null=True)
    outputAction = optional(AnyCase, choices=OutputAction.values)
    outputFileName = text()
    loggingLevel = optional(AnyCase, choices=LoggingLevel.values)
    deploymentConfiguration = DeploymentConfiguration(required=False, allow_null=True)
    properties = TextMap(required=False, allow_null=True)


class BatchDeploymentBody(Strict):
    echoed = ARM_ECHO | {"identity", "sku"}
    location = text()
    tags = TextMap(required=False, allow_null=True)
    properties = BatchDeploymentProperties()


class Described(Strict):
    description = text()


class BatchDeploymentPatch(Strict):
    tags = TextMap(required=False)
    properties = Described(required=False)


class NodeScale(Strict):
    minNodeCount = whole()
    maxNodeCount = whole()
    nodeIdleTimeBeforeScaleDown = optional(serializers.CharField, max_length=60)


class AmlComputeProperties(Strict):
    """What Azure has besides and this installation has not is taken only with the values that ask for nothing."""

    echoed = frozenset(
        {
            "allocationState",
            "allocationStateTransitionTime",
            "currentNodeCount",
            "targetNodeCount",
            "nodeStateCounts",
            "errors",
            "remoteLoginPortPublicAccess",
            "enableNodePublicIp",
        }
    )
    vmSize = serializers.CharField(max_length=60)
    vmPriority = optional(AnyCase, choices=["Dedicated", "LowPriority"])
    scaleSettings = NodeScale(required=False, allow_null=True)
    osType = optional(AnyCase, choices=["Linux"])


class ComputeProperties(Strict):
    echoed = frozenset(
        {
            "provisioningState",
            "createdOn",
            "modifiedOn",
            "isAttachedCompute",
            "provisioningErrors",
            "resourceId",
            "computeLocation",
            "disableLocalAuth",
        }
    )
    kind = "computeType"
    computeType = AnyCase(["AmlCompute"])
    description = text()
    properties = AmlComputeProperties()


class ComputeBody(Strict):
    echoed = ARM_ECHO | {"identity", "sku"}
    location = text()
    tags = TextMap(required=False, allow_null=True)
    properties = ComputeProperties()


class JobProperties(Strict):
    """Of a job that exists: what of it can be changed. The rest comes back from a GET."""

    echoed = frozenset(
        {
            "jobType",
            "status",
            "experimentName",
            "properties",
            "services",
            "interactionEndpoints",
            "inputs",
            "outputs",
            "jobs",
            "settings",
            "computeId",
            "componentId",
            "sourceJobId",
            "identity",
            "notificationSetting",
            "error",
            "startTime",
            "endTime",
            "command",  # from here on: of command jobs
            "codeId",
            "environmentId",
            "environmentVariables",
            "distribution",
            "resources",
            "limits",
            "parameters",
            "queueSettings",
        }
    )
    displayName = optional(serializers.CharField, allow_blank=True, max_length=255)
    description = text()
    tags = TextMap(required=False, allow_null=True)
    isArchived = optional(serializers.BooleanField)


class JobBody(Strict):
    echoed = ARM_ECHO
    properties = JobProperties()


class NewJobBody(Strict):
    """Of a job to be made: its properties are read by `apps.batch.domain.pipelines.submit`."""

    echoed = ARM_ECHO
    properties = serializers.DictField()


class Folded(Strict):
    """Takes its names with a capital first letter too, as Azure's documentation writes them (wire 5.6)."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return super().to_internal_value(data)
        folded = {key[:1].lower() + key[1:]: value for key, value in data.items()}
        if len(folded) != len(data):
            raise serializers.ValidationError("a field is given twice, in two spellings")
        return super().to_internal_value(folded)


class Input(Folded):
    jobInputType = AnyCase(INPUT_TYPES)
    uri = optional(serializers.CharField, max_length=2000)
    value = serializers.JSONField(required=False, allow_null=True)
    description = text()
    mode = text()


class Output(Folded):
    jobOutputType = optional(AnyCase, choices=OUTPUT_TYPES)
    uri = optional(serializers.CharField, max_length=2000)
    description = text()
    mode = text()


class JobCompute(Folded):
    echoed = frozenset({"isLocal"})
    instanceCount = whole()
    properties = optional(serializers.DictField)


class JobRetries(Folded):
    maxRetries = whole()
    timeout = optional(serializers.CharField, max_length=60)


class Inputs(serializers.DictField):
    child = Input()


class Outputs(serializers.DictField):
    child = Output()


class InvocationProperties(Folded):
    inputData = Inputs(required=False, allow_null=True)
    outputData = Outputs(required=False, allow_null=True)
    properties = TextMap(required=False, allow_null=True)
    tags = TextMap(required=False, allow_null=True)
    name = optional(serializers.CharField, max_length=255)
    displayName = optional(serializers.CharField, allow_blank=True, max_length=255)
    description = text()
    experimentName = optional(serializers.CharField, allow_blank=True, max_length=255)
    compute = JobCompute(required=False, allow_null=True)
    miniBatchSize = whole()
    errorThreshold = whole()
    retrySettings = JobRetries(required=False, allow_null=True)
    outputFileName = text()
    loggingLevel = optional(AnyCase, choices=LoggingLevel.values)


class Invocation(Folded):
    properties = InvocationProperties()


def numbers(most: int) -> Any:
    """At most so many whole numbers, none of them null."""
    child = serializers.IntegerField(min_value=-(2**31), max_value=2**31 - 1)
    return optional(serializers.ListField, child=child, max_length=most)


class Pattern(Strict):
    """Of a recurrence. The ranges are checked by `apps.batch.domain.triggers`."""

    hours = numbers(24)
    minutes = numbers(60)
    weekDays = optional(serializers.ListField, child=AnyCase(DAYS), max_length=7)
    monthDays = numbers(31)


class Trigger(Strict):
    """Which fields go with which type is checked by `apps.api.schedules`."""

    triggerType = AnyCase(["Cron", "Recurrence"])
    expression = optional(serializers.CharField, max_length=120)
    frequency = optional(AnyCase, choices=["Minute", "Hour", "Day", "Week", "Month"])
    interval = whole()
    schedule = Pattern(required=False, allow_null=True)
    timeZone = optional(serializers.CharField, max_length=60)
    startTime = text()
    endTime = text()


class EndpointInvocation(Strict):
    batchEndpoint = serializers.CharField(max_length=1000)
    deploymentName = text()
    properties = InvocationProperties(required=False, allow_null=True)


class Action(Strict):
    """`jobDefinition` is read by `apps.batch.domain.pipelines.draft`."""

    actionType = AnyCase(["InvokeBatchEndpoint", "CreateJob"])
    endpointInvocationDefinition = EndpointInvocation(required=False, allow_null=True)
    jobDefinition = optional(serializers.DictField)


class ScheduleProperties(Strict):
    echoed = frozenset({"provisioningState"})
    displayName = text()
    description = text()
    tags = TextMap(required=False, allow_null=True)
    properties = TextMap(required=False, allow_null=True)
    isEnabled = optional(serializers.BooleanField)
    trigger = Trigger()
    action = Action()


class ScheduleBody(Strict):
    echoed = ARM_ECHO
    properties = ScheduleProperties()


class TriggerOnce(Strict):
    scheduleTime = text()  # a label of Azure ML's: the job is made now


class ResolvedData(Strict):
    values = serializers.ListField(child=serializers.CharField(max_length=2000), max_length=100)


class RunData(Strict):
    runId = serializers.CharField(max_length=255)
    selectRunMetadata = optional(serializers.BooleanField)
    selectRunDefinition = optional(serializers.BooleanField)
    selectJobSpecification = optional(serializers.BooleanField)
