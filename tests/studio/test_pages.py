"""What the pages show and what their forms do."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from django.utils import timezone

from apps.compute.drivers.base import LogChunk, LogLine
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from tests.factories import (
    make_deployment,
    make_endpoint,
    make_environment,
    make_model,
    make_operation,
    make_pipeline_deployment,
)

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def text(response):
    """The page, with each run of white space as one space: how templates are wrapped does not matter."""
    return " ".join(response.content.decode().split())


def test_the_first_page_is_the_home_of_the_workspace(world, browser):
    assert browser("dan").get("/").url == "/w/lab/"


def test_people_without_a_workspace_are_told_so(db, client, django_user_model):
    client.force_login(django_user_model.objects.create_user("nina"))
    assert "not a member of a workspace" in text(client.get("/"))


LISTS = {
    "": 19,
    "endpoints": 10,
    "endpoints/one": 10,
    "endpoints/one/deployments": 9,
    "endpoints/one/traffic": 10,
    "endpoints/one/activity": 9,
    "endpoints/one/test": 10,
    "models": 10,
    "models/one": 10,
    "environments": 7,
    "environments/one": 13,
    "operations": 7,
    "compute": 11,
    "create/deployment": 13,
    "find?q=o": 11,
}


@pytest.mark.parametrize("page", LISTS)
def test_pages_ask_as_often_for_three_rows_as_for_one(page, workspace, people, browser, django_assert_num_queries):
    """And not more often than is written down above: whoever adds a query looks at it once."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client = browser("dan")
    first = make_endpoint(workspace, "one", traffic={"blue": 100})

    def more(name):
        """Another of everything a page may list."""
        endpoint = first if name == "one" else make_endpoint(workspace, name, traffic={"blue": 100})
        model = make_model(workspace, name)
        make_deployment(endpoint, model=model)
        if name != "one":
            make_deployment(first, f"d{name}", model=make_model(workspace, "one", version=f"v{name}"))
            make_environment(workspace, "one", version=f"v{name}")
        make_environment(workspace, name)
        make_operation(first, "online-endpoint.update", lock=name, state="succeeded", actor=people["dan"])
        AuditRecord.objects.create(
            actor=people["dan"], action="online-endpoint.traffic", workspace="lab", target="online-endpoint/one"
        )

    more("one")
    client.get(f"/w/lab/{page}")
    with CaptureQueriesContext(connection) as single:
        assert client.get(f"/w/lab/{page}").status_code == 200
    more("two")
    more("three")
    with django_assert_num_queries(len(single)):
        client.get(f"/w/lab/{page}")
    assert len(single) == LISTS[page]


def test_creating_an_endpoint_leads_to_its_timeline(world, browser):
    client = browser("dan")
    response = client.post(
        "/w/lab/create/endpoint",
        {"name": "iris-x", "auth_mode": "Key", "tags": "team=lab\nstage=test"},
    )
    operation = Operation.objects.get(kind="online-endpoint.create")
    assert response.url == f"/w/lab/operations/{operation.pk}"
    assert OnlineEndpoint.objects.get(name="iris-x").tags == {"team": "lab", "stage": "test"}
    page = text(client.get(response.url))
    assert "Create endpoint" in page
    assert "Queued" in page
    assert "waiting for a worker" in page


def test_a_problem_is_shown_at_the_form_with_what_was_typed(world, browser):
    response = browser("dan").post(
        "/w/lab/create/endpoint",
        {"name": "flowers", "auth_mode": "Key", "description": "kept text"},
    )
    assert response.status_code == 409
    assert "Endpoint flowers exists already." in text(response)
    assert response.context["form"].errors["name"]
    assert "Choose another name." in text(response)
    assert "kept text" in text(response)


def test_the_traffic_form_changes_traffic(world, browser):
    data = {"revision": "1", "live.blue": "70", "live.green": "30", "mirror": ""}
    response = browser("dan").post("/w/lab/endpoints/flowers/traffic", data)
    assert response.status_code == 302
    assert OnlineEndpoint.objects.get(name="flowers").traffic == {"blue": 70, "green": 30}


def test_somebody_elses_change_is_shown_and_the_proposal_kept(world, browser, people):
    OnlineEndpoint.objects.filter(name="flowers").update(
        traffic={"blue": 50, "green": 50},
        revision=2,
        modified_by=people["olga"],
    )
    data = {"revision": "1", "live.blue": "70", "live.green": "30", "mirror": ""}
    response = browser("dan").post("/w/lab/endpoints/flowers/traffic", data)
    page = text(response)
    assert response.status_code == 412
    assert "changed by somebody else" in page
    assert "Last changed by olga" in page
    assert 'data-name="blue" data-was="50"' in page
    assert 'name="live.blue" min="0" max="100" step="1" value="70"' in page
    assert 'name="revision" value="2"' in page
    assert OnlineEndpoint.objects.get(name="flowers").traffic == {"blue": 50, "green": 50}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"live.blue": "70", "live.green": "10"}, "must sum to 0 or 100 percent, not 80"),
        ({"live.blue": "a<b", "live.green": "100"}, "not a&lt;b"),
        ({"live.nobody": "100"}, "does not have"),
        ({"live.blue": "100", "mirror": "green", "mirror_percent": "60"}, "from 0 to 50 percent"),
        ({"live.blue": "100", "mirror": "blue", "mirror_percent": "10"}, "cannot be the mirror target"),
    ],
)
def test_the_server_checks_traffic_again(data, words, world, browser):
    response = browser("dan").post("/w/lab/endpoints/flowers/traffic", {"revision": "1", **data})
    assert response.status_code == 400
    assert words in text(response)
    assert OnlineEndpoint.objects.get(name="flowers").revision == 1


def test_readers_look_but_their_buttons_are_disabled_with_the_reason(world, browser):
    page = text(browser("rita").get("/w/lab/endpoints/flowers/traffic"))
    assert "Your role here is Reader" in page
    assert 'disabled title="Your role does not allow this"' in page
    assert "create/deployment?" not in page


def test_a_degraded_deployment_says_so(world, browser):
    OnlineDeployment.objects.filter(name="blue").update(instance_count=3)
    page = text(browser("dan").get("/w/lab/endpoints/flowers"))
    assert 'data-tone="degraded">Degraded' in page
    assert "1 / 3" in page


def test_keys_are_in_no_page_and_only_given_when_asked(world, browser):
    from apps.gateway.domain import keys_of

    keys = keys_of("flowers")
    client = browser("dan")
    page = text(client.get("/w/lab/endpoints/flowers/keys"))
    assert keys["primary"] not in page
    assert keys["secondary"] not in page
    answer = client.post("/w/lab/endpoints/flowers/keys/secondary/reveal")
    assert answer.json() == {"value": keys["secondary"]}
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.post("/w/lab/endpoints/flowers/keys/token/reveal").status_code == 400


def test_token_endpoints_give_a_token(world, workspace, browser):
    make_endpoint(workspace, "tokens-only", auth_mode="AMLToken")
    answer = browser("dan").post("/w/lab/endpoints/tokens-only/keys/token/reveal")
    assert answer.json()["value"].count(".") == 2


def test_the_test_page_begins_with_a_request_of_the_models_signature(world, browser):
    page = text(browser("dan").get("/w/lab/endpoints/flowers/test"))
    assert "&quot;columns&quot;: [&quot;age&quot;, &quot;sex&quot;]" in page


def test_the_test_page_shows_the_live_answer(world, browser, monkeypatch):
    from apps.studio import invoke

    sent = {}

    def send(path, data, headers, *, timeout_s):
        sent.update(path=path, data=data, headers=headers, timeout_s=timeout_s)
        return invoke.Answer(200, "OK", 0.0421, [("x-one", HOSTILE)], HOSTILE, True, "green", HOSTILE[:90])

    monkeypatch.setattr(invoke, "_send", send)
    client = browser("dan")
    response = client.post(
        "/w/lab/endpoints/flowers/test",
        {"deployment": "green", "body": '{"a": 1}'},
        headers={"HX-Request": "true"},
    )
    page = text(response)
    assert sent["path"] == "/e/flowers/score"
    assert sent["headers"]["azureml-model-deployment"] == "green"
    assert sent["headers"]["Authorization"].startswith("Bearer ")
    assert "42 ms" in page
    assert "Only the beginning is shown" in page
    assert "<script>alert" not in page
    assert "<html" not in page
    assert client.post("/w/lab/endpoints/flowers/test", {"deployment": "nobody"}).status_code == 404


def test_calls_are_remembered_for_the_one_who_made_them(world, browser, monkeypatch):
    from apps.studio import invoke
    from apps.studio.models import Call
    from apps.studio.pages.test import KEPT

    def send(path, data, headers, *, timeout_s):
        return invoke.Answer(200, "OK", 0.01, [], "x\x00y", False, "green", "id-1")

    monkeypatch.setattr(invoke, "_send", send)
    client = browser("dan")
    for number in range(KEPT + 2):
        client.post("/w/lab/endpoints/flowers/test", {"body": f'{{"n": {number}}}', "path": "/score"})
    assert Call.objects.count() == KEPT
    newest = Call.objects.first()
    assert (newest.body, newest.answer, newest.answered_by) == (f'{{"n": {KEPT + 1}}}', "x\ufffdy", "green")
    page = text(client.get(f"/w/lab/endpoints/flowers/test?call={newest.pk}"))
    assert f"&quot;n&quot;: {KEPT + 1}" in page
    other = text(browser("olga").get(f"/w/lab/endpoints/flowers/test?call={newest.pk}"))
    assert "&quot;n&quot;" not in other
    assert "Your calls" not in other


def test_a_gateway_that_is_away_is_said_so(world, browser, settings):
    settings.PORT = 1
    response = browser("dan").post("/w/lab/endpoints/flowers/test", {"body": "{}", "deployment": "blue"})
    assert response.status_code == 503
    assert "The gateway" in text(response)


def deployment(**values):
    """What the deploy form sends."""
    same = {"target": "existing", "endpoint": "flowers", "name": "teal", "model": "iris:1", "share": 0}
    size = {"instance_type": "small", "instance_count": 1, "request_timeout_ms": 3000, "max_concurrent_requests": 1}
    return same | size | values


def test_deploying_an_mlflow_model(world, browser):
    client = browser("dan")
    response = client.post("/w/lab/create/deployment", deployment(instance_count=2, probe_period=5, share=20))
    assert response.status_code == 302
    made = OnlineDeployment.objects.get(name="teal")
    assert (made.instance_count, made.request_timeout_ms, made.model) == (2, 3000, world["model"])
    assert made.liveness_probe == {"period": "PT5S"}
    assert Operation.objects.get(kind="online-deployment.deploy").payload["traffic"] == {
        "blue": 72,
        "green": 8,
        "teal": 20,
    }


def test_deploying_to_a_new_endpoint_takes_what_is_filled_in(world, browser):
    client = browser("dan")
    page = client.get("/w/lab/create/deployment?model=iris:1")
    form = page.context["form"]
    values = {name: form[name].value() for name in form.fields if form[name].value() not in (None, "")}
    assert (values["new_name"], values["name"], values["share"], values["target"]) == ("iris", "blue", 100, "new")
    response = client.post("/w/lab/create/deployment", values)
    assert response.status_code == 302, text(response)
    made = OnlineDeployment.objects.get(endpoint__name="iris")
    assert (made.name, made.model, made.instance_type) == ("blue", world["model"], values["instance_type"])


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"model": "nobody:1"}, "model", "There is no nobody:1 in this workspace."),
        ({"endpoint": "other"}, "endpoint", "There is no such endpoint"),
        ({"target": "new", "new_name": ""}, "new_name", "Give the new endpoint a name."),
        ({"target": "new", "new_name": "flowers"}, "new_name", "exists already"),
        ({"name": "blue"}, "name", "exists already"),
        ({"share": 101}, "share", "less than or equal to 100"),
        ({"target": "new", "new_name": "fresh", "share": 50}, "share", "choose 0 or 100"),
        ({"environment_variables": "no sign"}, "environment_variables", "is not key=value"),
        ({"environment_variables": "PORTWAY_X=1"}, "environment_variables", "own"),
        ({"model": ""}, "scoring_script", "without a scoring script"),
        ({"instance_type": "huge"}, "instance_type", "valid choice"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(wrong, field, says, world, browser):
    response = browser("dan").post("/w/lab/create/deployment", deployment(**wrong))
    assert response.status_code in {400, 409}
    assert says in " ".join(response.context["form"].errors[field])
    assert not OnlineDeployment.objects.filter(name="teal").exists()
    assert not OnlineEndpoint.objects.filter(name="fresh").exists()


def test_deploying_a_script(world, workspace, browser):
    make_model(workspace, "plain", type="custom_model", signature=None)
    code = io.BytesIO(b"def init(): ...\ndef run(data): return data\n")
    code.name = "score.py"
    data = deployment(name="script", model="plain:1", scoring_script="score.py", environment="sklearn:1", code=code)
    response = browser("dan").post("/w/lab/create/deployment", data)
    assert response.status_code == 302, text(response)
    assert OnlineDeployment.objects.get(name="script").scoring_script == "score.py"


def test_models_of_other_workspaces_cannot_be_deployed(world, people, browser):
    from apps.accounts.models import Workspace

    make_model(Workspace.objects.get(name="other"), "secret")
    client = browser("dan")
    assert client.post("/w/lab/create/deployment", deployment(model="secret:1")).status_code == 400
    assert client.get("/w/lab/pick/models?q=secret").json() == {"found": []}
    assert "secret" not in client.get("/w/lab/find?q=secret").content.decode()


def test_changing_a_deployment_keeps_what_is_not_changed(world, browser):
    client = browser("dan")
    before = OnlineDeployment.objects.get(name="blue")
    page = client.get("/w/lab/endpoints/flowers/deployments/blue/edit")
    form = page.context["form"]
    values = {name: form[name].value() for name in form.fields if form[name].value() not in (None, "")}
    values |= {"environment_variables": "A=1\nB=x=y", "tags": "", "model": str(form["model"].value())}
    values["seen"] = page.context["seen"]
    response = client.post("/w/lab/endpoints/flowers/deployments/blue/edit", values)
    assert response.status_code == 302, text(response)
    after = OnlineDeployment.objects.get(name="blue")
    assert after.environment_variables == {"A": "1", "B": "x=y"}
    assert (after.model, after.instance_type, after.revision) == (before.model, before.instance_type, 2)


def test_changing_an_endpoint_does_not_write_over_anothers_change(world, browser):
    client = browser("dan")
    values = {"description": "mine", "auth_mode": "Key", "public_network_access": "on", "tags": "a=b"}
    stale = client.post("/w/lab/endpoints/flowers/edit", values | {"revision": "0"})
    assert stale.status_code == 412
    assert "mine" in text(stale)
    assert OnlineEndpoint.objects.get(name="flowers").description == ""
    assert client.post("/w/lab/endpoints/flowers/edit", values | {"revision": "1"}).status_code == 302
    changed = OnlineEndpoint.objects.get(name="flowers")
    assert (changed.description, changed.tags, changed.traffic) == ("mine", {"a": "b"}, {"blue": 90, "green": 10})


def edit_form(client, address):
    """The fields of an edit page as a browser would send them back."""
    page = client.get(address)
    form = page.context["form"]
    values = {name: form[name].value() for name in form.fields if form[name].value() not in (None, "")}
    return {**values, "model": str(values.get("model", "")), "seen": page.context["seen"]}


def test_two_people_editing_a_deployment(world, browser):
    """What somebody else changed meanwhile is shown, and only a second Save replaces it."""
    client, address = browser("dan"), "/w/lab/endpoints/flowers/deployments/blue/edit"
    values = edit_form(client, address)
    blue = OnlineDeployment.objects.get(name="blue")
    blue.instance_count, blue.description = 5, "theirs"
    blue.save()
    answer = client.post(address, values | {"tags": "a=b"})
    assert answer.status_code == 412
    assert dict(answer.context["theirs"]) == {"Instances": 5, "Description": "theirs", "Tags": "–"}  # noqa: RUF001
    blue.refresh_from_db()
    assert (blue.instance_count, blue.description, blue.tags) == (5, "theirs", {})
    again = client.post(address, values | {"tags": "a=b", "seen": answer.context["seen"]})
    assert again.status_code == 302
    blue.refresh_from_db()
    assert (blue.instance_count, blue.tags) == (1, {"a": "b"})


def test_editing_keeps_what_the_form_does_not_know(world, browser):
    probe = {"initialDelay": "PT60S", "period": "PT1.5S", "timeout": "PT20S", "failureThreshold": 3}
    variables = {"CFG": "a=1\nb=2", "PAD": " x ", "Q": '"quoted"', "PEM": "-----BEGIN\nabc==\n-----END"}
    OnlineDeployment.objects.filter(name="blue").update(liveness_probe=probe, environment_variables=variables)
    client, address = browser("dan"), "/w/lab/endpoints/flowers/deployments/blue/edit"
    page = client.get(address)
    shown = page.context["form"]["environment_variables"].value()
    values = edit_form(client, address) | {"description": "new"}
    values["environment_variables"] = page.context["form"].fields["environment_variables"].prepare_value(shown)
    assert client.post(address, values).status_code == 302
    after = OnlineDeployment.objects.get(name="blue")
    assert (after.liveness_probe, after.environment_variables, after.revision) == (probe, variables, 1)


def test_what_is_archived_meanwhile_may_stay(world, browser):
    from apps.registry.models import ModelVersion

    ModelVersion.objects.update(is_archived=True)
    client, address = browser("dan"), "/w/lab/endpoints/flowers/deployments/blue/edit"
    assert client.post(address, edit_form(client, address) | {"description": "d"}).status_code == 302


def test_an_authentication_that_is_not_offered_stays(workspace, people, browser):
    make_endpoint(workspace, "entra", auth_mode="AADToken")
    form = browser("dan").get("/w/lab/endpoints/entra/edit").context["form"]
    assert form["auth_mode"].value() == "AADToken"
    assert "AADToken" in dict(form.fields["auth_mode"].choices)


def test_refused_code_leaves_no_version(world, workspace, browser):
    from apps.registry.models import CodeVersion

    make_model(workspace, "plain", type="custom_model", signature=None)
    for _ in range(2):
        code = io.BytesIO(b"x")
        code.name = "score.py"
        data = deployment(model="plain:1", scoring_script="score.py", code=code)  # no environment
        assert browser("dan").post("/w/lab/create/deployment", data).status_code == 400
    assert not CodeVersion.objects.exists()
    code = io.BytesIO(b"x")
    code.name = "score.py"
    answer = browser("dan").post("/w/lab/create/deployment", deployment(code=code))
    assert answer.context["form"].errors["scoring_script"]


def test_a_share_left_out_is_none_beside_traffic(world, browser):
    values = deployment()
    del values["share"]
    assert browser("dan").post("/w/lab/create/deployment", values).status_code == 302
    assert Operation.objects.get(kind="online-deployment.deploy").payload["traffic"] == {"blue": 90, "green": 10}


@pytest.mark.parametrize(
    "address",
    ["endpoints?q=%00", "models/%00", "endpoints/%00", "pick/models?q=a:%00", "create/deployment?endpoint=%00"],
)
def test_nul_in_an_address_is_refused(address, world, browser):
    assert browser("dan").get(f"/w/lab/{address}").status_code == 400


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", "1e9", ""])
def test_numbers_that_are_none_are_refused(number, world, browser):
    client = browser("dan")
    split = {"revision": number, "live.blue": number, "live.green": "30"}
    assert client.post("/w/lab/endpoints/flowers/traffic", split).status_code in {400, 412}
    assert client.post("/w/lab/endpoints/flowers/edit", {"auth_mode": "Key", "revision": number}).status_code == 412
    assert client.get(f"/w/lab/endpoints/flowers/test?call={number}").status_code == 200


def test_an_answer_of_half_a_character_is_shown(world, browser, monkeypatch):
    from apps.studio import invoke

    def send(path, data, headers, *, timeout_s):
        return invoke.Answer(200, "OK", 0.01, [], '{"token": "\\ud83d"}', False, "green")

    monkeypatch.setattr(invoke, "_send", send)
    client = browser("dan")
    answer = client.post("/w/lab/endpoints/flowers/test", {"body": "[" * 20_000}, headers={"HX-Request": "true"})
    assert answer.status_code == 200
    assert "token" in text(answer)
    from apps.studio.models import Call

    assert client.get(f"/w/lab/endpoints/flowers/test?call={Call.objects.get().pk}").status_code == 200


def test_operations_are_found_by_their_name(world, browser):
    make_operation(world["endpoint"], "online-endpoint.update", lock="x", state="succeeded")
    page = browser("dan").get("/w/lab/operations?q=update+endp")
    assert page.context["listing"].total == 1


def test_htmx_is_led_on_and_gets_errors_as_part_of_the_page(world, browser):
    client = browser("dan")
    headers = {"HX-Request": "true"}
    good = client.post("/w/lab/create/endpoint", {"name": "iris-x", "auth_mode": "Key"}, headers=headers)
    assert good.status_code == 204
    assert good.headers["HX-Redirect"].startswith("/w/lab/operations/")
    bad = client.post("/w/lab/create/endpoint", {"name": "i", "auth_mode": "Key"}, headers=headers)
    assert bad.status_code == 400
    assert 'id="form-area"' in bad.content.decode()


def test_scaling(world, browser):
    response = browser("dan").post("/w/lab/endpoints/flowers/deployments/blue", {"instance_count": 3})
    assert response.status_code == 302
    assert OnlineDeployment.objects.get(name="blue").instance_count == 3


def test_deleting_asks_for_the_name(world, browser):
    client = browser("dan")
    assert "type the name" in text(client.post("/w/lab/endpoints/flowers/delete", {"name": "flower"}))
    assert (
        client.post("/w/lab/endpoints/flowers/deployments/blue/delete", {"name": "blue"}).status_code == 409
    )  # has traffic
    assert client.post("/w/lab/endpoints/flowers/delete", {"name": "flowers"}).status_code == 302
    assert OnlineEndpoint.objects.get(name="flowers").state == "Deleting"


def test_registering_a_zipped_mlflow_model(world, browser):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("model/MLmodel", "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n")
        opened.writestr("model/model.pkl", "x")
    archive.seek(0)
    archive.name = "model.zip"
    client = browser("dan")
    answer = client.post(
        "/w/lab/create/model",
        {"name": "new", "files": archive},
        headers={"Accept": "application/json"},
    )
    assert answer.json() == {"location": "/w/lab/models/new"}
    assert "MLflow" in text(client.get("/w/lab/models/new"))


def test_registering_a_folder(world, browser):
    one, two = io.BytesIO(b"weights"), io.BytesIO(b"{}")
    one.name, two.name = "weights.bin", "config.json"
    data = {"name": "folder", "files": [one, two], "paths": json.dumps(["net/weights.bin", "net/sub/config.json"])}
    client = browser("dan")
    assert client.post("/w/lab/create/model", data).status_code == 302
    assert "Custom" in text(client.get("/w/lab/models/folder"))


def test_a_refused_upload_says_why(world, browser):
    bad = io.BytesIO(b"no zip")
    bad.name = "model.zip"
    answer = browser("dan").post(
        "/w/lab/create/model",
        {"name": "bad", "files": bad},
        headers={"Accept": "application/json"},
    )
    assert answer.status_code == 400
    assert "not a readable zip" in answer.json()["message"]
    evil = io.BytesIO(b"x")
    evil.name = "x"
    response = browser("dan").post("/w/lab/create/model", {"name": "bad", "files": evil, "paths": '["../../x"]'})
    assert response.status_code == 400
    assert "leads out of the folder" in text(response)


def test_creating_an_environment(world, browser):
    client = browser("dan")
    response = client.post("/w/lab/create/environment", {"name": "torch", "conda_file": "dependencies: [python=3.11]"})
    assert response.url == "/w/lab/environments/torch"
    assert "python=3.11" in text(client.get(response.url))


def test_a_failed_operation_shows_cause_evidence_and_next_step(world, browser):
    error = {
        "code": "script-import",
        "azure": "x",
        "fault": "user",
        "message": "No module named x.",
        "evidence": "line 3",
        "next": "Add it.",
        "target": "",
    }
    operation = make_operation(
        world["endpoint"],
        "online-deployment.create",
        state="failed",
        lock="other",
        error=error,
        steps=[("environment", "done", "ok"), ("start", "failed", HOSTILE)],
    )
    page = text(browser("rita").get(f"/w/lab/operations/{operation.pk}"))
    for words in ("No module named x.", "line 3", "Add it.", "Not begun", "2.4 s", "<details open>"):
        assert words in page
    assert "<script>alert" not in page


def test_canceling(world, browser):
    operation = make_operation(world["endpoint"], lock="another")
    browser("dan").post(f"/w/lab/operations/{operation.pk}/cancel")
    operation.refresh_from_db()
    assert operation.cancel_requested


def test_a_token_is_shown_once(world, browser):
    client = browser("rita")
    page = text(client.post("/account/tokens", {"name": "laptop", "days": 30}))
    assert "pwt_" in page
    assert "shown only this once" in page
    assert page.count("pwt_") == 2  # the token, and the hint in the list
    assert "shown only this once" not in text(client.get("/account/tokens"))


def test_tokens_of_others_cannot_be_revoked(world, browser):
    from apps.accounts.models import PersonalToken

    browser("dan").post(f"/account/tokens/{world['token'].pk}/revoke")
    assert PersonalToken.objects.filter(pk=world["token"].pk).exists()


def test_hostile_text_is_only_text(world, workspace, browser, monkeypatch):
    OnlineEndpoint.objects.filter(name="flowers").update(
        description=HOSTILE,
        tags={HOSTILE: HOSTILE},
        error={"code": "internal", "fault": "system", "message": HOSTILE, "evidence": HOSTILE, "next": HOSTILE},
    )
    make_model(
        workspace,
        "iris",
        "2",
        description=HOSTILE,
        signature={"inputs": [{"name": HOSTILE, "type": HOSTILE}], "outputs": None},
        flavors={HOSTILE: {}},
    )
    make_environment(workspace, "evil", conda_file=HOSTILE)
    OnlineDeployment.objects.filter(name="blue").update(scoring_script=HOSTILE, error={"message": HOSTILE, "code": "x"})
    said = LogLine(timezone.now(), HOSTILE)
    monkeypatch.setattr("apps.compute.domain.read_log", lambda _row, after="": LogChunk([said] * (not after), "end"))
    client = browser("olga")
    paths = [
        "endpoints",
        "endpoints/flowers",
        "endpoints/flowers/test",
        "endpoints/flowers/keys",
        "endpoints/flowers/logs",
        "endpoints/flowers/deploy",
    ]
    paths += [
        "endpoints/flowers/deployments/blue",
        "models/iris?version=2",
        "environments/evil",
        "endpoints?q=%3Cscript%3Ealert(1)%3C/script%3E",
    ]
    for path in paths:
        page = text(client.get(f"/w/lab/{path}"))
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path


@pytest.mark.parametrize(
    "path",
    ["/accounts/login/", "/accounts/logout/", "/accounts/2fa/", "/accounts/password/reset/"],
)
def test_account_pages_are_ours(path, world, browser):
    page = text(browser("anonymous" if "login" in path or "reset" in path else "dan").get(path))
    assert "entrance-card" in page
    assert "css/tokens.css" in page


@pytest.mark.parametrize(
    ("cookie", "theme"),
    [("dark", "dark"), ("light", "light"), ('x" onload="y', "system"), (None, "system")],
)
def test_the_theme_is_set_by_the_server(cookie, theme, client, db):
    if cookie:
        client.cookies["theme"] = cookie
    assert f'class="{theme}"' in text(client.get("/accounts/login/"))


def test_unknown_pages_have_a_way_on(world, browser):
    for path in ("/nowhere", "/w/lab/endpoints/none", "/w/nowhere/endpoints"):
        response = browser("dan").get(path)
        assert response.status_code == 404
        assert "To the start page" in text(response)


def test_a_crash_shows_our_page_and_no_detail(world, browser, monkeypatch):
    def crash(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("apps.studio.pages.endpoints.endpoints_of", crash)
    response = browser("dan").get("/w/lab/endpoints")
    assert response.status_code == 500
    assert "not your fault" in text(response)
    assert "secret detail" not in text(response)


def test_a_busy_endpoint_is_said_to_be_busy(world, browser):
    make_operation(world["endpoint"], state="running")
    response = browser("dan").post("/w/lab/endpoints/flowers/traffic", {"revision": "1", "live.blue": "100"})
    assert response.status_code == 409
    assert "Another operation on online-endpoint/flowers is still running" in text(response)


def test_a_model_that_could_not_be_imported_is_shown_with_the_reason(world, workspace, browser):
    from apps.registry.models import MlflowImport

    problem = Problem("model-invalid", kind="MLflow model", reason="there is no file MLmodel in it.", evidence=HOSTILE)
    MlflowImport.objects.create(
        workspace=workspace, name="broken", version="3", made_ms=1, retry_at=timezone.now(), error=problem.as_json()
    )
    page = text(browser("rita").get("/w/lab/models"))
    assert "broken version 3 of MLflow could not be imported" in page
    assert "there is no file MLmodel in it." in page
    assert "<script>alert" not in page


@pytest.mark.parametrize("asset", ["models/iris", "environments/sklearn", "components/rivers_flow"])
def test_a_version_that_is_not_there_is_never_another_one(asset, world, workspace, browser):
    make_pipeline_deployment(workspace)
    client = browser("dan")
    for path in (asset, f"{asset}/delete"):
        assert client.get(f"/w/lab/{path}?version=1").status_code == 200, path
        assert client.get(f"/w/lab/{path}").status_code == 200, path
        missing = client.get(f"/w/lab/{path}?version=99")
        assert missing.status_code == 404, path
        assert f"{asset.partition('/')[2]}:99" in text(missing), path
    for wanted in ("", "99"):
        sent = {"version": wanted, "name": f"{asset.partition('/')[2]}:1"}
        assert client.post(f"/w/lab/{asset}/delete", sent).status_code == 404
