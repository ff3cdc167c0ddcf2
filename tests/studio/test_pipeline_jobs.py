"""Jobs of pipeline deployments: the form has the fields that the component declares."""

from __future__ import annotations

import json

import pytest
import yaml
from django.conf import settings

from apps.batch.models import Job
from tests.factories import make_pipeline_deployment
from tests.studio.test_ascode import CODE, requests_of

pytestmark = pytest.mark.django_db(transaction=True)
CREATE = "/w/lab/create/job"


def text(response):
    return " ".join(response.content.decode().split())


@pytest.fixture
def folder(workspace):
    made = settings.HOME.artifacts / "blobs" / str(workspace.pk) / "in"
    made.mkdir(parents=True, exist_ok=True)
    (made / "a.csv").write_text("1\n")
    return "azureml://datastores/workspaceblobstore/paths/in"


@pytest.fixture
def flow(world):
    return make_pipeline_deployment(world["workspace"])


def sent(flow, folder, **values):
    return {
        "deployment": flow.pk,
        "display_name": "Rivers",
        "input.images": folder,
        "input.rate": "0.25",
        "input.count": "3",
        "input.fast": "False",
        "input.mode": "replace",
        **values,
    }


def test_the_fields_are_the_components_inputs_and_outputs(flow, browser):
    client = browser("dan")
    answer = client.get(f"{CREATE}?endpoint=rivers&deployment=flow")
    form, page = answer.context["form"], text(answer)
    names = [f"input.{name}" for name in ("count", "images", "fast", "labels", "mode", "note", "rate")]
    assert list(form.fields) == ["deployment", "display_name", *names, "output.scores"]
    required = {name for name, field in form.fields.items() if field.required}
    assert required == {"deployment", "input.images", "input.count"}
    assert "number, at least 0, at most 1" in page
    assert "What is scored. uri_folder" in page
    assert form["input.rate"].value() == "0.5"
    assert [value for value, _ in form.fields["input.fast"].choices] == ["True", "False"]
    assert "rivers_flow:1" in page
    assert client.get(f"{CREATE}?deployment={flow.pk}").context["form"].fields.keys() == form.fields.keys()


def test_a_pipeline_job_starts_from_the_form(flow, browser, folder):
    out = "azureml://datastores/workspaceblobstore/paths/out/rivers"
    answer = browser("dan").post(CREATE, sent(flow, folder, **{"output.scores": out}))
    job = Job.objects.get(type="pipeline")
    assert answer.url == f"/w/lab/jobs/{job.name}"
    assert (job.display_name, job.created_by.username, job.deployment_name) == ("Rivers", "dan", "flow")
    assert job.inputs == {
        "images": {"type": "UriFolder", "uri": folder},
        "rate": {"type": "Literal", "value": "0.25"},
        "count": {"type": "Literal", "value": "3"},
        "fast": {"type": "Literal", "value": "False"},
        "mode": {"type": "Literal", "value": "replace"},
    }
    assert job.outputs["scores"]["uri"] == out
    assert browser("rita").post(CREATE, sent(flow, folder)).status_code == 403


def test_defaults_hold_for_what_is_left_empty(flow, browser, folder):
    data = {"deployment": flow.pk, "input.images": folder, "input.count": "1", "input.rate": ""}
    form = {**data, "input.fast": "True", "input.mode": "append"}
    assert browser("dan").post(CREATE, form).status_code == 302
    job = Job.objects.get(type="pipeline")
    assert job.inputs["rate"] == {"type": "Literal", "value": "0.5"}
    assert "labels" not in job.inputs


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("input.images", "", "required"),
        ("input.images", "nowhere", "is not understood"),
        ("input.images", "azureml://datastores/workspaceblobstore/paths/none", "does not exist"),
        ("input.images", "azureml://datastores/workspaceblobstore/paths/in/a.csv", "is a file"),
        ("input.count", "", "required"),
        ("input.count", "x", "is no integer"),
        ("input.count", "1.5", "is no integer"),
        ("input.rate", "1.5", "more than 1"),
        ("input.rate", "nan", "is no number"),
        ("input.mode", "other", "not one of the available choices"),
        ("input.fast", "maybe", "not one of the available choices"),
        ("output.scores", "https://example.com/x", "must be a path of a datastore"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(flow, browser, folder, field, value, told):
    answer = browser("dan").post(CREATE, sent(flow, folder, **{field: value}))
    assert answer.status_code in (400, 404), answer.status_code
    errors = answer.context["form"].errors
    assert list(errors) == [field]
    assert told in " ".join(errors[field])
    assert not Job.objects.filter(type="pipeline").exists()


def test_the_form_as_code_is_the_same_job(flow, browser, folder):
    client = browser("dan")
    texts = client.post(CREATE, sent(flow, folder), headers=CODE).json()
    assert not Job.objects.filter(type="pipeline").exists()
    document = yaml.safe_load(texts["yaml"])["inputs"]
    assert document["rate"] == {"type": "number", "default": "0.25"}
    assert document["images"] == {"type": "uri_folder", "path": folder}
    [(method, path, body)] = requests_of(texts["curl"])
    assert (method, path) == ("POST", "/batch/rivers/jobs")
    answer = client.post(path, json.dumps(body), content_type="application/json")
    assert answer.status_code == 201, answer.content
    client.post(CREATE, sent(flow, folder))
    first, second = Job.objects.filter(type="pipeline")
    assert (first.inputs, first.display_name) == (second.inputs, second.display_name)


def test_half_a_form_as_code_names_what_is_missing(flow, browser):
    code = browser("dan").get(f"{CREATE}?endpoint=rivers").context["code"]
    assert yaml.safe_load(code.yaml)["inputs"]["count"] == {"type": "integer", "default": "VALUE"}


def test_a_pipeline_job_is_done_again_with_changes(flow, browser, folder):
    client = browser("dan")
    client.post(CREATE, sent(flow, folder))
    job = Job.objects.get(type="pipeline")
    assert f"/create/job?from={job.name}" in text(client.get(f"/w/lab/jobs/{job.name}"))
    form = client.get(f"{CREATE}?from={job.name}").context["form"]
    assert (form["input.rate"].value(), form["input.fast"].value(), form["input.images"].value()) == (
        "0.25",
        "False",
        folder,
    )
    assert form["display_name"].value() == "Rivers"


def test_a_component_that_takes_nothing_needs_nothing(world, browser):
    bare = make_pipeline_deployment(world["workspace"], "ponds", inputs={})
    page = text(browser("dan").get(f"{CREATE}?endpoint=ponds"))
    assert "The component takes none." in page
    assert browser("dan").post(CREATE, {"deployment": bare.pk}).status_code == 302


def test_deployments_of_other_workspaces_cannot_be_chosen(flow, browser, folder, people, workspace):
    client = browser("charlie")
    assert (
        client.get(f"/w/other/create/job?deployment={flow.pk}").context["form"].fields["deployment"].queryset.count()
        == 0
    )
    answer = client.post("/w/other/create/job", sent(flow, folder))
    assert answer.status_code == 400
    assert next(iter(answer.context["form"].errors)) == "deployment"


def test_the_page_of_the_endpoint_says_how_to_use_it(flow, browser):
    page = text(browser("rita").get("/w/lab/batch-endpoints/rivers/consume"))
    assert "images" in page
    assert "count" in page
    assert "labels" not in page  # may be left out
    page = text(browser("dan").get("/w/lab/batch-endpoints/rivers"))
    assert "/create/job?endpoint=rivers&amp;deployment=flow" in page
