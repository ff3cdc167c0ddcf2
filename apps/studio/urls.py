"""Every page of the studio. tests/studio/test_access.py must say who may see each of them."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from apps.studio.pages import (
    account,
    compute,
    deploy,
    deployments,
    endpoint_forms,
    endpoints,
    environments,
    find,
    home,
    job_files,
    jobs,
    logs,
    metrics,
    model_forms,
    models,
    operations,
    packages,
    test,
    traffic,
)

ENDPOINT = "endpoints/<str:endpoint>"
DEPLOYMENT = f"{ENDPOINT}/deployments/<str:deployment>"
JOB = "jobs/<str:job>"

workspace_urls: list[URLPattern] = [
    path("", home.WorkspaceHome.as_view(), name="workspace"),
    path("endpoints", endpoints.Endpoints.as_view(), name="endpoints"),
    path("create/endpoint", endpoint_forms.EndpointCreate.as_view(), name="endpoint-create"),
    path(ENDPOINT, endpoints.Overview.as_view(), name="endpoint"),
    path(f"{ENDPOINT}/traffic", traffic.Traffic.as_view(), name="endpoint-traffic"),
    path(f"{ENDPOINT}/test", test.Test.as_view(), name="endpoint-test"),
    path(f"{ENDPOINT}/metrics", metrics.Metrics.as_view(), name="endpoint-metrics"),
    path(f"{ENDPOINT}/metrics/data", metrics.MetricsData.as_view(), name="endpoint-metrics-data"),
    path(f"{ENDPOINT}/counters", metrics.Counters.as_view(), name="endpoint-counters"),
    path(f"{ENDPOINT}/keys", endpoints.Keys.as_view(), name="endpoint-keys"),
    path(f"{ENDPOINT}/keys/<str:slot>/reveal", endpoints.KeyReveal.as_view(), name="key-reveal"),
    path(f"{ENDPOINT}/keys/<str:slot>/regenerate", endpoints.KeyRegenerate.as_view(), name="key-regenerate"),
    path(f"{ENDPOINT}/logs", logs.Logs.as_view(), name="endpoint-logs"),
    path(f"{ENDPOINT}/logs/lines", logs.LogLines.as_view(), name="endpoint-log-lines"),
    path(f"{ENDPOINT}/logs/download", logs.LogDownload.as_view(), name="endpoint-log-download"),
    path(f"{ENDPOINT}/activity", endpoints.Activity.as_view(), name="endpoint-activity"),
    path(f"{ENDPOINT}/delete", endpoints.EndpointDelete.as_view(), name="endpoint-delete"),
    path(f"{ENDPOINT}/deployments", endpoints.Deployments.as_view(), name="endpoint-deployments"),
    path(f"{ENDPOINT}/edit", endpoint_forms.EndpointEdit.as_view(), name="endpoint-edit"),
    path("create/deployment", deploy.Deploy.as_view(), name="deploy"),
    path(DEPLOYMENT, deployments.Deployment.as_view(), name="deployment"),
    path(f"{DEPLOYMENT}/edit", deploy.DeploymentEdit.as_view(), name="deployment-edit"),
    path(f"{DEPLOYMENT}/delete", deployments.DeploymentDelete.as_view(), name="deployment-delete"),
    path("find", find.Find.as_view(), name="find"),
    path("pick/<str:kind>", find.Pick.as_view(), name="pick"),
    path("models", models.Models.as_view(), name="models"),
    path("create/model", model_forms.ModelRegister.as_view(), name="model-register"),
    path("models/<str:model>", models.ModelPage.as_view(), name="model"),
    path("create/model/from-run", model_forms.ModelFromRun.as_view(), name="model-from-run"),
    path("models/<str:model>/files", models.ModelFiles.as_view(), name="model-files"),
    path("models/<str:model>/download", models.ModelDownload.as_view(), name="model-download"),
    path("models/<str:model>/package", packages.ModelPackage.as_view(), name="model-package"),
    path("models/<str:model>/delete", models.ModelDelete.as_view(), name="model-delete"),
    path("environments", environments.Environments.as_view(), name="environments"),
    path("create/environment", environments.EnvironmentCreate.as_view(), name="environment-create"),
    path(
        "create/environment/from-dockerfile",
        environments.EnvironmentFromContext.as_view(),
        name="environment-from-dockerfile",
    ),
    path("environments/<str:environment>", environments.EnvironmentPage.as_view(), name="environment"),
    path("environments/<str:environment>/build", environments.EnvironmentBuild.as_view(), name="environment-build"),
    path("environments/<str:environment>/export", packages.EnvironmentExport.as_view(), name="environment-export"),
    path("environments/<str:environment>/delete", environments.EnvironmentDelete.as_view(), name="environment-delete"),
    path("compute", compute.Compute.as_view(), name="compute"),
    path("jobs", jobs.Jobs.as_view(), name="jobs"),
    path(JOB, jobs.Overview.as_view(), name="job"),
    path(f"{JOB}/map", jobs.JobMap.as_view(), name="job-map"),
    path(f"{JOB}/mini-batches", jobs.MiniBatches.as_view(), name="job-mini-batches"),
    path(f"{JOB}/mini-batches/<int:number>", jobs.MiniBatchPage.as_view(), name="job-mini-batch"),
    path(f"{JOB}/logs", job_files.JobLogs.as_view(), name="job-logs"),
    path(f"{JOB}/logs/download", job_files.JobLogDownload.as_view(), name="job-log-download"),
    path(f"{JOB}/outputs", job_files.JobOutputs.as_view(), name="job-outputs"),
    path(f"{JOB}/outputs/download", job_files.JobOutputDownload.as_view(), name="job-output-download"),
    path(f"{JOB}/outputs/picture", job_files.JobOutputPicture.as_view(), name="job-output-picture"),
    path(f"{JOB}/cancel", jobs.JobCancel.as_view(), name="job-cancel"),
    path(f"{JOB}/retry", jobs.JobRetry.as_view(), name="job-retry"),
    path(f"{JOB}/archive", jobs.JobArchive.as_view(), name="job-archive"),
    path("operations", operations.Operations.as_view(), name="operations"),
    path("requests", logs.RequestSearch.as_view(), name="request-search"),
    path("operations/<uuid:operation>", operations.Timeline.as_view(), name="operation"),
    path("operations/<uuid:operation>/log", operations.Log.as_view(), name="operation-log"),
    path("operations/<uuid:operation>/cancel", operations.Cancel.as_view(), name="operation-cancel"),
]

studio_urls: list[URLPattern | URLResolver] = [
    path("", home.Home.as_view(), name="home"),
    path("account", account.Account.as_view(), name="account"),
    path("account/tokens", account.Tokens.as_view(), name="tokens"),
    path("account/tokens/<int:token>/revoke", account.TokenRevoke.as_view(), name="token-revoke"),
    path("w/<str:workspace>/", include(workspace_urls)),
]

urlpatterns: list[URLPattern | URLResolver] = [path("", include((studio_urls, "studio"), namespace="studio"))]
