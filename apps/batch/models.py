"""Batch endpoints, their deployments, clusters with nodes, jobs with mini-batches: the queue of record."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.conf import settings as live
from django.db import models
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.batch.enums import (
    ClusterTier,
    DeploymentType,
    JobState,
    JobType,
    LoggingLevel,
    MiniBatchState,
    NodeState,
    OutputAction,
    ProvisioningState,
)
from apps.core import clock
from apps.core.health import SILENT_S
from apps.registry.models import CodeVersion, ComponentVersion, EnvironmentVersion, ModelVersion

STEP_MARK = 0x6B1F1C6A7A10  # what the id of a job's one step differs by from the job's own


def marked(key: uuid.UUID) -> uuid.UUID:
    """The id of a job's step; of that id, the job's again."""
    return uuid.UUID(int=key.int ^ STEP_MARK)


class Tracked(models.Model):
    """Who made and last changed it, and when."""

    created_by = models.ForeignKey(live.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    modified_by = models.ForeignKey(live.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    modified_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class Cluster(Tracked):
    """A compute cluster: how many nodes of which size jobs may have. No node exists while nobody needs one."""

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="clusters")
    name = models.CharField(max_length=32)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    instance_type = models.CharField(max_length=60)
    tier = models.CharField(max_length=12, choices=ClusterTier.choices, default=ClusterTier.DEDICATED)
    min_nodes = models.PositiveSmallIntegerField(default=0)
    max_nodes = models.PositiveSmallIntegerField(default=4)
    idle_s = models.PositiveIntegerField(default=120, help_text="how long a node may idle before it is given back")
    state = models.CharField(max_length=12, choices=ProvisioningState.choices, default=ProvisioningState.SUCCEEDED)
    waiting = models.JSONField(null=True, help_text="why it gets no more nodes just now: a stored Problem")
    preempted = models.PositiveIntegerField(default=0, help_text="nodes that were taken away, all in all")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="cluster_name_in_workspace")]

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return f"cluster/{self.name}"

    @property
    def tone(self) -> str:
        return "degraded" if self.waiting else ProvisioningState(self.state).tone

    @property
    def low_priority(self) -> bool:
        return self.tier == ClusterTier.LOW_PRIORITY


class BatchEndpoint(Tracked):
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="batch_endpoints")
    name = models.CharField(max_length=32, unique=True, help_text="unique in the installation: it is in the URL")
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    identity = models.JSONField(default=dict, blank=True)
    default_deployment = models.ForeignKey(
        "BatchDeployment", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    state = models.CharField(max_length=12, choices=ProvisioningState.choices, default=ProvisioningState.CREATING)
    error = models.JSONField(null=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return f"batch-endpoint/{self.name}"

    @property
    def scoring_uri(self) -> str:
        return f"{live.BASE_URL}/batch/{self.name}/jobs"

    @property
    def tone(self) -> str:
        return ProvisioningState(self.state).tone


class BatchDeployment(Tracked):
    """What a job of an endpoint runs, and with which settings unless the job has its own (spec 3.5)."""

    endpoint = models.ForeignKey(BatchEndpoint, on_delete=models.PROTECT, related_name="deployments")
    name = models.CharField(max_length=32)
    type = models.CharField(max_length=20, choices=DeploymentType.choices, default=DeploymentType.MODEL)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    model = models.ForeignKey(ModelVersion, null=True, on_delete=models.PROTECT, related_name="batch_deployments")
    code = models.ForeignKey(CodeVersion, null=True, on_delete=models.PROTECT, related_name="batch_deployments")
    scoring_script = models.CharField(max_length=500, blank=True)
    environment = models.ForeignKey(
        EnvironmentVersion, null=True, on_delete=models.PROTECT, related_name="batch_deployments"
    )
    environment_variables = models.JSONField(default=dict, blank=True)
    component = models.ForeignKey(
        ComponentVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="batch_deployments"
    )
    cluster = models.ForeignKey(Cluster, null=True, on_delete=models.PROTECT, related_name="deployments")
    instance_count = models.PositiveSmallIntegerField(default=1, help_text="nodes per job")
    max_concurrency_per_instance = models.PositiveSmallIntegerField(default=1, help_text="processes per node")
    mini_batch_size = models.PositiveIntegerField(default=10, help_text="files per run()")
    max_retries = models.PositiveSmallIntegerField(default=3)
    timeout_ms = models.PositiveBigIntegerField(default=30_000, help_text="of one mini-batch")
    error_threshold = models.IntegerField(default=-1, help_text="failed files a job may have; -1: any number")
    output_action = models.CharField(max_length=12, choices=OutputAction.choices, default=OutputAction.APPEND_ROW)
    output_file_name = models.CharField(max_length=255, default="predictions.csv")
    logging_level = models.CharField(max_length=8, choices=LoggingLevel.choices, default=LoggingLevel.INFO)
    settings = models.JSONField(default=dict, blank=True, help_text="of a pipeline: default_compute, force_rerun, …")
    state = models.CharField(max_length=12, choices=ProvisioningState.choices, default=ProvisioningState.CREATING)
    error = models.JSONField(null=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["endpoint", "name"], name="batch_deployment_name_in_endpoint")]

    def __str__(self) -> str:
        return f"{self.endpoint.name}/{self.name}"

    @property
    def topic(self) -> str:
        return f"batch-deployment/{self.endpoint.name}/{self.name}"

    @property
    def tone(self) -> str:
        return ProvisioningState(self.state).tone


class Job(models.Model):
    """One run of a deployment or a pipeline, or one step of a pipeline. It outlives its endpoint and deployment."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="jobs")
    name = models.CharField(max_length=255)
    type = models.CharField(max_length=10, choices=JobType.choices, default=JobType.SCORING)
    display_name = models.CharField(max_length=255, blank=True)
    experiment_name = models.CharField(max_length=255, blank=True)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    endpoint = models.ForeignKey(BatchEndpoint, null=True, on_delete=models.SET_NULL, related_name="jobs")
    deployment = models.ForeignKey(BatchDeployment, null=True, on_delete=models.SET_NULL, related_name="jobs")
    endpoint_name = models.CharField(max_length=32, blank=True, help_text="also when the endpoint is gone")
    deployment_name = models.CharField(max_length=32, blank=True)
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="children")
    step = models.CharField(max_length=255, blank=True, help_text="of the parent pipeline")
    cluster = models.ForeignKey(Cluster, null=True, on_delete=models.PROTECT, related_name="jobs")
    model = models.ForeignKey(ModelVersion, null=True, on_delete=models.SET_NULL, related_name="+")
    code = models.ForeignKey(CodeVersion, null=True, on_delete=models.SET_NULL, related_name="+")
    environment = models.ForeignKey(EnvironmentVersion, null=True, on_delete=models.SET_NULL, related_name="+")
    settings = models.JSONField(default=dict, help_text="frozen at creation: see apps.batch.settings.JobSettings")
    inputs = models.JSONField(default=dict, help_text="name → {type, uri | value}")
    outputs = models.JSONField(default=dict, help_text="name → {type, uri}; uri is set when it is decided")
    launch = models.JSONField(null=True, help_text="how its workers are started: compute.domain.Recipe and the driver")
    state = models.CharField(max_length=16, choices=JobState.choices, default=JobState.NOT_STARTED)
    outcome = models.CharField(
        max_length=16, choices=JobState.choices, blank=True, help_text="how it will end, once that is decided"
    )
    error = models.JSONField(null=True)
    request_id = models.CharField(max_length=100, blank=True, help_text="repeatability-request-id: one job for each")
    reuse_key = models.CharField(max_length=64, blank=True, db_index=True, help_text="equal for identical steps")
    reused_from = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+")
    is_archived = models.BooleanField(default=False)
    files = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0, help_text="mini-batches")
    done = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    failed_files = models.PositiveIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    deaths = models.PositiveSmallIntegerField(default=0, help_text="of workers that were never ready")
    created_by = models.ForeignKey(live.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    modified_at = models.DateTimeField(auto_now=True)
    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["workspace", "-created_at"]),
            models.Index(fields=["cluster", "state", "created_at"]),
            models.Index(fields=["endpoint", "-created_at"]),
        ]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="job_name_in_workspace"),
            models.UniqueConstraint(
                fields=["endpoint_name", "request_id"], condition=~models.Q(request_id=""), name="one_job_per_request"
            ),
            models.UniqueConstraint(
                fields=["parent", "step"], condition=models.Q(parent__isnull=False), name="one_job_per_step"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def topic(self) -> str:
        return f"job/{self.name}"

    @property
    def live(self) -> bool:
        return self.state in JobState.live()

    @property
    def tone(self) -> str:
        return JobState(self.state).tone

    @property
    def run_id(self) -> str:
        """The id of the run that has the outputs: for a model's job its one step (wire 10), else the job itself."""
        return str(marked(self.pk)) if self.type == JobType.SCORING else self.name


class MiniBatch(models.Model):
    """Some files of a job, and the last attempt at them. Its result is a piece of a segment: see engine.results."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="mini_batches")
    number = models.PositiveIntegerField()
    files = models.JSONField(help_text="paths below the job's input")
    file_count = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=MiniBatchState.choices, default=MiniBatchState.QUEUED)
    attempt = models.PositiveSmallIntegerField(default=0, help_text="attempts that ended, well or badly")
    losses = models.PositiveSmallIntegerField(default=0, help_text="times its node was lost or taken away")
    node = models.CharField(max_length=63, blank=True)
    token = models.PositiveBigIntegerField(default=0, help_text="of the node, when it was claimed")
    process = models.PositiveSmallIntegerField(null=True)
    rows = models.PositiveIntegerField(default=0)
    segment = models.CharField(max_length=100, blank=True)
    offset = models.PositiveBigIntegerField(default=0)
    length = models.PositiveBigIntegerField(default=0)
    duration_ms = models.PositiveBigIntegerField(null=True)
    error = models.JSONField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["number"]
        indexes = [
            models.Index(fields=["job", "state", "number"]),
            models.Index(fields=["node"], condition=models.Q(state="running"), name="mini_batch_running_on"),
        ]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="mini_batch_once")]

    def __str__(self) -> str:
        return f"{self.job_id} {self.number}"


class Host(models.Model):
    """A machine whose worker runs nodes. `seen_at` is renewed every second; the row goes when the worker stops."""

    name = models.CharField(max_length=60, primary_key=True)
    cpu_milli = models.PositiveIntegerField()
    mem_bytes = models.PositiveBigIntegerField()
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name

    @property
    def lost(self) -> bool:
        """Whether it died or is cut off: a worker that is stopped takes its row along."""
        return self.seen_at < clock.now() - timedelta(seconds=SILENT_S)


class Node(models.Model):
    """One node of a cluster: room that is reserved on a host, and the job that has it.

    `holder` runs it under a lease; `token` grows with each change of hands, so that what a lost holder still writes
    is refused.
    """

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="nodes")
    name = models.CharField(max_length=40, unique=True)
    state = models.CharField(max_length=10, choices=NodeState.choices, default=NodeState.PREPARING)
    job = models.ForeignKey(Job, null=True, on_delete=models.SET_NULL, related_name="nodes")
    cpu_milli = models.PositiveIntegerField()
    mem_bytes = models.PositiveBigIntegerField()
    gpus = models.PositiveSmallIntegerField(default=0)
    host = models.CharField(max_length=60, blank=True)
    holder = models.CharField(max_length=80, blank=True)
    token = models.PositiveBigIntegerField(default=1)
    lease_until = models.DateTimeField(null=True)
    idle_since = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def owner_key(self) -> str:
        """Of its reservation in the ledger of capacity."""
        return f"node:{self.name}"

    @property
    def tone(self) -> str:
        return NodeState(self.state).tone


class Schedule(Tracked):
    """When a batch endpoint is invoked, or a pipeline job sent."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=64)
    display_name = models.CharField(max_length=255, blank=True)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict)
    endpoint = models.ForeignKey(BatchEndpoint, null=True, on_delete=models.CASCADE, related_name="schedules")
    definition = models.JSONField(null=True, help_text="of a pipeline job, where there is no endpoint")
    deployment_name = models.CharField(max_length=32, blank=True, help_text="empty: the default one, at that time")
    cron = models.CharField(max_length=120)
    time_zone = models.CharField(max_length=60, default="UTC")
    recurrence = models.JSONField(null=True, help_text="what cron was made from, if anything")
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)
    body = models.JSONField(default=dict, help_text="what is sent to the endpoint: spec 7.1")
    enabled = models.BooleanField(default=True)
    next_at = models.DateTimeField(null=True, db_index=True)
    last_at = models.DateTimeField(null=True)
    last_job = models.ForeignKey(Job, null=True, on_delete=models.SET_NULL, related_name="+")
    last_error = models.JSONField(null=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="schedule_name_in_workspace")]

    def __str__(self) -> str:
        return self.name

    @property
    def ended(self) -> bool:
        """Whether it is on, but its end leaves no more times."""
        return self.enabled and self.ends_at is not None and self.next_at is None

    @property
    def state_name(self) -> str:
        """Of `apps.core.words`."""
        if self.ended:
            return "ended"
        return "enabled" if self.enabled else "disabled"
