"""Environments with images and build contexts on the wire, their builds, and a step's log as a tail."""

from __future__ import annotations

import io
import random
import string
import zipfile

import pytest
from rest_framework.test import APIClient

from apps.builds.models import Attempt
from apps.core import operations
from apps.core.models import Operation, OperationStep
from apps.registry.models import EnvironmentVersion
from tests.factories import make_environment

pytestmark = pytest.mark.django_db(transaction=True)
SHORT = "/api/v1/workspaces/lab"
ENVIRONMENT = f"{SHORT}/environments/env/versions/1"


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


def upload(api, **files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    data.seek(0)
    data.name = "context.zip"
    answer = api.post(f"{SHORT}/uploads", {"file": data}, format="multipart")
    assert answer.status_code == 201, answer.content
    return answer.json()["uri"]


def put(api, **properties):
    return api.put(ENVIRONMENT, {"properties": properties}, format="json")


def names():
    """Names of images that are none: written by hand, and thrown together."""
    yield from [
        "",
        " ",
        "A/b",
        "a b",
        "-v",
        "--rm",
        "../x",
        "a:b:c",
        "a@sha256:12",
        "sha256:" + "0" * 64,
        "a/",
        "/a",
        "a//b",
    ]
    yield from [
        "a:" + "x" * 129,
        "a" * 256,
        "a\nb",
        "a;rm -rf /",
        "$(x)",
        "\u00e4",
        "a:\u0661",
        "portway/x/y:1",
        "a\x00",
    ]
    dice = random.Random(7)
    letters = string.ascii_letters + string.digits + "/:@.-_ \t\"'$\\\u20ac{}"
    for _ in range(150):
        yield "".join(dice.choice(letters) for _ in range(dice.randint(1, 40)))


def test_a_name_that_is_no_image_is_a_reasoned_400(api, workspace):
    wrong = 0
    for number, name in enumerate(names()):
        answer = api.put(f"{SHORT}/environments/fuzz/versions/{number}", {"properties": {"image": name}}, format="json")
        assert answer.status_code in {201, 400}, (name, answer.content)
        if answer.status_code == 400:
            wrong += 1
            assert answer.json()["error"]["message"]
        else:
            assert EnvironmentVersion.objects.get(version=str(number)).image == name.strip()
    assert wrong > 120


@pytest.mark.parametrize(
    "name",
    [
        "python",
        "python:3.11-slim",
        "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest",
        "localhost:5000/a/b__c:1.0",
        "a@sha256:" + "0" * 64,
    ],
)
def test_a_name_of_an_image_is_kept_as_it_is(api, workspace, name):
    assert put(api, image=name).status_code == 201
    assert put(api, image=name).status_code == 200
    assert api.get(ENVIRONMENT).json()["properties"]["image"] == name


def test_a_build_context_is_the_folder_that_was_sent(api, workspace):
    uri = upload(api, **{"ctx/Dockerfile": "FROM x\n", "ctx/sub/Other": "FROM y\n"})
    answer = put(api, build={"contextUri": uri})
    assert answer.status_code == 201, answer.content
    build = answer.json()["properties"]["build"]
    assert build == {"contextUri": "portway://environments/env/1", "dockerfilePath": "Dockerfile"}
    again = put(api, build=build, description="put back")
    assert again.status_code == 200, again.content
    other = api.put(
        f"{SHORT}/environments/env/versions/2",
        {"properties": {"build": {"contextUri": uri, "dockerfilePath": "./sub/Other"}}},
        format="json",
    )
    assert other.json()["properties"]["build"]["dockerfilePath"] == "sub/Other"
    first, second = EnvironmentVersion.objects.order_by("version")
    assert first.build_context == second.build_context


@pytest.mark.parametrize(
    "path", ["nothing", "../Dockerfile", "/etc/passwd", "sub", "a\nb", "x" * 399, "sub/../Dockerfile"]
)
def test_a_dockerfile_that_is_not_there_is_a_400(api, workspace, path):
    uri = upload(api, **{"Dockerfile": "FROM x\n", "sub/a": "x"})
    answer = put(api, build={"contextUri": uri, "dockerfilePath": path})
    assert answer.status_code == 400
    assert answer.json()["error"]["target"] == "dockerfilePath"


def test_what_cannot_be_together_is_a_400(api, workspace):
    uri = upload(api, Dockerfile="FROM x\n")
    assert put(api, build={"contextUri": uri}, image="python:3").status_code == 400
    assert put(api, build={"contextUri": uri + "/Dockerfile"}).status_code == 400
    assert put(api, build={"contextUri": "https://example.org/x"}).status_code == 400
    assert put(api, build={}).status_code == 400
    assert put(api, build={"contextUri": uri, "more": 1}).status_code == 400


def test_the_history_of_builds_says_who_when_and_how_it_ended(api, workspace, people):
    version = make_environment(workspace, "env", conda_file="dependencies: [python=3.11]\n")
    answer = api.post(f"{ENVIRONMENT}/build", {}, format="json")
    assert answer.status_code == 202
    assert "operations/" in answer["Azure-AsyncOperation"]
    operation = Operation.objects.get(kind="environment.build")
    assert api.post(f"{ENVIRONMENT}/build", {}, format="json").status_code == 409
    operations.run(operation.pk)
    rows = api.get(f"{ENVIRONMENT}/builds").json()["value"]
    assert [(each["outcome"], each["startedBy"], each["driver"], each["kind"]) for each in rows] == [
        ("built", "dan", "fake", "packages")
    ]
    assert rows[0]["seconds"] > 0
    assert str(operation.pk) in rows[0]["operation"]
    problem = {"code": "x", "azure": "ImageBuildFailure", "fault": "user", "message": "no", "evidence": "e", "next": ""}
    Attempt.objects.create(version=version, driver="docker", outcome="failed", error=problem)
    rows = api.get(f"{ENVIRONMENT}/builds", {"$top": "1"}).json()["value"]
    assert (len(rows), rows[0]["error"]["code"]) == (1, "ImageBuildFailure")
    assert api.get(f"{SHORT}/environments/env/versions/9/builds").status_code == 404
    assert api.post(f"{ENVIRONMENT}/build", {"driver": "kubernetes"}, format="json").status_code == 400


def test_an_environment_for_containers_without_an_engine_is_a_400(api, workspace):
    make_environment(workspace, "env", image="python:3.11-slim", conda_file="")
    answer = api.post(f"{ENVIRONMENT}/build", {}, format="json")
    assert answer.status_code == 400
    assert "container engine" in answer.json()["error"]["message"]


def test_a_log_is_read_as_a_tail(api, workspace):
    from django.utils import timezone

    operation = Operation.objects.create(
        kind="environment.build", workspace="lab", target="t", lock="l", state="running"
    )
    url = f"{SHORT}/operations/{operation.pk}/log"
    assert api.get(url).json() == {"step": None, "text": "", "offset": 0, "omitted": 0, "status": "InProgress"}
    step = OperationStep.objects.create(
        operation=operation, position=0, name="environment", started_at=timezone.now(), log="one\n"
    )
    first = api.get(url).json()
    assert (first["text"], first["offset"]) == ("one\n", 4)
    OperationStep.objects.filter(pk=step.pk).update(log="one\ntwo\n")
    second = api.get(url, {"offset": first["offset"]}).json()
    assert (second["text"], second["offset"], second["omitted"]) == ("two\n", 8, 0)
    OperationStep.objects.filter(pk=step.pk).update(log="three\n", log_start=20)
    third = api.get(url, {"offset": 8, "step": "environment"}).json()
    assert (third["text"], third["offset"], third["omitted"]) == ("three\n", 26, 12)
    assert api.get(url, {"offset": 99}).json()["text"] == ""
    assert api.get(url, {"step": "none"}).status_code == 404
    for offset in ("-1", "x", "9" * 40):
        assert api.get(url, {"offset": offset}).status_code == 400


def test_a_log_that_was_cut_says_where_it_begins(workspace):
    """The heartbeat keeps the tail; what it drops is counted."""
    from django.utils import timezone

    operation = Operation.objects.create(
        kind="environment.build", workspace="lab", target="t", lock="l", state="running"
    )
    step = OperationStep.objects.create(operation=operation, position=0, name="x", started_at=timezone.now())
    beat = operations.Heartbeat(operation, "me")
    beat.attach(step)
    for _ in range(3):
        beat.write("x" * (operations.LOG_LIMIT // 2))
        beat.flush()
    step.refresh_from_db()
    assert len(step.log) == operations.LOG_LIMIT
    assert step.log_start + len(step.log) == 3 * (operations.LOG_LIMIT // 2 + 1)
