"""Schedules over REST; every field of them fuzzed."""

import uuid

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Workspace
from apps.batch.domain import schedules
from apps.batch.models import Job, Schedule
from apps.core.models import AuditRecord
from apps.registry import locations
from apps.registry.domain import register_component
from tests.api import batch_bodies as bodies
from tests.api.batch_bodies import ARM, DROP, SHORT, paths, with_changes
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_cluster, make_environment
from tests.batch.test_schedules import come_due

pytestmark = pytest.mark.django_db(transaction=True)
NIGHTLY = f"{ARM}/schedules/nightly"
BODY = {
    "properties": {
        "displayName": "Every night",
        "description": "every night",
        "tags": {"team": "geo"},
        "isEnabled": True,
        "trigger": {"triggerType": "cron", "expression": "30 2 * * mon-fri", "timeZone": "Europe/Berlin"},
        "action": {
            "actionType": "InvokeBatchEndpoint",
            "endpointInvocationDefinition": {
                "batchEndpoint": f"{ARM}/batchEndpoints/forests",
                "deploymentName": "blue",
                "properties": {
                    **bodies.INVOKE["properties"],
                    "displayName": "nightly scores",
                    "tags": {"a": "b"},
                    "compute": {"instanceCount": 1},
                    "miniBatchSize": 3,
                    "errorThreshold": -1,
                    "retrySettings": {"maxRetries": 1, "timeout": "PT1M"},
                    "outputFileName": "all.csv",
                    "loggingLevel": "Debug",
                },
            },
        },
    }
}
DEFINITION = "properties.action.endpointInvocationDefinition"
WEIRD = [None, "", "x" * 200, -1, 0, 2**40, 1.5, True, [], [None], {}, [{}], {"a": {"b": []}}, "PT", "\u0663", "a:x"]


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


@pytest.fixture
def blue(workspace):
    folder = locations.resolve(bodies.DATA, workspace=workspace, actor=None).local_path()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.csv").write_text("1\n")
    return make_batch_deployment(make_batch_endpoint(workspace))


def test_the_life_of_a_schedule(api, blue):
    made = api.put(NIGHTLY, BODY, format="json")
    assert made.status_code == 201, made.content
    shown = made.json()
    assert (shown["id"], shown["type"]) == (NIGHTLY, "Microsoft.MachineLearningServices/workspaces/schedules")
    properties = shown["properties"]
    assert properties["trigger"] == BODY["properties"]["trigger"] | {"triggerType": "Cron"}
    definition = properties["action"]["endpointInvocationDefinition"]
    sent = BODY["properties"]["action"]["endpointInvocationDefinition"]["properties"]
    experiment = {"experimentName": "exp1"}  # the SDK hides it in the properties
    assert definition["properties"] == {k: v for k, v in sent.items() if k != "properties"} | experiment
    assert (definition["batchEndpoint"], definition["deploymentName"]) == ("forests", "blue")
    told = properties["properties"]
    assert (told["lastJob"], told["lastError"], len(told["nextRuns"].split(","))) == ("", "", 3)
    assert (properties["displayName"], properties["tags"]) == ("Every night", {"team": "geo"})
    assert api.get(f"{SHORT}/schedules").json()["value"] == [shown]

    again = api.put(NIGHTLY, shown, format="json")  # what was read can be sent back
    assert again.status_code == 200, again.content
    changing = ("systemData",)
    assert {k: v for k, v in again.json().items() if k not in changing} == {
        k: v for k, v in shown.items() if k not in changing
    }
    off = api.put(NIGHTLY, with_changes(shown, {"properties.isEnabled": False}), format="json").json()["properties"]
    assert (off["isEnabled"], off["properties"]["nextRuns"]) == (False, "")
    assert Schedule.objects.get().next_at is None
    bare = with_changes(shown, {"properties.displayName": DROP, "properties.tags": DROP})
    told = api.put(NIGHTLY, bare, format="json").json()["properties"]
    assert (told["displayName"], told["tags"]) == (None, {})  # a PUT says all of it

    assert api.delete(NIGHTLY).status_code == 204
    assert api.delete(NIGHTLY).status_code == 204
    assert api.get(NIGHTLY).status_code == 404


def test_what_it_made_and_what_went_wrong_is_told(api, blue):
    api.put(NIGHTLY, BODY, format="json")
    come_due(Schedule.objects.get())
    schedules.fire_due()
    job = Job.objects.get()
    assert (job.display_name, job.created_by.username, job.settings["mini_batch_size"]) == ("nightly scores", "dan", 3)
    assert api.get(NIGHTLY).json()["properties"]["properties"]["lastJob"] == job.name
    blue.state = "Failed"
    blue.save()
    come_due(Schedule.objects.get(), minutes=2)
    schedules.fire_due()
    assert "is not ready" in api.get(NIGHTLY).json()["properties"]["properties"]["lastError"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"properties.trigger.expression": "61 * * * *"}, "cron"),
        ({"properties.trigger.expression": "0 0 31 2 *"}, "Bad day-of-month"),
        ({"properties.trigger.timeZone": "Nowhere/City"}, "no time zone"),
        ({"properties.trigger.triggerType": "Recurrence"}, "Recurrence"),
        ({"properties.trigger.startTime": "at dawn"}, "startTime"),
        ({"properties.trigger.endTime": "2026-01-01T00:00:00"}, "endTime: comes before"),
        ({"properties.trigger.interval": 1}, "properties.trigger.interval"),
        ({"properties.action.actionType": "CreateJob"}, "CreateJob"),
        ({f"{DEFINITION}.batchEndpoint": "meadows"}, "no batch endpoint 'meadows'"),
        ({f"{DEFINITION}.batchEndpoint": "hidden"}, "no batch endpoint 'hidden'"),
        ({f"{DEFINITION}.batchEndpoint": f"{ARM}/batchEndpoints/hidden".replace("lab", "other")}, "workspace other"),
        ({f"{DEFINITION}.deploymentName": "green"}, "no deployment 'green'"),
        ({f"{DEFINITION}.properties.name": "mine"}, "leave it out"),
        ({f"{DEFINITION}.properties.miniBatchSize": 0}, "miniBatchSize"),
        ({f"{DEFINITION}.properties.inputData.heart.uri": DROP}, "needs a uri"),
        ({"properties.displayName": "x" * 256}, "displayName"),
        ({"properties.properties": {"a": "b"}}, "properties"),
    ],
)
def test_what_cannot_be_is_400_and_says_why(api, blue, people, change, told):
    make_batch_endpoint(Workspace.objects.get(name="other"), "hidden")
    answer = api.put(NIGHTLY, with_changes(BODY, change), format="json")
    assert answer.status_code == 400, answer.content
    assert told in answer.json()["error"]["message"]
    assert not Schedule.objects.exists()


def test_a_name_that_is_none_is_400(api, blue):
    for name in ("x", "1st", "a b", "n" * 40):
        assert api.put(f"{SHORT}/schedules/{name}", BODY, format="json").status_code == 400
    assert not Schedule.objects.exists()


def test_no_value_of_any_field_is_a_5xx_or_leaves_half_of_a_thing(api, blue):
    for field in paths(BODY):
        for value in [*WEIRD, DROP]:
            answer = api.put(f"{SHORT}/schedules/nightly", with_changes(BODY, {field: value}), format="json")
            assert answer.status_code in {201, 400}, (field, value, answer.content)
            made = Schedule.objects.count()
            records = AuditRecord.objects.filter(action="schedule.create").count()
            assert made == records == (answer.status_code == 201), (field, value)
            if made:
                assert api.get(NIGHTLY).status_code == 200
                again = api.put(NIGHTLY, answer.json(), format="json")
                assert again.status_code == 200, (field, value, again.content)
            Schedule.objects.all().delete()
            AuditRecord.objects.all().delete()


# -- schedules of jobs, as the SDK sends them

DAILY = {"triggerType": "Recurrence", "frequency": "Day", "interval": 1, "schedule": {"hours": [10], "minutes": [0, 1]}}
OF_JOB = {
    "properties": {
        "displayName": "Every day",
        "isEnabled": True,
        "trigger": {**DAILY, "timeZone": "Pacific Standard Time", "startTime": "2026-01-01 10:00:00"},
        "action": {
            "actionType": "CreateJob",
            "jobDefinition": {
                "jobType": "Pipeline",
                "displayName": "counts",
                "experimentName": "exp",
                "isArchived": False,
                "settings": {"default_compute": "cpu"},
                "jobs": {"one": {"type": "command", "componentId": f"{ARM}/components/hello/versions/1"}},
            },
        },
    }
}
STEPS = "properties.action.jobDefinition"


@pytest.fixture
def hello(workspace):
    make_cluster(workspace, "cpu")
    document = {"type": "command", "command": "echo hi", "environment": "azureml:plain:1"}
    make_environment(workspace)
    register_component(workspace=workspace, name="hello", document=document, actor=None, version="1")


def test_the_life_of_a_schedule_of_jobs(api, hello):
    made = api.put(NIGHTLY, OF_JOB, format="json")
    assert made.status_code == 201, made.content
    shown = made.json()["properties"]
    assert shown["trigger"] == OF_JOB["properties"]["trigger"] | {"startTime": "2026-01-01T10:00:00"}
    definition = OF_JOB["properties"]["action"]["jobDefinition"]
    assert shown["action"]["jobDefinition"] == {k: v for k, v in definition.items() if k != "isArchived"}
    assert api.put(NIGHTLY, made.json(), format="json").status_code == 200
    schedule = Schedule.objects.get()
    assert (schedule.cron, schedule.endpoint) == ("0,1 10 * * *", None)
    due = come_due(schedule)
    assert schedules.fire_due() == 1
    Schedule.objects.update(next_at=due)  # as after a crash before that was written
    schedules.fire_due()
    job = Job.objects.get()
    assert (job.display_name, job.experiment_name, job.created_by.username) == ("counts", "exp", "dan")
    answer = api.post(f"{NIGHTLY}/trigger", {"scheduleTime": "2026-01-01T00:00:00+00:00"}, format="json")
    assert answer.json()["scheduleActionType"] == "CreateJob"
    assert set(Job.objects.values_list("name", flat=True)) == {job.name, answer.json()["submissionId"]}
    assert AuditRecord.objects.filter(action="schedule.trigger").count() == 1
    assert api.get(NIGHTLY).json()["properties"]["properties"]["lastJob"] == answer.json()["submissionId"]


def test_schedules_are_listed_by_whether_they_are_enabled(api, hello, blue):
    api.put(NIGHTLY, OF_JOB, format="json")
    api.put(f"{ARM}/schedules/disabled", with_changes(BODY, {"properties.isEnabled": False}), format="json")

    def names(view):
        answer = api.get(f"{SHORT}/schedules?listViewType={view}").json()
        return [each["name"] for each in answer["value"]]

    assert (names("EnabledOnly"), names("DisabledOnly"), names("All")) == (
        ["nightly"],
        ["disabled"],
        ["disabled", "nightly"],
    )
    assert api.get(f"{SHORT}/schedules?listViewType=x").status_code == 400
    run = api.post(f"{SHORT}/schedules/disabled/trigger", {}, format="json").json()
    assert run == {"scheduleActionType": "InvokeBatchEndpoint", "submissionId": Job.objects.get().name}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({f"{STEPS}.jobType": "Command"}, "make a command a step"),
        ({f"{STEPS}.jobs.one.componentId": f"{ARM}/components/nothing/versions/1"}, "nothing"),
        ({f"{STEPS}.settings.default_compute": "none"}, "no cluster"),
        ({f"{STEPS}.surprise": 1}, "surprise"),
        ({STEPS: DROP}, "jobDefinition"),
        ({"properties.action.endpointInvocationDefinition": {"batchEndpoint": "x"}}, "CreateJob has none"),
        ({"properties.trigger.frequency": "Year"}, "frequency"),
        ({"properties.trigger.interval": 0}, "interval"),
        ({"properties.trigger.interval": DROP}, "is required"),
        ({"properties.trigger.expression": "* * * * *"}, "Recurrence has none"),
        ({"properties.trigger.schedule.weekDays": ["Monday"]}, "weekDays"),
        ({"properties.trigger.schedule.hours": [25]}, "hours"),
        ({"properties.trigger.timeZone": "Nowhere Standard Time"}, "no time zone"),
    ],
)
def test_what_no_job_can_be_made_of_is_400(api, hello, change, told):
    answer = api.put(NIGHTLY, with_changes(OF_JOB, change), format="json")
    assert answer.status_code == 400, answer.content
    assert told in answer.json()["error"]["message"]
    assert not Schedule.objects.exists()


@pytest.mark.parametrize("field", ["hours", "minutes", "weekDays", "monthDays"])
def test_a_number_of_a_recurrence_is_not_null(api, hello, field):
    answer = api.put(NIGHTLY, with_changes(OF_JOB, {f"properties.trigger.schedule.{field}": [None]}), format="json")
    assert answer.status_code == 400, answer.content
    assert field in answer.json()["error"]["message"]


def test_a_job_sent_under_the_name_that_used_to_be_made_of_the_time_is_not_taken(api, hello):
    assert api.put(NIGHTLY, OF_JOB, format="json").status_code == 201
    schedule = Schedule.objects.get()
    due = come_due(schedule)
    guessed = uuid.uuid5(uuid.NAMESPACE_URL, f"schedule/{schedule.pk}/{due:%Y-%m-%dT%H:%MZ}")
    job = {"properties": OF_JOB["properties"]["action"]["jobDefinition"]}
    assert api.put(f"{ARM}/jobs/{guessed}", job, format="json").status_code in {200, 201}
    assert schedules.fire_due() == 1
    schedule.refresh_from_db()
    assert schedule.last_job is not None
    assert schedule.last_job.name != str(guessed)


def test_no_value_of_any_field_of_a_job_is_a_5xx(api, hello):
    for field in paths(OF_JOB):
        for value in [*WEIRD, DROP]:
            answer = api.put(NIGHTLY, with_changes(OF_JOB, {field: value}), format="json")
            assert answer.status_code in {200, 201, 400}, (field, value, answer.content)
            if answer.status_code != 400:
                again = api.put(NIGHTLY, api.get(NIGHTLY).json(), format="json")
                assert again.status_code == 200, (field, value, again.content)
