"""Every broken project, taken through the product: what its user is told, everywhere it is told.

Run with `-s` for a table of all cases.
"""

from __future__ import annotations

import html
import http.server
import re
import threading
import time

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from apps.accounts.domain import create_token
from apps.compute import domain as compute
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment
from tests.broken.project import HERE, LARGEST, Project, every, load, register
from tests.engine import docker_client, engine  # noqa: F401 -- fixtures

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(170)]
BRIDGES = ["127.0.0.1", "::1", "localhost", "172.16.0.0/12", "192.168.0.0/16"]
SHORT = "/api/v1/workspaces/lab"
PROJECTS = every()


def of(*whens, compute="process"):
    marks = [pytest.mark.docker, pytest.mark.allow_hosts(BRIDGES)] if compute == "docker" else []
    chosen = [each for each in PROJECTS if each.expect["when"] in whens and each.expect["compute"] == compute]
    return [pytest.param(each, id=each.name, marks=marks) for each in chosen]


@pytest.fixture
def lab(world, settings):
    settings.DEFAULT_DRIVER = "process"
    world.api = APIClient()
    _, token = create_token(user=world.actor, name="test")
    world.api.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    world.browser = Client()
    world.browser.force_login(world.actor)
    return world


@pytest.fixture
def containers(docker_client, settings, lab):  # noqa: F811
    compute.driver.cache_clear()
    settings.DEFAULT_DRIVER = "docker"
    return lab


class Empty(http.server.BaseHTTPRequestHandler):
    """A registry without an image."""

    def do_GET(self):
        body = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
        self.send_response(200 if self.path == "/v2/" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 -- the base class's name

    def log_message(self, *_):
        return


@pytest.fixture(scope="module")
def registry():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def check_guarantees(project: Project) -> None:
    """Skip what this machine cannot show; without control groups, say, nothing ends a server for its memory."""
    needed = project.expect.get("needs", "")
    given = compute.driver("process").describe()["guarantees"] if needed else {}
    if needed and given[needed] not in (True, "cgroup"):
        pytest.skip(f"processes of this machine have no guarantee of {needed}")


def put(world, project: Project):
    """(status, error on the wire) of asking for the deployment; registering what it names comes first."""
    world.endpoint("broken")
    try:
        body = register(world, project)
    except Problem as problem:  # what the registry's own requests answer
        return problem.entry.status, problem.as_envelope()["error"]
    answer = world.api.put(f"{SHORT}/onlineEndpoints/broken/deployments/blue", body, format="json")
    return answer.status_code, answer.json().get("error")


def judge(project: Project, told: dict[str, str]) -> None:
    """Code, wire code, fault, evidence and next step, each as expected."""
    expect = project.expect
    print(f"\n{project.name}: {told}")
    assert (told["code"], told["azure"], told["fault"]) == (expect["code"], expect["azure"] or "", expect["fault"])
    assert re.search(expect["evidence"], told["evidence"] or told["message"]), told
    assert re.search(expect["next"], told["next"]), told
    assert told["next"], "a next step is owed"


def of_wire(error: dict) -> dict[str, str]:
    details = {each["code"]: each["message"] for each in error["details"]}
    info = error["additionalInfo"][0]["info"]
    return {
        "code": info["code"],
        "azure": error["code"],
        "fault": info["fault"],
        "message": error["message"],
        "evidence": details.get("Evidence", ""),
        "next": details.get("NextStep", ""),
    }


def run(world) -> Operation:
    world.run_all()
    return Operation.objects.get(kind="online-deployment.create")


def log_of(operation: Operation) -> str:
    return "\n".join(step.log for step in operation.steps.all())


def test_every_project_is_whole_and_small():
    assert len(PROJECTS) >= 42
    assert {each.parent for each in HERE.glob("*/deployment.yml")} == {each.folder for each in PROJECTS}
    keys = {"when", "code", "azure", "fault", "evidence", "next", "compute", "within_s"}
    for each in PROJECTS:
        assert keys <= set(each.expect), each.name
        assert each.expect["when"] in {"create", "timeline", "request", "remark"}, each.name
        assert each.expect["compute"] in {"process", "docker"}, each.name
        assert all(file.stat().st_size <= LARGEST for file in each.folder.rglob("*")), each.name


@pytest.mark.parametrize("project", of("create"))
def test_what_can_never_work_is_refused_at_once(lab, project):
    status, error = put(lab, project)
    assert 400 <= status < 500, error
    judge(project, of_wire(error))
    assert not OnlineDeployment.objects.exists()
    assert not Operation.objects.filter(kind="online-deployment.create").exists()


@pytest.mark.parametrize("project", of("timeline"))
def test_what_fails_later_says_why(lab, settings, project):
    check_guarantees(project)
    timeline(lab, settings, project)


@pytest.mark.parametrize("project", of("timeline", compute="docker"))
def test_what_fails_in_a_container_says_why(containers, settings, registry, project):
    timeline(containers, settings, load(project.folder, REGISTRY=registry))


def timeline(world, settings, project):
    settings.START_DEADLINE_S = project.expect.get("start_deadline_s", 60)
    status, error = put(world, project)
    assert status == 201, error
    operation = run(world)
    judge(project, operation.error)
    shown = world.api.get(f"{SHORT}/operations/{operation.pk}").json()
    assert shown["status"] == "Failed"
    judge(project, of_wire(shown["error"]))
    state = world.api.get(f"{SHORT}/onlineEndpoints/broken/deployments/blue").json()["properties"]["provisioningState"]
    assert state == "Failed"
    assert OnlineDeployment.objects.get().error == operation.error
    assert re.search(project.expect.get("remark", ""), log_of(operation)), log_of(operation)
    drawn = html.unescape(page(world, reverse("studio:operation", args=["lab", operation.pk])))
    for part in ("message", "evidence", "next", "code"):
        assert operation.error[part] in drawn, part
    if project.expect.get("then_works"):
        still_usable(world)


def page(world, path: str) -> str:
    answer = world.browser.get(path, secure=True, follow=True)
    assert answer.status_code == 200, path
    return answer.content.decode()


def still_usable(world):
    endpoint = world.fresh_named("broken")
    world.deploy(endpoint, "green")
    world.traffic(endpoint, green=100)
    assert world.score("broken", body=7)[2] == {"echo": "7"}


@pytest.mark.parametrize("project", of("request"))
def test_a_request_that_fails_says_why(lab, settings, project):
    check_guarantees(project)
    status, error = put(lab, project)
    assert status == 201, error
    assert run(lab).error is None
    endpoint = lab.fresh_named("broken")
    lab.traffic(endpoint, blue=100)
    status, headers, _ = lab.score("broken", body=project.expect["body"])
    assert status == project.expect["status"]
    if status == 503:  # why an instance ended is known once the controller has looked
        compute.settle(OnlineDeployment.objects.get().serving, tick=lambda: None, timeout_s=30)
    told = explained(lab, headers["x-request-id"])
    judge(project, told | {"azure": ""})
    drawn = html.unescape(page(lab, f"{reverse('studio:request-search', args=['lab'])}?id={headers['x-request-id']}"))
    for part in ("message", "evidence", "next"):
        assert told[part] in drawn, part


def explained(world, request_id):
    """What the API says of a request; the gateway writes its log once a second."""
    for _ in range(80):
        found = world.api.get(f"{SHORT}/requests/{request_id}").json().get("requests")
        if found:
            told = found[0]["explanation"]
            return {"code": told["code"], "fault": told["fault"], "message": told["message"]} | {
                "evidence": told["evidence"] or "",
                "next": told["nextStep"],
            }
        time.sleep(0.1)
    raise AssertionError(f"{request_id} is not found")


@pytest.mark.parametrize("project", of("remark"))
def test_what_may_be_fine_is_remarked(lab, project):
    status, error = put(lab, project)
    assert status == 201, error
    operation = run(lab)
    assert operation.error is None
    assert re.search(project.expect["evidence"], log_of(operation)), log_of(operation)
    endpoint = lab.fresh_named("broken")
    lab.traffic(endpoint, blue=100)
    assert lab.score("broken", body=project.expect["body"])[0] == 200
