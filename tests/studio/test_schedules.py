"""Schedules in the studio: several inputs, what describes them, and the same as code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import yaml
from django.utils import timezone

from apps.batch import domain
from apps.batch.models import BatchEndpoint, Schedule
from apps.studio.forms.schedules import MOST_INPUTS
from tests.factories import make_pipeline_deployment, make_schedule
from tests.studio.test_ascode import CODE, play, requests_of

pytestmark = pytest.mark.django_db(transaction=True)
WEB = "azureml://datastores/workspaceblobstore/paths/in"
CREATE = "/w/lab/create/schedule"
EDIT = "/w/lab/schedules/nightly/edit"
TIMES = ("cron", "time_zone", "recurrence", "starts_at", "ends_at")


def text(response):
    return " ".join(response.content.decode().split())


def form(**values):
    return {
        "name": "weekly",
        "endpoint": BatchEndpoint.objects.get(name="forests").pk,
        "cron": "0 6 * * 1",
        "time_zone": "Europe/Berlin",
        "display_name": "Every week",
        "description": "of the forests",
        "tags": "team=geo",
        "enabled": "on",
        "input_0_name": "data",
        "input_0_type": "UriFolder",
        "input_0_value": WEB,
        "input_1_name": "rate",
        "input_1_type": "Literal",
        "input_1_value": "0.5",
        "input_2_name": "",
        "input_2_type": "UriFolder",
        "input_2_value": "",
        **values,
    }


def test_several_inputs_and_what_describes_it_are_kept_shown_and_changed(world, browser):
    client = browser("dan")
    assert client.post(CREATE, form()).status_code == 302
    row = Schedule.objects.get(name="weekly")
    assert (row.display_name, row.tags) == ("Every week", {"team": "geo"})
    inputs = {"data": {"type": "UriFolder", "uri": WEB}, "rate": {"type": "Literal", "value": "0.5"}}
    assert row.body["inputs"] == inputs
    assert "Every week" in text(client.get("/w/lab/schedules?q=every"))
    address = "/w/lab/schedules/weekly/edit"
    page = text(client.get(address))
    assert all(each in page for each in ('value="0.5"', 'value="rate"', "team=geo", "Every week"))
    changed = form(input_1_name="", input_1_value="", display_name="", tags="")
    assert client.post(address, changed).status_code == 302
    row.refresh_from_db()
    assert (row.display_name, row.tags, set(row.body["inputs"])) == ("", {}, {"data"})


def test_what_the_form_does_not_know_of_the_job_stays(world, browser):
    row = Schedule.objects.get(name="nightly")
    body = row.body | {"overrides": {"mini_batch_size": 3}, "experiment_name": "night"}
    body["inputs"]["data"]["mode"] = "Download"
    Schedule.objects.filter(pk=row.pk).update(body=body)
    assert browser("dan").post(EDIT, form()).status_code == 302
    row.refresh_from_db()
    assert (row.body["overrides"], row.body["experiment_name"]) == ({"mini_batch_size": 3}, "night")
    assert row.body["inputs"]["data"]["mode"] == "Download"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"input_1_name": ""}, "input_1_name"),
        ({"input_1_type": "UriFile", "input_1_value": ""}, "input_1_value"),
        ({"input_1_name": "data"}, "input_1_name"),
        ({"input_0_value": ""}, "input_0_value"),
        ({f"input_{number}_{part}": "" for number in (0, 1) for part in ("name", "value")}, "input_0_value"),
        ({"input_1_type": "MLTable"}, "input_1_type"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"time_zone": "Nowhere"}, "time_zone"),
        ({"deployment": "nowhere"}, "deployment"),
        ({"display_name": "x" * 256}, "display_name"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(world, browser, values, field):
    answer = browser("dan").post(CREATE, form(**values))
    assert answer.status_code == 400
    assert field in answer.context["form"].errors
    assert not Schedule.objects.filter(name="weekly").exists()


@pytest.mark.parametrize("named", ["", "flow"])
def test_a_pipeline_without_inputs_needs_none(world, browser, named):
    pond = make_pipeline_deployment(world["workspace"], "ponds", inputs={})
    BatchEndpoint.objects.filter(pk=pond.endpoint_id).update(default_deployment=pond)
    empty = {f"input_{number}_{part}": "" for number in (0, 1) for part in ("name", "value")}
    sent = form(endpoint=pond.endpoint_id, deployment=named, **empty)
    client = browser("dan")
    assert client.post(CREATE, sent).status_code == 302
    assert Schedule.objects.get(name="weekly").body["inputs"] == {}
    assert client.post("/w/lab/schedules/weekly/edit", sent).status_code == 302


def test_inputs_that_a_form_cannot_show_survive_it(world, browser):
    shown = {"data": {"type": "UriFolder", "uri": WEB}, "empty": {"type": "Literal", "value": ""}}
    kept = {
        "lines": {"type": "Literal", "value": "one\ntwo\n"},
        "long": {"type": "Literal", "value": "x" * 2001},
        "edged": {"type": "Literal", "value": " x"},
    }
    many = {f"n{number:02}": {"type": "Literal", "value": str(number)} for number in range(60)}
    row = Schedule.objects.get(name="nightly")
    row.body["inputs"] = shown | kept | many
    row.save()
    client = browser("dan")
    page = client.get(EDIT)
    found = page.context["form"]
    assert len(found.inputs) == MOST_INPUTS
    assert set(found.kept) > set(kept)
    assert all(name in text(page) for name in found.kept)
    sent = {name: found[name].value() for name in found.fields if found[name].value() is not None}
    sent["input_0_name"] = "other"
    taken = sent | {"input_1_name": "long"}
    assert "input_1_name" in client.post(EDIT, taken).context["form"].errors
    assert client.post(EDIT, sent).status_code == 302
    row.refresh_from_db()
    changed = shown | kept | many
    name = found["input_0_name"].value()
    changed["other"] = changed.pop(name)
    assert row.body["inputs"] == changed


def test_a_form_of_many_rows_is_bounded(world, browser):
    many = {f"input_{number}_{part}": "x" for number in range(300) for part in ("name", "value")}
    answer = browser("dan").post(CREATE, form(**many))
    assert answer.status_code == 400
    assert sum(name.endswith("_value") for name in answer.context["form"].fields) == 50


def test_the_form_as_code_makes_the_same_row(world, browser):
    client = browser("dan")
    texts = client.post(CREATE, form(name="again"), headers=CODE).json()
    assert client.post(CREATE, form()).status_code == 302
    assert list(play(client, texts["curl"])) == [201]
    first, second = (Schedule.objects.get(name=name) for name in ("weekly", "again"))
    assert domain.schedule_spec_of(second) == domain.schedule_spec_of(first)
    assert "portway schedule create again --file schedule.yml -w lab" in texts["cli"].replace(" \\\n ", "")
    [(_method, _path, body)] = requests_of(texts["curl"])
    assert yaml.safe_load(texts["yaml"]) == body


def test_a_schedule_as_code_says_all_of_its_job(world, browser):
    made = make_schedule(BatchEndpoint.objects.get(name="forests"), "full")
    job = made.body | {"overrides": {"timeout_ms": 90_000, "max_retries": 0}, "tags": {"a": "b"}}
    Schedule.objects.filter(pk=made.pk).update(body=job)
    made.refresh_from_db()
    before = domain.schedule_spec_of(made)
    client = browser("dan")
    code = client.get("/w/lab/schedules/full/edit").context["code"]
    assert list(play(client, code.curl)) == [200]
    made.refresh_from_db()
    after = domain.schedule_spec_of(made)
    assert (after.job, after.cron, after.enabled) == (before.job, before.cron, before.enabled)


def test_a_schedule_of_jobs_is_shown_and_switched_but_no_form_changes_it(world, browser):
    client = browser("dan")
    made = Schedule.objects.create(
        workspace=world["workspace"], name="counts", cron="0 10 * * *", definition={"jobType": "Pipeline"}
    )
    page = text(client.get("/w/lab/schedules"))
    assert "Pipeline job" in page
    assert "/schedules/counts/edit" not in page
    refused = client.get("/w/lab/schedules/counts/edit")
    assert refused.status_code == 400
    assert "it makes a pipeline job" in text(refused)
    for enabled in (False, True):
        assert client.post("/w/lab/schedules/counts/enable").status_code == 302
        made.refresh_from_db()
        assert made.enabled is enabled
    assert client.post("/w/lab/schedules/counts/delete").status_code == 302


def test_a_recurrence_survives_the_form_unless_its_time_is_changed(world, browser):
    client = browser("dan")
    recurrence = {"frequency": "Week", "interval": 2, "schedule": {"weekDays": ["Monday"], "hours": [6]}}
    start = timezone.now() + timedelta(days=30)
    Schedule.objects.filter(name="nightly").update(
        cron="0 6 * * 1", time_zone="Europe/Berlin", recurrence=recurrence, starts_at=start
    )
    assert client.post(EDIT, form()).status_code == 302
    row = Schedule.objects.get(name="nightly")
    assert (row.recurrence, row.starts_at, row.description) == (recurrence, start, "of the forests")
    assert row.next_at >= start
    assert client.post(EDIT, form(time_zone="America/New_York")).status_code == 302
    row.refresh_from_db()
    assert (row.recurrence, row.starts_at, row.time_zone) == (recurrence, start, "America/New_York")
    assert client.post(EDIT, form(cron="0 7 * * 1")).status_code == 302
    row.refresh_from_db()
    assert (row.recurrence, row.cron, row.starts_at) == (None, "0 7 * * 1", start)


def test_recurrence_start_and_end_are_shown_and_told_as_code(world, browser):
    client = browser("dan")
    recurrence = {"frequency": "Week", "interval": 2, "schedule": {"weekDays": ["Monday"], "hours": [6]}}
    start, end = datetime(2026, 1, 5, 9, tzinfo=UTC), datetime(2999, 1, 5, 9, tzinfo=UTC)
    Schedule.objects.filter(name="nightly").update(
        cron="0 6 * * 1", time_zone="Europe/Berlin", recurrence=recurrence, starts_at=start, ends_at=end
    )
    answer = client.get(EDIT)
    page = text(answer)
    assert "Recurrence: frequency Week, interval 2 · Start time: 2026-01-05 09:00:00 UTC · End time: 2999-01-05" in page
    assert "takes the recurrence" in page
    before = domain.schedule_spec_of(Schedule.objects.get(name="nightly"))
    code = answer.context["code"]
    [(_method, _path, body)] = requests_of(code.curl)
    assert body["properties"]["trigger"] == {
        "triggerType": "Recurrence",
        **recurrence,
        "timeZone": "Europe/Berlin",
        "startTime": "2026-01-05T09:00:00Z",
        "endTime": "2999-01-05T09:00:00Z",
    }
    assert list(play(client, code.curl)) == [200]
    after = domain.schedule_spec_of(Schedule.objects.get(name="nightly"))
    assert [getattr(after, name) for name in TIMES] == [getattr(before, name) for name in TIMES]
    typed = client.post(EDIT, form(cron="0 7 * * 1", time_zone="Nowhere"), headers=CODE).json()
    [(_method, _path, body)] = requests_of(typed["curl"])
    assert (body["properties"]["trigger"]["triggerType"], "interval" in typed["curl"]) == ("Cron", False)


def test_one_that_has_ended_says_so_and_its_description_can_be_changed(world, browser):
    client = browser("dan")
    end = datetime(2026, 1, 5, 9, tzinfo=UTC)
    Schedule.objects.filter(name="nightly").update(ends_at=end, next_at=None)
    assert "Ended" in text(client.get("/w/lab/schedules"))
    assert client.post(EDIT, form(description="was nightly")).status_code == 302
    row = Schedule.objects.get(name="nightly")
    assert (row.description, row.ends_at, row.next_at, row.ended) == ("was nightly", end, None, True)
    body = client.get(EDIT).context["code"].curl
    assert list(play(client, body)) == [200]
