"""Who may see and do what: a walk over every URL of the studio. A URL without an expectation fails here."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from apps.studio.urls import studio_urls, workspace_urls
from tests.factories import make_pipeline_deployment

NAMES = sorted({each.name for each in [*studio_urls, *workspace_urls] if getattr(each, "name", None)})
WHO = ("olga", "dan", "rita", "charlie", "anonymous")

# (owner, data scientist, reader, stranger with another workspace); nobody else gets further than the sign-in page
LOOK = (200, 200, 200, 404)
CHANGE = (200, 200, 403, 404)
MINE = (200, 200, 200, 200)
NO = (405, 405, 405, 405)
NOT_HERE = (405, 405, 405, 404)
MANAGE = (200, 403, 403, 404)  # clusters: not for data scientists
NO_FILE = (404, 404, 404, 404)  # the made-up outputs and data have no files

GET = {
    "home": (302, 302, 302, 302),
    "account": MINE,
    "tokens": MINE,
    "token-revoke": NO,
    "workspace": LOOK,
    "endpoints": LOOK,
    "endpoint-create": CHANGE,
    "endpoint": LOOK,
    "endpoint-deployments": LOOK,
    "endpoint-traffic": LOOK,
    "endpoint-test": LOOK,
    "endpoint-metrics": LOOK,
    "endpoint-metrics-data": LOOK,
    "endpoint-counters": LOOK,
    "endpoint-keys": LOOK,
    "key-reveal": NOT_HERE,
    "key-regenerate": NOT_HERE,
    "endpoint-logs": LOOK,
    "endpoint-log-lines": LOOK,
    "endpoint-log-download": LOOK,
    "request-search": LOOK,
    "endpoint-activity": LOOK,
    "endpoint-delete": CHANGE,
    "endpoint-edit": CHANGE,
    "deploy": CHANGE,
    "deployment-edit": CHANGE,
    "find": LOOK,
    "pick": LOOK,
    "compute": LOOK,
    "operations": LOOK,
    "model-files": LOOK,
    "model-download": (404, 404, 404, 404),  # the made-up model has no files
    "model-delete": CHANGE,
    "model-package": CHANGE,
    "environment-export": (404, 404, 404, 404),  # the made-up environment is no package
    "model-from-run": CHANGE,
    "environment-build": NOT_HERE,
    "environment-delete": CHANGE,
    "deployment": LOOK,
    "deployment-delete": CHANGE,
    "models": LOOK,
    "model-register": CHANGE,
    "model": LOOK,
    "environments": LOOK,
    "environment-create": CHANGE,
    "environment-from-dockerfile": CHANGE,
    "environment": LOOK,
    "operation": LOOK,
    "operation-log": LOOK,
    "operation-cancel": NOT_HERE,
    "jobs": LOOK,
    "job": LOOK,
    "job-map": LOOK,
    "job-mini-batches": LOOK,
    "job-mini-batch": LOOK,
    "job-logs": LOOK,
    "job-outputs": LOOK,
    "batch-endpoints": LOOK,
    "batch-endpoint": LOOK,
    "batch-endpoint-jobs": LOOK,
    "batch-endpoint-consume": LOOK,
    "batch-endpoint-activity": LOOK,
    "clusters": LOOK,
    "cluster": LOOK,
    "data": LOOK,
    "data-asset": LOOK,
    "datastores": LOOK,
    "datastore": LOOK,
    "job-create": CHANGE,
    "batch-endpoint-create": CHANGE,
    "batch-endpoint-edit": CHANGE,
    "batch-endpoint-delete": CHANGE,
    "batch-deployment-create": CHANGE,
    "batch-deployment-edit": CHANGE,
    "batch-deployment-delete": CHANGE,
    "data-create": CHANGE,
    "datastore-create": CHANGE,
    "datastore-edit": CHANGE,
    "cluster-create": MANAGE,
    "cluster-edit": MANAGE,
    "cluster-delete": MANAGE,
    "job-log-download": NO_FILE,
    "job-output-download": NO_FILE,
    "job-output-picture": NO_FILE,
    "data-download": NO_FILE,
    "data-picture": NO_FILE,
    "datastore-download": NO_FILE,
    "datastore-picture": NO_FILE,
    "job-cancel": NOT_HERE,
    "job-retry": NOT_HERE,
    "job-archive": NOT_HERE,
    "batch-endpoint-default": NOT_HERE,
    "node-preempt": NOT_HERE,
    "datastore-delete": NOT_HERE,
    "schedules": LOOK,
    "schedule-create": CHANGE,
    "schedule-edit": CHANGE,
    "schedule-enable": NOT_HERE,
    "schedule-delete": NOT_HERE,
    "components": LOOK,
    "component": LOOK,
    "component-register": CHANGE,
    "component-delete": CHANGE,
    "batch-pipeline-create": CHANGE,
    "batch-pipeline-edit": CHANGE,
}
# an empty POST: 400 is the form that asks again, 302 leads to an operation
POST = {
    "home": NO,
    "account": (302, 302, 302, 302),
    "tokens": (400, 400, 400, 400),
    "token-revoke": (302, 404, 404, 404),
    "workspace": NOT_HERE,
    "endpoints": NOT_HERE,
    "endpoint-create": (400, 400, 403, 404),
    "endpoint": NOT_HERE,
    "endpoint-deployments": NOT_HERE,
    "endpoint-traffic": (412, 412, 403, 404),
    "endpoint-test": (503, 503, 403, 404),
    "endpoint-metrics": NOT_HERE,
    "endpoint-metrics-data": NOT_HERE,
    "endpoint-counters": NOT_HERE,
    "endpoint-keys": NOT_HERE,
    "key-reveal": (200, 200, 403, 404),
    "key-regenerate": (302, 302, 403, 404),
    "endpoint-logs": NOT_HERE,
    "endpoint-log-lines": NOT_HERE,
    "endpoint-log-download": NOT_HERE,
    "request-search": NOT_HERE,
    "endpoint-activity": NOT_HERE,
    "endpoint-delete": (400, 400, 403, 404),
    "endpoint-edit": (400, 400, 403, 404),
    "deploy": (400, 400, 403, 404),
    "deployment-edit": (400, 400, 403, 404),
    "find": NOT_HERE,
    "pick": NOT_HERE,
    "compute": NOT_HERE,
    "operations": NOT_HERE,
    "model-files": NOT_HERE,
    "model-download": NOT_HERE,
    "model-delete": (404, 404, 403, 404),
    "model-package": (400, 400, 403, 404),
    "environment-export": NOT_HERE,
    "model-from-run": (400, 400, 403, 404),
    "environment-build": (404, 404, 403, 404),
    "environment-delete": (404, 404, 403, 404),
    "deployment": (400, 400, 403, 404),
    "deployment-delete": (400, 400, 403, 404),
    "models": NOT_HERE,
    "model-register": (400, 400, 403, 404),
    "model": NOT_HERE,
    "environments": NOT_HERE,
    "environment-create": (400, 400, 403, 404),
    "environment-from-dockerfile": (400, 400, 403, 404),
    "environment": NOT_HERE,
    "operation": NOT_HERE,
    "operation-log": NOT_HERE,
    "operation-cancel": (409, 409, 403, 404),  # it has ended
    "jobs": NOT_HERE,
    "job": NOT_HERE,
    "job-map": NOT_HERE,
    "job-mini-batches": NOT_HERE,
    "job-mini-batch": NOT_HERE,
    "job-logs": NOT_HERE,
    "job-outputs": NOT_HERE,
    "batch-endpoints": NOT_HERE,
    "batch-endpoint": NOT_HERE,
    "batch-endpoint-jobs": NOT_HERE,
    "batch-endpoint-consume": NOT_HERE,
    "batch-endpoint-activity": NOT_HERE,
    "clusters": NOT_HERE,
    "cluster": NOT_HERE,
    "data": NOT_HERE,
    "data-asset": NOT_HERE,
    "datastores": NOT_HERE,
    "datastore": NOT_HERE,
    "job-log-download": NOT_HERE,
    "job-output-download": NOT_HERE,
    "job-output-picture": NOT_HERE,
    "data-download": NOT_HERE,
    "data-picture": NOT_HERE,
    "datastore-download": NOT_HERE,
    "datastore-picture": NOT_HERE,
    "job-create": (400, 400, 403, 404),
    "batch-endpoint-create": (400, 400, 403, 404),
    "batch-endpoint-edit": (302, 302, 403, 404),
    "batch-endpoint-delete": (400, 400, 403, 404),
    "batch-deployment-create": (400, 400, 403, 404),
    "batch-deployment-edit": (400, 400, 403, 404),
    "batch-deployment-delete": (302, 302, 403, 404),
    "data-create": (400, 400, 403, 404),
    "datastore-create": (400, 400, 403, 404),
    "datastore-edit": (400, 400, 403, 404),
    "cluster-create": (400, 403, 403, 404),
    "cluster-edit": (400, 403, 403, 404),
    "cluster-delete": (400, 403, 403, 404),
    "job-cancel": (302, 302, 403, 404),
    "job-retry": (409, 409, 403, 404),
    "job-archive": (409, 409, 403, 404),
    "batch-endpoint-default": (400, 400, 403, 404),
    "node-preempt": (404, 403, 403, 404),
    "datastore-delete": (409, 409, 403, 404),
    "schedules": NOT_HERE,
    "schedule-create": (400, 400, 403, 404),
    "schedule-edit": (400, 400, 403, 404),
    "schedule-enable": (302, 302, 403, 404),
    "schedule-delete": (302, 302, 403, 404),
    "components": NOT_HERE,
    "component": NOT_HERE,
    "component-register": (400, 400, 403, 404),
    "component-delete": (404, 404, 403, 404),
    "batch-pipeline-create": (400, 400, 403, 404),
    "batch-pipeline-edit": (400, 400, 403, 404),
}


def address(name, world):
    of_a_pipeline = name == "batch-pipeline-edit"
    arguments = {
        "workspace": world["workspace"].name,
        "endpoint": "rivers" if of_a_pipeline else "forests" if name.startswith("batch-") else "flowers",
        "job": "job-1",
        "number": 3,
        "cluster": "cpu",
        "schedule": "nightly",
        "node": "nobody",
        "data": "tiles",
        "datastore": "bay" if name == "datastore-edit" else "workspaceblobstore",
        "deployment": "flow" if of_a_pipeline else "blue",
        "component": "step",
        "model": "iris",
        "environment": "sklearn",
        "operation": world["operation"].pk,
        "slot": "primary",
        "kind": "models",
        "token": world["token"].pk,
    }
    query = "?version=1" if name.startswith("model-") else ""
    pattern = next(str(each.pattern) for each in [*studio_urls, *workspace_urls] if getattr(each, "name", None) == name)
    needed = {key: value for key, value in arguments.items() if f":{key}>" in pattern}
    if name in {each.name for each in workspace_urls}:
        needed["workspace"] = arguments["workspace"]
    return reverse(f"studio:{name}", kwargs=needed) + query


def test_every_url_has_an_expectation():
    assert set(NAMES) == set(GET) == set(POST)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["get", "post"])
def test_access(method, name, world, browser, settings, monkeypatch, tmp_path):
    settings.PORT = 1  # nobody listens there: the test page must say so
    monkeypatch.setattr(type(settings.HOME), "envoy_admin_socket", tmp_path / "nobody.sock")
    if name == "batch-pipeline-edit":
        make_pipeline_deployment(world["workspace"])
    for who in WHO:
        before = transaction.savepoint()
        response = getattr(browser(who), method)(address(name, world))
        transaction.savepoint_rollback(before)
        if who == "anonymous":
            assert response.status_code == 302
            assert response.url.startswith("/accounts/login/?next=")
            continue
        expected = (GET if method == "get" else POST)[name][WHO.index(who)]
        assert response.status_code == expected, who
        if expected == 200 and method == "get":
            check_policy(response.headers["Content-Security-Policy"])


def check_policy(policy):
    directives = dict(each.strip().split(" ", 1) for each in policy.split(";") if each.strip())
    assert directives["default-src"] == directives["script-src"] == directives["style-src"] == "'self'"
    assert "unsafe" not in policy


def test_posts_need_a_csrf_token(world, people):
    client = Client(enforce_csrf_checks=True)
    client.force_login(people["olga"])
    for name in NAMES:
        response = client.post(address(name, world))
        assert response.status_code == 403, name
        assert b"The page has expired" in response.content


def test_objects_of_another_workspace_are_not_found(world, browser, people):
    """Charlie owns `other`: his own workspace's URLs must not lead to things of `lab` either."""
    client = browser("charlie")
    for path in (
        "endpoints/flowers",
        "endpoints/flowers/keys",
        "models/iris",
        "environments/sklearn",
        f"operations/{world['operation'].pk}",
        "jobs/job-1",
        "jobs/job-1/map",
        "jobs/job-1/mini-batches/3",
        "batch-endpoints/forests",
        "clusters/cpu",
        "data/tiles",
        "components/step",
    ):
        assert client.get(f"/w/other/{path}").status_code == 404
    assert client.post("/w/other/endpoints/flowers/keys/primary/reveal").status_code == 404


def test_an_expired_session_reloads_the_page_instead_of_emptying_it(world, browser):
    response = browser("anonymous").get(address("endpoint", world), headers={"HX-Request": "true"})
    assert response.status_code == 401
    assert response.headers["HX-Refresh"] == "true"
