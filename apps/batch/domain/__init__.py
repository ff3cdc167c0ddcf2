"""Verbs on batch endpoints, deployments, clusters and jobs."""

from apps.batch.domain.clusters import ClusterSpec, create_cluster, delete_cluster, preempt_node, update_cluster
from apps.batch.domain.deployments import (
    BatchDeploymentSpec,
    create_deployment,
    delete_deployment,
    deployment_spec_of,
    update_deployment,
)
from apps.batch.domain.endpoints import BatchEndpointSpec, create_endpoint, delete_endpoint, update_endpoint
from apps.batch.domain.jobs import cancel, invoke, retry_failed
from apps.batch.domain.operators import forget_host, give_back_idle, stop_node
from apps.batch.domain.records import JobChange, delete_job, update_job
from apps.batch.domain.schedules import (
    ScheduleSpec,
    create_schedule,
    delete_schedule,
    enable_schedule,
    schedule_spec_of,
    trigger_schedule,
    update_schedule,
)
from apps.batch.domain.specs import JobSpec, check_settings, settings_of

__all__ = [
    "BatchDeploymentSpec",
    "BatchEndpointSpec",
    "ClusterSpec",
    "JobChange",
    "JobSpec",
    "ScheduleSpec",
    "cancel",
    "check_settings",
    "create_cluster",
    "create_deployment",
    "create_endpoint",
    "create_schedule",
    "delete_cluster",
    "delete_deployment",
    "delete_endpoint",
    "delete_job",
    "delete_schedule",
    "deployment_spec_of",
    "enable_schedule",
    "forget_host",
    "give_back_idle",
    "invoke",
    "preempt_node",
    "retry_failed",
    "schedule_spec_of",
    "settings_of",
    "stop_node",
    "trigger_schedule",
    "update_cluster",
    "update_deployment",
    "update_endpoint",
    "update_job",
    "update_schedule",
]
