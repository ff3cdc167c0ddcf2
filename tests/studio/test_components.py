"""Components: registered from YAML, shown with their steps, deployed by a form."""

from __future__ import annotations

import io
import json

import pytest
import yaml

from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster
from apps.core.models import Operation
from apps.registry.models import CodeVersion, Component, ComponentVersion
from apps.registry.pipelines.written import LONGEST
from tests.factories import make_component, make_pipeline_deployment
from tests.studio.test_ascode import CODE, requests_of

pytestmark = pytest.mark.django_db(transaction=True)
REGISTER = "/w/lab/create/component"
DEPLOY = "/w/lab/batch-endpoints/forests/deploy/pipeline"
COMMAND = """\
type: command
name: prepare
version: 1
environment: azureml:sklearn:1
inputs:
  data: {type: uri_folder}
  rate: {type: number, default: 0, min: 0, max: 1}
outputs:
  out: {type: uri_folder}
command: cp ${{inputs.data}}/* ${{outputs.out}}
"""


def text(response):
    return " ".join(response.content.decode().split())


@pytest.fixture
def flow(world):
    return make_pipeline_deployment(world["workspace"])


def settings(**values):
    """The form of a deployment as the page sends it: a box that is not ticked is not there."""
    cluster = Cluster.objects.get().pk
    return {"name": "flow", "component": "rivers_flow:1", "cluster": cluster, "force_rerun": "on", **values}


def test_the_example_is_a_pipeline_that_can_be_registered(world, browser):
    client = browser("dan")
    example = client.get(REGISTER).context["form"]["text"].value()
    assert "azureml:sklearn@latest" in example
    answer = client.post(REGISTER, {"text": example})
    assert answer.url == "/w/lab/components/word_count"
    page = text(client.get(answer.url))
    assert "${{parent.jobs.split.outputs.words}}" in page
    assert "uniq -c" in page
    assert [each.name for each in client.get(answer.url).context["steps"].shown] == ["split", "count"]
    listed = text(client.get("/w/lab/components"))
    assert "word_count</a>" in listed
    assert "azureml_anonymous" not in listed
    assert "word_count" not in text(client.get("/w/lab/components?q=other"))
    assert Component.objects.get(name="azureml_anonymous").versions.count() == 2
    anonymous = ComponentVersion.objects.filter(is_anonymous=True).first()
    shown = text(client.get(f"/w/lab/components/azureml_anonymous?version={anonymous.version}"))
    assert "New version" not in shown
    assert "New version" in page


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "must be a map"),
        ("type: command\nb: [", "Line 2: "),
        ("type: command\na: &a 1\nb: *a", "Line 3: anchors"),
        ("type: command", "name: …"),
        ("name: [x]\ntype: command", "Line 1: Give it a name"),
        (COMMAND.replace("azureml:sklearn:1", "azureml:none:1"), "Line 4: environment: there is no none:1"),
        (COMMAND.replace("max: 1", "max: x"), "Line 7: inputs.rate.max"),
        (COMMAND.replace("name: prepare", "name: Prepare!"), "Line 2: "),
        (COMMAND.replace("name: prepare", "name: azureml_anonymous"), "Line 2: 'azureml_anonymous' is not"),
        (COMMAND.replace("inputs.data", "inputs.other"), "Line 10: "),
        (COMMAND + "more: 1\n", "Line 11: Unknown or unsupported field more"),
        (COMMAND.replace("version: 1", "version: a b"), "Line 3: "),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_stays_there(world, browser, written, told):
    answer = browser("dan").post(REGISTER, {"text": written})
    assert answer.status_code == 400
    form = answer.context["form"]
    assert told in " ".join(form.errors["text"])
    assert form["text"].value() == written
    assert not Component.objects.filter(name__in=["prepare", "Prepare!", "azureml_anonymous"]).exists()


def test_a_version_is_never_changed(world, browser):
    client = browser("dan")
    assert client.post(REGISTER, {"text": COMMAND}).status_code == 302
    assert client.post(REGISTER, {"text": COMMAND}).status_code == 302  # the same once more
    answer = client.post(REGISTER, {"text": COMMAND.replace("cp ", "cp -r ")})
    assert answer.status_code == 409
    assert "Line 3: " in " ".join(answer.context["form"].errors["text"])
    assert client.post(REGISTER, {"text": COMMAND.replace("version: 1\n", "")}).status_code == 302
    assert sorted(ComponentVersion.objects.filter(asset__name="prepare").values_list("version", flat=True)) == [
        "1",
        "2",
    ]


def test_a_file_takes_the_place_of_the_text(world, browser):
    def sent(content):
        return {"text": "typed", "file": io.BytesIO(content)}

    client = browser("dan")
    assert client.post(REGISTER, sent(b"\xef\xbb\xbf" + COMMAND.encode())).url == "/w/lab/components/prepare"
    wrong = client.post(REGISTER, sent(b"name: [")).context["form"]
    assert (wrong["text"].value(), list(wrong.errors)) == ("name: [", ["text"])
    for content in (b"\xff\xfe", b"#" * (LONGEST + 1), b"#" * (5 * LONGEST)):
        form = client.post(REGISTER, sent(content)).context["form"]
        assert "file" in form.errors
        assert form["text"].value() == "typed"


def test_the_code_of_a_command_comes_along(world, browser):
    client, written = browser("dan"), COMMAND + "code: ./src\n"
    bare = client.post(REGISTER, {"text": written}).context["form"]
    assert "Line 11: Choose the files of ./src" in " ".join(bare.errors["code"])
    file = io.BytesIO(b"print(1)\n")
    file.name = "prepare.py"
    assert client.post(REGISTER, {"text": written, "code": file}).status_code == 302
    made = ComponentVersion.objects.get(asset__name="prepare")
    assert str(made.code) == "prepare:1"
    assert "prepare:1" in text(client.get("/w/lab/components/prepare"))
    file.seek(0)
    pipeline = {"type": "pipeline", "name": "two", "jobs": {"a": {"component": "azureml:prepare:1"}}}
    answer = client.post(REGISTER, {"text": yaml.safe_dump(pipeline), "code": file})
    assert "Only a command component" in str(answer.context["form"].errors["code"])
    file.seek(0)
    refused = client.post(REGISTER, {"text": written.replace("version: 1", "version: a b"), "code": file})
    assert refused.status_code == 400
    assert CodeVersion.objects.filter(asset__name="prepare").count() == 1


def test_the_form_as_code_is_the_same_component(world, browser):
    client = browser("dan")
    texts = client.post(REGISTER, {"text": COMMAND}, headers=CODE).json()
    assert not Component.objects.filter(name="prepare").exists()
    assert texts["yaml"] == COMMAND
    assert "az ml component create" in texts["cli"]
    [(method, path, body)] = requests_of(texts["curl"])
    assert client.put(path, json.dumps(body), content_type="application/json").status_code == 201, method
    before = ComponentVersion.objects.get(asset__name="prepare").spec
    assert client.post(REGISTER, {"text": COMMAND}).status_code == 302  # equal, or it would be refused
    assert ComponentVersion.objects.get(asset__name="prepare").spec == before
    assert client.post(REGISTER, {"text": "a: ["}, headers=CODE).status_code == 200


def test_the_yaml_that_is_shown_registers_the_same(flow, browser):
    client = browser("dan")
    shown = client.get("/w/lab/components/rivers_flow").context["yaml"]
    assert client.post(REGISTER, {"text": shown}).status_code == 302
    assert ComponentVersion.objects.filter(asset__name="rivers_flow").count() == 1
    again = client.get(f"{REGISTER}?from=rivers_flow:1").context["form"]["text"].value()
    assert "version" not in yaml.safe_load(again)
    assert yaml.safe_load(again)["jobs"]["main"]["component"]["command"] == "echo hi"
    client.post(REGISTER, {"text": again.replace("echo hi", "echo ho")})
    assert ComponentVersion.objects.filter(asset__name="rivers_flow").count() == 2
    assert "echo ho" in client.get("/w/lab/components/rivers_flow").context["yaml"]
    client.post(REGISTER, {"text": COMMAND})
    shown = client.get("/w/lab/components/prepare").context["yaml"]
    assert "resources" not in shown
    assert yaml.safe_load(shown)["inputs"]["rate"] == {"type": "number", "default": 0, "min": 0, "max": 1}
    assert client.post(REGISTER, {"text": shown}).status_code == 302


def test_a_component_says_what_it_takes_and_where_it_runs(flow, browser):
    page = text(browser("rita").get("/w/lab/components/rivers_flow"))
    for words in ("What is scored.", "at most 1", "append, replace", "rivers</a>", "${{parent.inputs.images}}"):
        assert words in page, words
    assert "/deploy/pipeline?component=" not in page  # she may not
    page = text(browser("dan").get("/w/lab/components/rivers_flow"))
    assert "/w/lab/batch-endpoints/forests/deploy/pipeline?component=rivers_flow%3A1" in page
    part = ComponentVersion.objects.get(is_anonymous=True)
    page = text(browser("rita").get(f"/w/lab/components/azureml_anonymous?version={part.version}"))
    assert "rivers_flow:1</a>" in page


def test_a_pipeline_without_its_parts_is_shown_all_the_same(flow, browser):
    ComponentVersion.objects.filter(is_anonymous=True).update(version="other")
    assert "They cannot be read" in text(browser("rita").get("/w/lab/components/rivers_flow"))
    assert browser("rita").get("/w/lab/batch-endpoints/rivers").status_code == 200


def test_a_component_nobody_uses_is_deleted_by_its_name(flow, browser):
    client = browser("dan")
    used = "/w/lab/components/rivers_flow/delete"
    assert "batch deployment rivers/flow" in text(client.get(f"{used}?version=1"))
    data = {"version": "1", "name": "rivers_flow:1"}
    assert client.post(used, data).status_code == 409
    make_component(flow.endpoint.workspace, "alone")
    assert client.post("/w/lab/components/alone/delete", {"version": "1", "name": "alone"}).status_code == 400
    answer = client.post("/w/lab/components/alone/delete", {"version": "1", "name": "alone:1"})
    assert answer.url == "/w/lab/components"
    assert not Component.objects.filter(name="alone").exists()


def test_a_pipeline_is_deployed_and_shown(flow, browser):
    client = browser("dan")
    page = client.get(f"{DEPLOY}?component=rivers_flow:1")
    form = page.context["form"]
    assert (form["component"].value(), form["cluster"].value()) == ("rivers_flow:1", Cluster.objects.get().pk)
    assert f'href="{DEPLOY}"' in text(client.get(DEPLOY.removesuffix("/pipeline")))
    data = settings(default_datastore="bay", description="Nightly", tags="team=geo")
    answer = client.post(DEPLOY, data)
    assert answer.url == f"/w/lab/operations/{Operation.objects.get(kind='batch-deployment.create').pk}"
    assert 'href="/w/lab/batch-endpoints/forests"' in text(client.get(answer.url))
    made = BatchDeployment.objects.get(endpoint__name="forests", name="flow")
    assert (made.type, str(made.component), made.cluster.name) == ("PipelineComponent", "rivers_flow:1", "cpu")
    assert (made.description, made.tags) == ("Nightly", {"team": "geo"})
    assert made.settings == {
        "default_compute": "cpu",
        "default_datastore": "bay",
        "continue_on_step_failure": "False",
        "force_rerun": "True",
        "component_description": "",
        "component_tags": {},
    }
    page = text(client.get("/w/lab/batch-endpoints/forests"))
    assert "/deployments/flow/edit/pipeline" in page
    assert "1. main" in page
    page = text(client.get("/w/lab/batch-endpoints/rivers"))
    assert "Mini-batch size" not in page
    assert "component_description" not in page


def test_the_deployment_as_code_is_the_same_deployment(flow, browser):
    client = browser("dan")
    data = settings(default_datastore="bay", description="Nightly", tags="team=geo", continue_on_step_failure="on")
    texts = client.post(DEPLOY, data | {"name": "again"}, headers=CODE).json()
    document = yaml.safe_load(texts["yaml"])
    assert (document["type"], document["component"]) == ("pipeline", "azureml:rivers_flow:1")
    assert document["settings"] == {
        "default_compute": "cpu",
        "default_datastore": "bay",
        "continue_on_step_failure": True,
        "force_rerun": True,
    }
    client.post(DEPLOY, data)
    Operation.objects.update(state="succeeded")
    BatchEndpoint.objects.update(state="Succeeded")
    [(_method, path, body)] = requests_of(texts["curl"])
    assert client.put(path, json.dumps(body), content_type="application/json").status_code == 201
    first, second = (BatchDeployment.objects.get(endpoint__name="forests", name=name) for name in ("flow", "again"))
    for name in ("type", "component", "cluster", "settings", "description", "tags"):
        assert getattr(first, name) == getattr(second, name), name


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("component", "", "required"),
        ("component", "nothing:1", "There is no nothing:1"),
        ("component", "step:1", "is a command component"),
        ("cluster", "", "Step main names none"),
        ("cluster", "0", "valid choice"),
        ("default_datastore", "nowhere", "valid choice"),
        ("name", "x", "at least 3"),
        ("tags", "team", "not key=value"),
    ],
)
def test_what_is_wrong_with_a_deployment_is_said_at_its_field(flow, browser, field, value, told):
    answer = browser("dan").post(DEPLOY, settings(**{"description": "typed", field: value}))
    assert answer.status_code == 400
    form = answer.context["form"]
    assert list(form.errors) == [field]
    assert told in " ".join(form.errors[field])
    assert form["description"].value() == "typed"
    assert not BatchDeployment.objects.filter(endpoint__name="forests", name="flow").exists()


def test_steps_that_name_their_clusters_need_no_default(flow, browser):
    pipeline = ComponentVersion.objects.get(asset__name="rivers_flow")
    pipeline.spec["jobs"]["main"]["compute"] = "cpu"
    pipeline.save()
    assert browser("dan").post(DEPLOY, settings(cluster="")).status_code == 302
    made = BatchDeployment.objects.get(endpoint__name="forests", name="flow")
    assert (made.cluster, "default_compute" in made.settings) == (None, False)


def test_a_pipeline_deployment_is_changed(flow, browser):
    client = browser("dan")
    edit = "/w/lab/batch-endpoints/rivers/deployments/flow/edit/pipeline"
    flow.settings |= {"default_compute": "azureml:cpu", "component_description": "kept", "force_rerun": "true"}
    flow.save()
    form = client.get(edit).context["form"]
    values = {name: form[name].value() for name in ("component", "cluster", "force_rerun", "continue_on_step_failure")}
    assert values == {
        "component": "rivers_flow:1",
        "cluster": Cluster.objects.get().pk,
        "force_rerun": True,
        "continue_on_step_failure": True,
    }
    data = settings(description="Changed")
    texts = client.post(edit, data, headers=CODE).json()
    assert "az ml batch-deployment update -f flow.yml" in texts["cli"].replace(" \\\n ", "")
    assert client.post(edit, data).status_code == 302
    flow.refresh_from_db()
    assert (flow.description, flow.settings["continue_on_step_failure"]) == ("Changed", "False")
    assert flow.settings["component_description"] == "kept"
    assert client.get("/w/lab/batch-endpoints/rivers/deployments/flow/edit").status_code == 404
    assert client.get("/w/lab/batch-endpoints/forests/deployments/blue/edit/pipeline").status_code == 404


@pytest.mark.parametrize("named", ["bay", "azureml:bay", "{arm}/datastores/bay"])
def test_what_rest_stored_of_a_deployment_stays_when_another_field_is_edited(flow, browser, named):
    client = browser("dan")
    edit = "/w/lab/batch-endpoints/rivers/deployments/flow/edit/pipeline"
    flow.settings |= {"default_datastore": named.format(arm=flow.endpoint.workspace.arm_id)}
    flow.save()
    form = client.get(edit).context["form"]
    assert form["default_datastore"].value() == "bay"
    sent = settings(default_datastore=form["default_datastore"].value(), description="Changed")
    assert client.post(edit, sent).status_code == 302
    flow.refresh_from_db()
    assert (flow.description, flow.settings["default_datastore"]) == ("Changed", "bay")


def test_flags_and_cluster_are_shown_though_the_datastore_is_gone(flow, browser):
    flow.settings = {"default_datastore": "gone", "force_rerun": "true", "continue_on_step_failure": "false"}
    flow.save()
    form = browser("dan").get("/w/lab/batch-endpoints/rivers/deployments/flow/edit/pipeline").context["form"]
    assert (form["force_rerun"].value(), form["continue_on_step_failure"].value()) == (True, False)
    assert form["cluster"].value() == flow.cluster.pk
    assert not form["default_datastore"].value()


def test_other_workspaces_are_not_there(flow, browser, people):
    client = browser("charlie")
    form = client.get("/w/other/create/component?from=rivers_flow:1").context["form"]
    assert "rivers_flow" not in form["text"].value()
    assert client.get("/w/other/pick/components?q=rivers").json() == {"found": []}
    assert "rivers_flow" not in text(client.get("/w/other/components"))
    assert client.get("/w/other/components/rivers_flow").status_code == 404
    made = COMMAND.replace("name: prepare", "name: theirs")
    answer = client.post("/w/other/create/component", {"text": made})
    assert "Line 4: environment: there is no sklearn:1" in " ".join(answer.context["form"].errors["text"])


def test_only_pipelines_are_suggested(flow, browser):
    found = browser("dan").get("/w/lab/pick/components?q=").json()["found"]
    assert [each["value"] for each in found] == ["rivers_flow:1"]
    assert any(each["title"] == "rivers_flow" for each in browser("dan").get("/w/lab/find?q=rivers_f").json()["found"])


def test_a_long_pipeline_is_not_shown_whole(world, browser):
    client = browser("dan")
    client.post(REGISTER, {"text": COMMAND})
    step = {"component": "azureml:prepare:1", "inputs": {"data": "${{parent.inputs.data}}"}}
    jobs = {f"s{number}": step for number in range(130)}
    document = {"type": "pipeline", "name": "long", "inputs": {"data": {"type": "uri_folder"}}, "jobs": jobs}
    dumped = yaml.dump(document, Dumper=_Plain)
    assert client.post(REGISTER, {"text": dumped}).status_code == 302
    page = text(client.get("/w/lab/components/long"))
    assert "100 of 130 steps are shown" in page
    assert "graph-box" not in page


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True
