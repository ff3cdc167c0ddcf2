"""Environments of images and Dockerfiles in the studio."""

from __future__ import annotations

import io
import json

import pytest
from django.utils import timezone

from apps.builds.models import Attempt, Build
from apps.core.models import Operation, OperationStep
from apps.registry.models import EnvironmentVersion
from tests.factories import make_environment
from tests.world import tree_of

pytestmark = pytest.mark.django_db


def page(client, url):
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def file(name, text):
    made = io.BytesIO(text.encode())
    made.name = name
    return made


def test_an_image_with_or_without_packages_is_registered(world, browser):
    client = browser("dan")
    create = "/w/lab/create/environment"
    assert client.post(create, {"name": "alone", "image": "python:3.11-slim", "conda_file": ""}).status_code == 302
    both = {"name": "both", "image": "python:3.11-slim", "conda_file": "dependencies: [python=3.11]"}
    assert client.post(create, both).status_code == 302
    assert "An image and packages" in page(client, "/w/lab/environments/both")
    shown = page(client, "/w/lab/environments/alone")
    assert "python:3.11-slim" in shown
    assert "no container engine" in shown
    nothing = client.post(create, {"name": "nothing", "image": "", "conda_file": ""})
    assert nothing.status_code == 400
    assert "Give a conda file, an image, or both." in nothing.content.decode()
    bad = client.post(create, {"name": "bad", "image": "Not an image", "conda_file": ""})
    assert bad.status_code == 400
    assert bad.context["form"].errors["image"]


def test_a_folder_with_a_dockerfile_is_registered(world, browser):
    client = browser("dan")
    url = "/w/lab/create/environment/from-dockerfile"
    files = [file("Dockerfile", "FROM python:3.11-slim\nRUN <b>hello</b>\n"), file("score.py", "")]
    sent = {"name": "built", "files": files, "paths": json.dumps(["ctx/Dockerfile", "ctx/score.py"])}
    answer = client.post(url, sent, headers={"Accept": "application/json"})
    assert answer.json() == {"location": "/w/lab/environments/built"}
    version = EnvironmentVersion.objects.get(asset__name="built")
    assert (version.dockerfile_path, version.build_context.files) == ("Dockerfile", 2)
    shown = page(client, "/w/lab/environments/built")
    assert "A Dockerfile" in shown
    assert "RUN &lt;b&gt;hello" in shown
    missing = {"name": "x", "files": [file("a", "b")], "paths": '["a"]', "dockerfile_path": "none"}
    answer = client.post(url, missing, headers={"Accept": "application/json"})
    assert answer.status_code == 400
    assert "no file" in answer.json()["message"]
    code = client.post(url, {"name": "n"}, headers={"X-As-Code": "1"}).json()
    assert "contextUri" in code["curl"]
    assert "dockerfile_path: Dockerfile" in code["yaml"]


def test_the_history_and_the_running_build_are_shown(world, browser, people):
    client = browser("dan")
    version = make_environment(
        world["workspace"], "built", build_context=tree_of(Dockerfile="FROM x"), dockerfile_path="Dockerfile"
    )
    operation = Operation.objects.create(
        kind="environment.build",
        workspace="lab",
        target="environment/built:1",
        lock="lab/environment/built:1",
        state="running",
        actor=people["dan"],
    )
    OperationStep.objects.create(
        operation=operation, position=0, name="environment", started_at=timezone.now(), log="Step 1/3 : <FROM>\n"
    )
    build = Build.objects.create(key="b" * 64, kind="image", driver="docker", state="succeeded", image_id="sha256:abc")
    Attempt.objects.create(
        version=version, driver="docker", outcome="built", seconds=12.5, build=build, operation=operation
    )
    problem = {"code": "environment-failed", "message": "step <2> failed", "fault": "user", "evidence": "", "next": ""}
    Attempt.objects.create(version=version, driver="docker", outcome="failed", seconds=3, error=problem)
    shown = page(client, "/w/lab/environments/built")
    assert "12.5 s" in shown
    assert "step &lt;2&gt; failed" in shown
    assert "Step 1/3 : &lt;FROM&gt;" in shown
    assert "Cancel build" in shown
    assert f"/w/lab/operations/{operation.pk}/cancel" in shown
    operation.state = "succeeded"
    operation.save()
    assert "Cancel build" not in page(client, "/w/lab/environments/built")


def test_a_deployment_of_another_workspace_is_not_linked(world, browser):
    version = make_environment(world["workspace"], "shared")
    foreign = Operation.objects.create(
        kind="environment.build", workspace="other", target="t", lock="x", state="failed"
    )
    Attempt.objects.create(version=version, driver="process", outcome="failed", seconds=1, operation=foreign)
    assert str(foreign.pk) not in page(browser("dan"), "/w/lab/environments/shared")
