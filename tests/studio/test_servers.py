"""Images that bring their own server, and the server of a script, as the studio's forms say them."""

from __future__ import annotations

import io

import pytest

from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.endpoints.servers import PROPERTY, Server
from apps.registry.models import EnvironmentVersion
from tests.studio.test_ascode import CODE, play

pytestmark = pytest.mark.django_db

IMAGE = {"name": "own", "image": "team/server:1", "conda_file": "", "port": 8080, "score_path": "/predict"}
SIZE = {"instance_type": "small", "instance_count": 1, "request_timeout_ms": 3000, "max_concurrent_requests": 1}
DEPLOY = SIZE | {"target": "new", "new_name": "boxed", "name": "blue", "auth_mode": "Key", "share": 0}


def routes(name):
    return EnvironmentVersion.objects.get(asset__name=name).inference_config


def test_an_image_with_a_server_and_the_same_as_code(world, browser):
    client = browser("dan")
    create = "/w/lab/create/environment"
    assert client.post(create, IMAGE | {"ready_path": "/ready"}).status_code == 302
    assert routes("own") == {
        "livenessRoute": {"port": 8080, "path": "/ready"},
        "readinessRoute": {"port": 8080, "path": "/ready"},
        "scoringRoute": {"port": 8080, "path": "/predict"},
    }
    shown = client.post(create, IMAGE | {"name": "twin", "ready_path": "/ready"}, headers=CODE).json()
    assert list(play(client, shown["curl"])) == [201]
    assert routes("twin") == routes("own")
    assert "scoring_route" in shown["yaml"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"port": "", "score_path": "/predict"}, "port"),
        ({"port": 70_000}, "port"),
        ({"image": ""}, "image"),
    ],
)
def test_what_is_missing_is_said_at_its_field(world, browser, wrong, field):
    answer = browser("dan").post("/w/lab/create/environment", IMAGE | wrong)
    assert answer.status_code == 400
    assert answer.context["form"].errors[field]
    assert not EnvironmentVersion.objects.filter(asset__name="own").exists()


def test_a_path_that_no_server_has_is_refused(world, browser):
    answer = browser("dan").post("/w/lab/create/environment", IMAGE | {"score_path": "no slash"})
    assert answer.status_code == 400
    assert "must begin with /" in answer.content.decode()


def script(**values):
    code = io.BytesIO(b"def init(): pass\ndef run(data): return data\n")
    code.name = "score.py"
    return DEPLOY | {"environment": "plain:1", "code": code, "scoring_script": "score.py"} | values


def test_the_server_of_a_script_and_its_mount_path(world, browser):
    client = browser("dan")
    plain = {"name": "plain", "conda_file": "dependencies: [python=3.11]"}
    assert client.post("/w/lab/create/environment", plain).status_code == 302
    answer = client.post(
        "/w/lab/create/deployment", script(server=Server.AZUREML, model="iris:1", model_mount_path="/mnt/models")
    )
    assert answer.status_code == 302, answer.content.decode()[-2000:]
    made = OnlineDeployment.objects.get(endpoint__name="boxed")
    assert made.properties == {PROPERTY: Server.AZUREML}
    assert made.model_mount_path == "/mnt/models"
    page = client.get("/w/lab/endpoints/boxed/deployments/blue").content.decode()
    assert Server.AZUREML in page

    Operation.objects.update(state="succeeded")
    OnlineEndpoint.objects.update(state="Succeeded")
    edit = "/w/lab/endpoints/boxed/deployments/blue/edit"
    form = client.get(edit).context["form"]
    kept = {name: form[name].value() for name in form.fields if form[name].value() not in (None, "")}
    assert kept["server"] == Server.AZUREML
    changed = kept | {"server": "", "seen": made.modified_at.isoformat()}
    answer = client.post(edit, {name: value for name, value in changed.items() if name != "code"})
    assert answer.status_code == 302, answer.content.decode()[-2000:]
    made.refresh_from_db()
    assert (made.properties, made.revision) == ({}, 2)
    assert made.code is not None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"grpc_port": 8001}, "is for images with an inference_config"),
        ({"model_mount_path": "/proc/x", "model": "iris:1"}, "is a folder of Portway&#x27;s"),
        ({"model_mount_path": "relative", "model": "iris:1"}, "plain absolute path"),
    ],
)
def test_what_does_not_fit_is_said(world, browser, values, says):
    client = browser("dan")
    client.post("/w/lab/create/environment", {"name": "plain", "conda_file": "dependencies: [python=3.11]"})
    answer = client.post("/w/lab/create/deployment", script(**values))
    assert answer.status_code == 400
    assert says in answer.content.decode()
    assert not OnlineEndpoint.objects.filter(name="boxed").exists()
