"""Packaging in the studio: the form, the environment's page, and deploying with nothing but the package."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import shlex
import tarfile

import pytest
import yaml
from django.test import AsyncClient
from django.utils import timezone

from apps.builds.models import Package
from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment
from apps.registry.models import CodeVersion
from tests.packages.parts import SCORE, Parts

pytestmark = pytest.mark.django_db(transaction=True)
MODEL = "/w/lab/models/plain-model"
FORM = f"{MODEL}/package?version=1"
CODE = {"X-As-Code": "1"}


@pytest.fixture
def parts(world, people):
    return Parts(world["workspace"], people["olga"])


def script():
    made = io.BytesIO(SCORE.encode())
    made.name = "score.py"
    return made


def sent(**changes):
    return {
        "name": "pkg",
        "version": "",
        "server": "azureml_online",
        "mode": "download",
        "environment": "plain:1",
        "scoring_script": "score.py",
        "environment_variables": "GREETING=hello",
    } | changes


def test_a_model_is_packaged_from_its_page(parts, browser):
    client = browser("dan")
    assert FORM in client.get(f"{MODEL}?version=1").content.decode()
    assert "A package is an environment" in client.get(FORM).content.decode()
    answer = client.post(FORM, sent(code=script()))
    assert answer.status_code == 302, answer.context["form"].errors
    operation = Operation.objects.get(kind="model.package")
    assert answer.url.endswith(f"/operations/{operation.pk}")
    assert "Package model" in client.get(answer.url).content.decode()
    row = Package.objects.get()
    assert (row.model, row.scoring_script, row.environment_variables) == (
        parts.custom,
        "score.py",
        {"GREETING": "hello"},
    )
    assert str(row.code) == "plain-model-code:1"


def test_what_is_wrong_is_said_at_its_field_and_nothing_is_made(parts, browser):
    client = browser("dan")
    cases = [
        (sent(name="a b", code=script()), "name"),
        (sent(environment="", code=script()), "environment"),
        (sent(environment="nobody:1"), "environment"),
        (sent(mode="copy", code=script()), "mode"),
        (sent(scoring_script="other.py", code=script()), "scoring_script"),
        (sent(scoring_script=""), "scoring_script"),
        (sent(mount_path="/opt/portway", code=script()), "mount_path"),
        (sent(environment_variables="a b=1", code=script()), "environment_variables"),
        (sent(server="triton", scoring_script=""), "server"),
        (sent(server="custom", scoring_script=""), "environment"),
        (sent(score_path="/x", code=script()), "port"),
    ]
    for data, field in cases:
        answer = client.post(FORM, data)
        assert answer.status_code == 400, (data, answer.status_code)
        assert list(answer.context["form"].errors) == [field], data
    assert not Package.objects.exists()
    assert not CodeVersion.objects.filter(asset__name="plain-model-code").exists()
    assert client.post(f"{MODEL}/package?version=9", sent()).status_code == 404


def test_without_a_version_it_is_the_newest_one(parts, browser):
    client = browser("dan")
    answer = client.get(f"{MODEL}/package")
    assert (answer.status_code, answer.url) == (302, FORM)
    assert client.get(f"{MODEL}/package?version=9").status_code == 404
    assert client.post(f"{MODEL}/package", sent()).status_code == 404  # a form is of just one version
    parts.custom.is_archived = True
    parts.custom.save()
    answer = client.get(f"{MODEL}/package")
    assert answer.status_code == 404
    assert b"There is no version of the model plain-model" in answer.content


def test_the_form_as_code_is_the_same_package(parts, browser, people):
    client = browser("dan")
    tabs = json.loads(client.post(FORM, sent(), headers=CODE).content)
    document = yaml.safe_load(tabs["yaml"])
    assert document["target_environment"] == "pkg"
    assert document["inferencing_server"]["code_configuration"] == {"code": "./code", "scoring_script": "score.py"}
    assert shlex.split(tabs["cli"].replace("\\\n", ""))[:8] == [
        "az",
        "ml",
        "model",
        "package",
        "-n",
        "plain-model",
        "-v",
        "1",
    ]
    command = shlex.split(tabs["curl"].split("\n\n")[-1].replace("\\\n", ""))
    body = json.loads(command[command.index("-d") + 1])
    assert command[1].endswith("/api/v1/workspaces/lab/models/plain-model/versions/1/package")
    body["inferencingServer"]["codeConfiguration"]["codeId"] = "azureml:code:1"  # what the upload before it makes
    from rest_framework.test import APIClient

    api = APIClient()
    api.force_authenticate(people["dan"])
    answer = api.post("/api/v1/workspaces/lab/models/plain-model/versions/1/package", body, format="json")
    assert answer.status_code == 202, answer.content


def test_a_package_is_deployed_with_nothing_else(parts, browser):
    version, _ = parts.package()
    client = browser("dan")
    shown = client.get("/w/lab/environments/pkg").content.decode()
    assert "It is being made" in shown
    assert "Export build context" not in shown
    form = {
        "target": "new",
        "new_name": "fresh",
        "auth_mode": "Key",
        "name": "blue",
        "environment": "pkg:1",
        "instance_type": "small",
        "instance_count": 1,
        "request_timeout_ms": 5000,
        "max_concurrent_requests": 1,
        "share": 100,
    }
    early = client.post("/w/lab/create/deployment", form)
    assert early.status_code == 409
    assert "still being made" in early.content.decode()
    Package.objects.update(ready_at=timezone.now())
    shown = client.get("/w/lab/environments/pkg").content.decode()
    assert "/w/lab/create/deployment?environment=pkg%3A1" in shown
    assert "Export build context" in shown
    assert 'value="pkg:1"' in client.get("/w/lab/create/deployment?environment=pkg%3A1").content.decode()
    twice = client.post("/w/lab/create/deployment", form | {"model": "iris:1"})
    assert twice.status_code == 400
    assert list(twice.context["form"].errors) == ["model"]
    answer = client.post("/w/lab/create/deployment", form)
    assert answer.status_code == 302, answer.content
    blue = OnlineDeployment.objects.get(endpoint__name="fresh")
    assert (blue.model, blue.code, blue.environment) == (None, None, version)
    assert "plain-model:1" in client.get("/w/lab/endpoints/fresh/deployments").content.decode()
    found = client.get("/w/lab/pick/environments?q=pkg").json()["found"]
    assert [(each["value"], each["type"]) for each in found] == [("pkg:1", "package")]


def test_the_context_can_be_taken_home(parts, browser, people):
    parts.package()
    Package.objects.update(ready_at=timezone.now(), python="3.11.7")
    client = AsyncClient()
    client.force_login(people["rita"])

    async def go(path):
        answer = await client.get(path)
        return answer.status_code, b"".join([part async for part in answer.streaming_content])

    status, data = asyncio.run(go("/w/lab/environments/pkg/export?version=1&kind=context"))
    assert status == 200
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        assert "pkg-1/code/score.py" in tar.getnames()
    assert browser("rita").get("/w/lab/environments/pkg/export?version=2").status_code == 404


def test_a_model_in_a_package_is_not_deleted(parts, browser):
    parts.package()
    answer = browser("olga").post(f"{MODEL}/delete", {"version": "1", "name": "plain-model:1"})
    assert "package pkg:1" in answer.content.decode()
    parts.custom.refresh_from_db()
