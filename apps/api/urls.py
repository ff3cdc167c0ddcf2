"""One set of views under two prefixes (spec D1): the ARM path for the SDK, the short one for people."""

from __future__ import annotations

from typing import Any

from csp.decorators import csp_update
from django.urls import URLPattern, URLResolver, include, path, register_converter
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from apps.api import (
    artifacts,
    assets,
    batch_deployments,
    batch_endpoints,
    blobs,
    builds,
    clusters,
    components,
    compute,
    data,
    datastores,
    deployments,
    discovery,
    health,
    history,
    invocations,
    job_files,
    jobs,
    locations,
    metrics,
    mlflow,
    online,
    packages,
    schedules,
    workspaces,
)

register_converter(artifacts.ContainerName, "artifacts")
LOCATION = "subscriptions/<str:subscription>/providers/Microsoft.MachineLearningServices/locations/<str:location>"
ARM = (
    "subscriptions/<str:subscription>/resourceGroups/<str:group>/providers/Microsoft.MachineLearningServices/workspaces"
)

AZURE = ("subscriptions/", "mferp/", "history/", "data/v1.0/", "modelmanagement/", "registrymanagement/", "api/v1/")


def asset_urls(kind: Any) -> list[URLPattern]:
    """The four routes of one kind of asset."""
    name = kind.kind

    def view(base: Any) -> Any:
        combined: Any = type(f"{name.title()}{base.__name__}", (kind, base), {})
        return combined.as_view()

    return [
        path(name, view(assets.Containers), name=f"{name}"),
        path(f"{name}/<str:name>", view(assets.Container), name=f"{name}-container"),
        path(f"{name}/<str:name>/versions", view(assets.Versions), name=f"{name}-versions"),
        path(f"{name}/<str:name>/versions/<str:version>", view(assets.Version), name=f"{name}-version"),
    ]


# Swagger UI sets styles inline; its script is served as a file of its own
docs = csp_update({"style-src": ["'unsafe-inline'"]})(SpectacularSwaggerSplitView.as_view(url_name="openapi"))

ENVIRONMENT = "environments/<str:name>/versions/<str:version>"
ENDPOINT = "onlineEndpoints/<str:endpoint>"
DEPLOYMENT = f"{ENDPOINT}/deployments/<str:deployment>"
BATCH = "batchEndpoints/<str:endpoint>"
BATCH_DEPLOYMENT = f"{BATCH}/deployments/<str:deployment>"
COMPUTE = "computes/<str:compute>"
JOB = "jobs/<str:job>"

# the SDK lists them under a prefix of its own too
batch_job_urls: list[URLPattern] = [
    path(f"{BATCH}/jobs", invocations.EndpointJobs.as_view(), name="batch-endpoint-jobs"),
    path(f"{BATCH}/jobs/<str:job>", invocations.EndpointJob.as_view(), name="batch-endpoint-job"),
    path(f"{BATCH_DEPLOYMENT}/jobs", invocations.DeploymentJobs.as_view(), name="batch-deployment-jobs"),
]
batch_urls: list[URLPattern] = [
    path("batchEndpoints", batch_endpoints.BatchEndpoints.as_view(), name="batch-endpoints"),
    path(BATCH, batch_endpoints.BatchEndpoint.as_view(), name="batch-endpoint"),
    path(f"{BATCH}/listKeys", batch_endpoints.BatchListKeys.as_view(), name="batch-list-keys"),
    path(f"{BATCH}/deployments", batch_deployments.BatchDeployments.as_view(), name="batch-deployments"),
    path(BATCH_DEPLOYMENT, batch_deployments.BatchDeployment.as_view(), name="batch-deployment"),
    *batch_job_urls,
    path("computes", clusters.Computes.as_view(), name="computes"),
    path(COMPUTE, clusters.Compute.as_view(), name="compute"),
    path(f"{COMPUTE}/listNodes", clusters.ComputeNodes.as_view(), name="compute-nodes"),
    path(f"{COMPUTE}/nodes/<str:node>/preempt", clusters.NodePreempt.as_view(), name="node-preempt"),
    path("schedules", schedules.Schedules.as_view(), name="schedules"),
    path("schedules/<str:name>", schedules.Schedule.as_view(), name="schedule"),
    path("schedules/<str:name>/trigger", schedules.ScheduleTrigger.as_view(), name="schedule-trigger"),
    path("jobs", jobs.Jobs.as_view(), name="jobs"),
    path(JOB, jobs.Job.as_view(), name="job"),
    path(f"{JOB}/cancel", jobs.JobCancel.as_view(), name="job-cancel"),
    path(f"{JOB}/retry", jobs.JobRetry.as_view(), name="job-retry"),
    path(f"{JOB}/miniBatches", jobs.MiniBatches.as_view(), name="mini-batches"),
    path(f"{JOB}/miniBatches/<int:number>", jobs.MiniBatch.as_view(), name="mini-batch"),
    path(f"{JOB}/stream", job_files.JobStream.as_view(), name="job-stream"),
    path(f"{JOB}/logs", job_files.JobLogs.as_view(), name="job-logs"),
    path(f"{JOB}/logs/<path:name>", job_files.JobLog.as_view(), name="job-log"),
    path(f"{JOB}/outputs/<str:name>", job_files.JobOutput.as_view(), name="job-output"),
    path(f"{JOB}/outputs/<str:name>/<path:path>", job_files.JobOutputFile.as_view(), name="job-output-file"),
]
run_urls: list[URLPattern] = [
    path("runs/<str:run>/details", history.RunDetails.as_view(), name="run-details"),
    path("runs/<str:run>/children", history.RunChildren.as_view(), name="run-children"),
    path("runs/<str:run>/serviceinstances/<int:node>", history.RunServices.as_view(), name="run-services"),
    path("rundata", history.RunData.as_view(), name="run-data"),
]
data_urls: list[URLPattern] = [
    path("dataversion/batchGetResolvedUris", history.ResolvedData.as_view(), name="resolved-data"),
]
workspace_urls: list[URLPattern] = [
    *batch_urls,
    path("operations", workspaces.Operations.as_view(), name="operations"),
    path("operations/<uuid:operation>", workspaces.Operation.as_view(), name="operation"),
    path("operations/<uuid:operation>/log", workspaces.OperationLog.as_view(), name="operation-log"),
    path("requests/<str:request_id>", workspaces.RequestSearch.as_view(), name="request"),
    path("instanceTypes", compute.InstanceTypes.as_view(), name="instance-types"),
    path("usages", compute.Usages.as_view(), name="usages"),
    path("uploads", assets.Uploads.as_view(), name="uploads"),
    *asset_urls(assets.ModelKind),
    *asset_urls(assets.EnvironmentKind),
    path(f"{ENVIRONMENT}/builds", builds.Builds.as_view(), name="environment-builds"),
    path(f"{ENVIRONMENT}/build", builds.Build.as_view(), name="environment-build"),
    path(f"{ENVIRONMENT}/package", packages.EnvironmentPackage.as_view(), name="environment-package"),
    path(f"{ENVIRONMENT}/export", packages.EnvironmentExport.as_view(), name="environment-export"),
    path("models/<str:name>/versions/<str:version>/package", packages.ModelPackage.as_view(), name="model-package"),
    *asset_urls(assets.CodeKind),
    path(
        "codes/<str:name>/versions/<str:version>/startPendingUpload", assets.PendingUpload.as_view(), name="upload-code"
    ),
    *asset_urls(data.DataKind),
    path("datastores", datastores.Datastores.as_view(), name="datastores"),
    path("datastores/<str:name>", datastores.Datastore.as_view(), name="datastore"),
    path("datastores/<str:name>/listSecrets", datastores.ListSecrets.as_view(), name="datastore-secrets"),
    *asset_urls(components.ComponentKind),
    path("onlineEndpoints", online.Endpoints.as_view(), name="endpoints"),
    path(ENDPOINT, online.Endpoint.as_view(), name="endpoint"),
    path(f"{ENDPOINT}/listKeys", online.ListKeys.as_view(), name="list-keys"),
    path(f"{ENDPOINT}/regenerateKeys", online.RegenerateKeys.as_view(), name="regenerate-keys"),
    path(f"{ENDPOINT}/metrics", metrics.Metrics.as_view(), name="metrics"),
    path(f"{ENDPOINT}/token", online.Token.as_view(), name="token"),
    path(f"{ENDPOINT}/deployments", deployments.Deployments.as_view(), name="deployments"),
    path(DEPLOYMENT, deployments.Deployment.as_view(), name="deployment"),
    path(f"{DEPLOYMENT}/getLogs", deployments.DeploymentLogs.as_view(), name="deployment-logs"),
    path(f"{DEPLOYMENT}/skus", deployments.DeploymentSkus.as_view(), name="deployment-skus"),
]


def prefixed(prefix: str, namespace: str) -> list[URLPattern | URLResolver]:
    return [
        path(prefix, workspaces.Workspaces.as_view(), name=f"{namespace}-workspaces"),
        path(f"{prefix}/<str:workspace>", workspaces.Workspace.as_view(), name=f"{namespace}-workspace"),
        path(f"{prefix}/<str:workspace>/", include((workspace_urls, "api"), namespace=namespace)),
    ]


urlpatterns: list[URLPattern | URLResolver] = [
    *prefixed(ARM, "arm"),
    *prefixed("api/v1/workspaces", "short"),
    path(f"mferp/managementfrontend/{ARM}/<str:workspace>/", include((batch_job_urls, "api"), namespace="mfe")),
    path(f"history/v1.0/{ARM}/<str:workspace>/", include((run_urls, "api"), namespace="history")),
    path(f"data/v1.0/{ARM}/<str:workspace>/", include((data_urls, "api"), namespace="data")),
    path("batch/<str:endpoint>/jobs", invocations.Invoke.as_view(), name="batch-invoke"),
    path("batch/<str:endpoint>/jobs/<str:job>", invocations.Invocation.as_view(), name="batch-invocation"),
    path("storage.blob.<str:suffix>/<artifacts:container>", artifacts.Artifacts.as_view(), name="artifact-container"),
    path("storage.blob.<str:suffix>/<artifacts:container>/<path:blob>", artifacts.Artifacts.as_view(), name="artifact"),
    path("storage.blob.<str:suffix>/<str:container>", blobs.Blobs.as_view(), name="blob-container"),
    path("storage.blob.<str:suffix>/<str:container>/<path:blob>", blobs.Blobs.as_view(), name="blob"),
    path("joblogs/<str:token>", history.job_log, name="job-log-link"),
    path("api/v1/openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("api/v1/docs", docs, name="api-docs"),
    path("metadata/endpoints", discovery.metadata, name="metadata"),
    path("discovery", discovery.discovery, name="discovery"),
    path("msi/token", discovery.identity_token, name="identity-token"),
    path("healthz", health.healthz, name="healthz"),
    path("internal/authz/mlflow", mlflow.authorize),
    path("internal/authz/mlflow/<path:path>", mlflow.authorize, name="authz-mlflow"),
    path("readyz", health.readyz, name="readyz"),
    path(f"{LOCATION}/usages", locations.LocationUsages.as_view(), name="location-usages"),
    path(f"{LOCATION}/vmSizes", locations.Sizes.as_view(), name="location-sizes"),
    # the last: programs get errors as JSON
    *(path(f"{each}<path:rest>", locations.Unserved.as_view(), name="unserved") for each in AZURE),
]
