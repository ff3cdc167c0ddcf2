"""What forms show as code does what the form does."""

from __future__ import annotations

import json
import shlex
from urllib.parse import urlsplit

import pytest
import yaml
from django.conf import settings

from apps.core.models import Operation
from apps.endpoints.domain import spec_of
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway.envoy.listeners import FORGEABLE
from apps.studio import ascode, ascode_calls, ascode_online
from tests.factories import make_model

CODE = {"X-As-Code": "1"}
FORM = {
    "target": "new",
    "new_name": "fresh",
    "auth_mode": "AMLToken",
    "name": "blue",
    "model": "iris:1",
    "instance_type": "small",
    "instance_count": 2,
    "request_timeout_ms": 3500,
    "max_concurrent_requests": 4,
    "probe_period": 7,
    "probe_failures": 3,
    "environment_variables": "A=1",
    "tags": "team=x y",
    "description": "it's",
    "share": 100,
}


def requests_of(text):
    """(method, path, body) of each curl command."""
    for command in text.split("\n\n"):
        words = shlex.split(command.replace("\\\n", " "))
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
        yield words[words.index("-X") + 1], urlsplit(words[1]).path, body


def play(client, text):
    """Send what the curl commands send; operations that they start count as ended."""
    for method, path, body in requests_of(text):
        answer = getattr(client, method.lower())(path, json.dumps(body), content_type="application/json")
        yield answer.status_code
        Operation.objects.update(state="succeeded")
        OnlineEndpoint.objects.update(state="Succeeded")


def test_the_deploy_form_as_curl_makes_the_same_rows(world, browser):
    client = browser("dan")
    client.post("/w/lab/create/deployment", FORM)
    first = OnlineDeployment.objects.select_related("endpoint").get(endpoint__name="fresh")
    texts = client.post("/w/lab/create/deployment", FORM | {"new_name": "again"}, headers=CODE).json()
    answers = play(client, texts["curl"])
    assert [next(answers), next(answers)] == [201, 201]
    second = OnlineDeployment.objects.select_related("endpoint").get(endpoint__name="again")
    assert spec_of(second) == spec_of(first)
    assert second.endpoint.auth_mode == first.endpoint.auth_mode == "AMLToken"
    assert OnlineDeployment.objects.filter(pk=second.pk).update(serving=None) == 1
    [_one, _two, (method, path, body)] = list(requests_of(texts["curl"]))
    assert (method, path.rpartition("/")[2], body) == ("PATCH", "again", {"properties": {"traffic": {"blue": 100}}})


def test_the_question_for_code_reaches_us():
    """Without its header the question is an order: the gateway must not take it off."""
    [name] = CODE
    assert f'"{name}"' in (settings.BASE_DIR / "static/js/live-code.js").read_text()
    assert not name.lower().startswith(FORGEABLE)


def test_asking_for_code_changes_nothing(world, browser):
    client = browser("dan")
    before = Operation.objects.count()
    for address in ("/w/lab/create/deployment", "/w/lab/create/endpoint", "/w/lab/endpoints/flowers/edit"):
        assert client.post(address, FORM, headers=CODE).status_code == 200
    split = {"revision": "1", "live.blue": "70", "live.green": "30"}
    texts = client.post("/w/lab/endpoints/flowers/traffic", split, headers=CODE).json()
    assert "'blue=70 green=30'" in texts["cli"]
    assert Operation.objects.count() == before
    assert OnlineEndpoint.objects.get(name="flowers").traffic == {"blue": 90, "green": 10}


@pytest.mark.parametrize("name", ["YAML", "CLI", "curl"])
def test_half_a_form_reads_as_half_a_command(name, world, browser):
    page = browser("dan").get("/w/lab/create/endpoint").content.decode()
    assert f">{name}<" in page


def test_the_yaml_is_what_az_ml_takes(world, browser):
    make_model(world["workspace"], "plain", type="custom_model", signature=None)
    values = FORM | {"model": "plain:1", "scoring_script": "score.py", "environment": "sklearn:1"}
    texts = browser("dan").post("/w/lab/create/deployment", values, headers=CODE).json()
    endpoint, deployment = yaml.safe_load_all(texts["yaml"])
    assert endpoint == {"name": "fresh", "auth_mode": "aml_token"}
    assert deployment == {
        "name": "blue",
        "endpoint_name": "fresh",
        "description": "it's",
        "model": "azureml:plain:1",
        "code_configuration": {"code": "./code", "scoring_script": "score.py"},
        "environment": "azureml:sklearn:1",
        "environment_variables": {"A": "1"},
        "instance_type": "small",
        "instance_count": 2,
        "request_settings": {"request_timeout_ms": 3500, "max_concurrent_requests_per_instance": 4},
        "liveness_probe": {"failure_threshold": 3, "period": 7},
        "tags": {"team": "x y"},
    }
    assert "az ml online-endpoint update" in texts["cli"]
    assert "blue=100" in texts["cli"]


def test_the_environment_as_curl_registers_it(world, browser):
    client = browser("dan")
    form = {"name": "torch", "version": "3", "conda_file": "dependencies: [python=3.11]\n", "description": "d"}
    texts = client.post("/w/lab/create/environment", form, headers=CODE).json()
    assert list(play(client, texts["curl"])) == [201]
    from apps.registry.models import EnvironmentVersion

    made = EnvironmentVersion.objects.get(asset__name="torch")
    assert (made.version, made.conda_file, made.description) == ("3", form["conda_file"].strip(), "d")
    document, conda = yaml.safe_load_all(texts["yaml"])
    assert (document["conda_file"], conda) == ("./conda.yml", {"dependencies": ["python=3.11"]})


@pytest.mark.parametrize(
    "conda", ["2001-99-99", "[" * 5000, "a: &a {b: *a}", "a: &x [1]\nb: [*x, *x, *x]\n", "9" * 5000]
)
def test_no_conda_file_is_read_to_show_it(conda, world, browser):
    """References to references take hours to follow: the text is shown as it was typed."""
    form = {"name": "torch", "conda_file": conda}
    answer = browser("dan").post("/w/lab/create/environment", form, headers=CODE)
    assert answer.status_code == 200
    assert conda.strip() in answer.json()["yaml"]


def test_names_of_files_are_quoted():
    writer = ascode.Writer("lab")
    ascode_online.deployment(writer, {"scoring_script": "score.py", "files": ["a;touch pwned $(id).py"]})
    curl = writer.done().curl.split("\n\n")[0]
    assert shlex.split(curl.replace("\\\n", " "))[-1] == "files=@a;touch pwned $(id).py"


def test_what_is_emptied_is_said(world, browser):
    """An edit as code does what Save does: fields that were emptied are there."""
    values = {"description": "", "auth_mode": "Key", "public_network_access": "on", "tags": ""}
    texts = browser("dan").post("/w/lab/endpoints/flowers/edit", values, headers=CODE).json()
    [(method, _path, body)] = list(requests_of(texts["curl"]))
    assert method == "PATCH"
    assert body["tags"] == {}
    assert body["properties"]["description"] == ""


@pytest.mark.parametrize("body", ["[" * 20_000, '{"a": "\\ud83d"}', "x" * 100])
def test_strange_bodies_become_a_file_or_are_mended(body):
    for _id, _name, text in ascode_calls.request("iris", path="/score", body=body):
        text.encode()


def test_a_long_body_becomes_a_file():
    body = json.dumps({"data": list(range(5000))})
    for _id, _name, text in ascode_calls.request("iris", path="/score", body=body, deployment="blue"):
        assert "request.json" in text
        assert "azureml-model-deployment" in text
        assert len(text) < 1500
