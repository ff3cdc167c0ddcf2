"""Hostile text in everything that people, models and logs can say renders as text, on every page of the gate."""

from __future__ import annotations

import json

import pytest

from apps.core.models import AuditRecord, Operation
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.registry.models import ComponentVersion, MlflowImport, ModelVersion
from apps.studio import ascode, ascode_calls, ascode_online
from apps.studio.models import Call
from tests.e2e import gate
from tests.factories import make_operation, make_pipeline_deployment

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}\u202e</textarea></title><!--"
MARKS = ("<script>alert", "<img src=x", "</textarea></title>", "<!--", "onerror=alert(2)>{")
ERROR = {
    "code": "script-import",
    "azure": "x",
    "fault": "user",
    "message": HOSTILE,
    "evidence": HOSTILE,
    "next": HOSTILE,
    "target": "",
}


@pytest.fixture
def hostile(world, workspace, people):
    """The world, with hostile text wherever a row can hold text."""
    from django.utils import timezone

    tags = {HOSTILE[:60]: HOSTILE}
    workspace.display_name = HOSTILE[:100]
    workspace.save()
    people["olga"].first_name = HOSTILE[:100]
    people["olga"].save()
    OnlineEndpoint.objects.update(description=HOSTILE, tags=tags, error=ERROR)
    OnlineDeployment.objects.update(
        description=HOSTILE, tags=tags, error=ERROR, scoring_script=HOSTILE, environment_variables=tags, state="Failed"
    )
    signature = {"inputs": [{"type": HOSTILE, "name": HOSTILE}], "outputs": [{"type": HOSTILE}], "params": None}
    ModelVersion.objects.update(
        description=HOSTILE,
        tags=tags,
        source=HOSTILE,
        signature=signature,
        flavors={HOSTILE: {}},
        input_example=HOSTILE,
    )
    flow = make_pipeline_deployment(workspace)
    flow.settings = {"default_compute": HOSTILE, "default_datastore": HOSTILE}
    flow.save()
    ComponentVersion.objects.update(description=HOSTILE, tags=tags, display_name=HOSTILE[:200])
    for each in ComponentVersion.objects.all():
        each.spec["inputs"] = {"a": {"type": "string", "default": HOSTILE, "enum": [HOSTILE], "description": HOSTILE}}
        each.spec["outputs"] = {"scores": {"type": "uri_folder", "description": HOSTILE}}
        if each.type == "command":
            each.spec["command"] = HOSTILE
        else:
            each.spec["jobs"]["main"] |= {"inputs": {"a": HOSTILE.replace("{{", "")}, "compute": HOSTILE}
        each.save()
    world["environment"].description = HOSTILE
    world["environment"].conda_file = f"dependencies: [python=3.11, {json.dumps(HOSTILE)}]\n"
    world["environment"].save()
    Operation.objects.update(error=ERROR, state="failed")
    make_operation(
        world["endpoint"], "online-deployment.update", steps=[("start", "failed", HOSTILE)], lock="x", error=ERROR
    )
    for action in ("online-endpoint.traffic", HOSTILE[:64]):
        AuditRecord.objects.create(
            actor=people["olga"],
            action=action,
            workspace="lab",
            target="online-endpoint/flowers",
            detail={"before": {HOSTILE: 100}, "after": {HOSTILE: 100}, "mirror": {HOSTILE: 5}},
        )
    MlflowImport.objects.create(
        workspace=workspace, name=HOSTILE, version=HOSTILE[:60], made_ms=1, error=ERROR, retry_at=timezone.now()
    )
    Call.objects.create(
        user=people["olga"],
        endpoint=world["endpoint"],
        path="/score",
        content_type="application/json",
        body=HOSTILE,
        status=200,
        seconds=0.1,
        answered_by=HOSTILE[:60],
        answer=HOSTILE,
        request_id=HOSTILE[:90],
    )
    return world


def test_hostile_text_stays_text_on_every_page(hostile, browser):
    client = browser("olga")
    for name, address in gate.PAGES.items():
        page = client.get(address.format(operation=Operation.objects.latest("created_at").pk)).content.decode()
        # our own comments and elements are known: what is left is theirs
        assert [mark for mark in MARKS if mark in page.replace("<!DOCTYPE", "")] == [], name
    call = Call.objects.get()
    page = client.get(f"/w/lab/endpoints/flowers/test?call={call.pk}").content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert [mark for mark in MARKS if mark in page] == []


def test_what_forms_send_back_stays_text(hostile, browser):
    client = browser("olga")
    for name in ("studio:endpoint-create", "studio:deploy", "studio:endpoint-edit", "studio:environment-create"):
        address = gate.PAGES[name]
        fields = client.get(address).context["form"].fields
        page = client.post(address, dict.fromkeys(fields, HOSTILE)).content.decode()
        assert "&lt;script&gt;alert(1)" in page, name
        assert [mark for mark in MARKS if mark in page] == [], name


def test_hostile_text_in_code_cannot_leave_its_quotes():
    """What is shown as a command must be safe to paste: the text stays one argument."""
    import shlex

    writer = ascode.Writer("lab")
    ascode_online.endpoint(writer, {"name": "iris", "description": "it's $(rm -rf /) `id`", "auth_mode": "Key"})
    code = writer.done()
    words = shlex.split(code.curl.replace("\\\n", " "))
    body = json.loads(words[words.index("-d") + 1])
    assert body["properties"]["description"] == "it's $(rm -rf /) `id`"
    [(_id, _name, curl), *_rest] = ascode_calls.request("iris", path="/score", body='{"a": "\'; rm -rf / #"}')
    words = shlex.split(curl.replace("\\\n", " "))
    assert json.loads(words[words.index("-d") + 1]) == {"a": "'; rm -rf / #"}
