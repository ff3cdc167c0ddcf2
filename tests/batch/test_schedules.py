"""Schedules: due once, in a time zone, in somebody's name."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from django.utils import timezone

from apps.accounts.models import Membership, Workspace
from apps.batch import domain
from apps.batch.domain import schedules, triggers
from apps.batch.enums import JobState
from apps.batch.models import BatchEndpoint, Job, Schedule
from apps.core.errors import Problem
from apps.core.models import AuditRecord


@pytest.fixture
def planned(batch):
    """An endpoint that can be scheduled."""
    batch.deployment()
    batch.uri_in = batch.files(2)
    return batch


def spec(batch, cron="*/5 * * * *", **more):
    job = domain.JobSpec(inputs={"data": {"type": "UriFolder", "uri": batch.uri_in}})
    values = {"endpoint": BatchEndpoint.objects.get(name="forests"), "job": job, **more}
    return domain.ScheduleSpec(cron=cron, **values)


def make(batch, **more):
    return domain.create_schedule(
        workspace=batch.workspace, name="nightly", spec=spec(batch, **more), actor=batch.actor
    )


def come_due(schedule, *, minutes=1):
    past = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=minutes)
    Schedule.objects.filter(pk=schedule.pk).update(next_at=past)
    return past


def test_what_is_due_is_invoked_once_and_runs(planned):
    schedule = make(planned)
    assert schedules.fire_due() == 0
    due = come_due(schedule, minutes=600)  # nobody looked for hours
    assert schedules.fire_due() == 1
    assert schedules.fire_due() == 0
    schedule.refresh_from_db()
    job = schedule.last_job
    assert Job.objects.count() == 1
    assert job.created_by == planned.actor
    assert job.request_id.startswith(f"schedule/{schedule.pk}/{due:%Y-%m-%dT%H:%MZ}/")
    assert schedule.next_at > timezone.now()
    assert schedule.last_error is None
    planned.agent()
    assert planned.ended(job).state == JobState.COMPLETED


def test_a_crash_before_the_next_time_is_written_makes_no_second_job(planned):
    schedule = make(planned)
    due = come_due(schedule)
    schedules.fire_due()
    Schedule.objects.filter(pk=schedule.pk).update(next_at=due)
    schedules.fire_due()
    assert Job.objects.count() == 1


def test_a_job_that_somebody_sent_in_the_name_of_the_request_is_not_taken_for_it(planned):
    schedule = make(planned)
    due = come_due(schedule)
    guessed = f"schedule/{schedule.pk}/{due:%Y-%m-%dT%H:%MZ}"
    other, _new = domain.invoke(
        endpoint=schedule.endpoint, deployment=None, spec=spec(planned).job, actor=planned.actor, request_id=guessed
    )
    schedules.fire_due()
    schedule.refresh_from_db()
    assert schedule.last_job is not None
    assert schedule.last_job != other


def test_what_goes_wrong_is_told_and_the_next_time_comes(planned):
    schedule = make(planned, job=domain.JobSpec(inputs={"data": {"type": "UriFolder", "uri": planned.uri("gone")}}))
    come_due(schedule)
    schedules.fire_due()
    schedule.refresh_from_db()
    assert schedule.last_error["code"] == "input-missing"
    assert schedule.next_at > timezone.now()
    assert Job.objects.count() == 0


def test_who_may_not_submit_jobs_any_more_has_none_submitted(planned):
    schedule = make(planned)
    Membership.objects.filter(user=planned.actor).update(role="reader")
    come_due(schedule)
    schedules.fire_due()
    schedule.refresh_from_db()
    assert schedule.last_error["code"] == "forbidden"
    planned.actor.delete()
    come_due(schedule)
    schedules.fire_due()
    schedule.refresh_from_db()
    assert schedule.last_error["code"] == "conflict"
    assert Job.objects.count() == 0


def test_disabled_changed_and_deleted(planned):
    schedule = make(planned)
    domain.enable_schedule(schedule=schedule, enabled=False, actor=planned.actor)
    assert schedule.next_at is None
    assert schedules.fire_due() == 0
    domain.enable_schedule(schedule=schedule, enabled=True, actor=planned.actor)
    assert schedule.next_at > timezone.now()
    changed = domain.schedule_spec_of(schedule, cron="0  3 * * mon", description="weekly")
    domain.update_schedule(schedule=schedule, spec=changed, actor=planned.actor)
    assert (schedule.cron, schedule.next_at.astimezone(UTC).hour, schedule.description) == ("0 3 * * mon", 3, "weekly")
    assert len(schedules.upcoming(schedule, 5)) == 5
    domain.delete_schedule(schedule=schedule, actor=planned.actor)
    assert not Schedule.objects.exists()
    actions = AuditRecord.objects.filter(target="schedule/nightly").values_list("action", flat=True)
    assert set(actions) == {"schedule.create", "schedule.update", "schedule.delete"}
    with pytest.raises(Problem, match="no schedule"):
        domain.update_schedule(schedule=schedule, spec=spec(planned), actor=planned.actor)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": "* " * 200}, "cron"),
        ({"time_zone": "Nowhere/City"}, "timeZone"),
        ({"time_zone": "../../etc/passwd"}, "timeZone"),
        ({"time_zone": "Europe"}, "timeZone"),
        ({"time_zone": ""}, "timeZone"),
        ({"deployment": "green"}, "deployment"),
        ({"job": domain.JobSpec(name="mine")}, "name"),
    ],
)
def test_what_cannot_be_is_refused(planned, values, field):
    with pytest.raises(Problem) as refused:
        make(planned, **values)
    assert (refused.value.code, refused.value.target) == ("bad-field", field)
    assert not Schedule.objects.exists()


def test_a_schedule_ends_after_its_last_time_without_an_error(planned):
    schedule = make(planned, ends_at=timezone.now() + timedelta(hours=1))
    assert schedule.next_at is not None
    come_due(schedule)
    Schedule.objects.update(ends_at=timezone.now())
    assert schedules.fire_due() == 1
    schedule.refresh_from_db()
    assert (schedule.next_at, schedule.last_error, Job.objects.count()) == (None, None, 1)
    with pytest.raises(Problem, match="endTime"):
        domain.enable_schedule(schedule=schedule, enabled=True, actor=planned.actor)
    changed = domain.schedule_spec_of(schedule, enabled=False)
    assert domain.update_schedule(schedule=schedule, spec=changed, actor=planned.actor).enabled is False


def test_one_that_has_ended_can_be_changed_and_stays_so(planned):
    schedule = make(planned)
    Schedule.objects.update(ends_at=timezone.now() - timedelta(hours=1), next_at=None)
    schedule.refresh_from_db()
    changed = domain.schedule_spec_of(schedule, description="was nightly")
    schedule = domain.update_schedule(schedule=schedule, spec=changed, actor=planned.actor)
    assert (schedule.description, schedule.enabled, schedule.next_at, schedule.ended) == (
        "was nightly",
        True,
        None,
        True,
    )
    for more in ({"ends_at": timezone.now() - timedelta(minutes=1)}, {"cron": "61 * * * *"}):
        changed = domain.schedule_spec_of(schedule, **more)
        with pytest.raises(Problem):
            domain.update_schedule(schedule=schedule, spec=changed, actor=planned.actor)
    changed = domain.schedule_spec_of(schedule, ends_at=timezone.now() + timedelta(days=1))
    schedule = domain.update_schedule(schedule=schedule, spec=changed, actor=planned.actor)
    assert schedule.next_at is not None
    assert not schedule.ended


def test_one_without_a_time_left_before_its_end_has_ended_too(planned):
    end = timezone.now() + timedelta(days=2)
    schedule = make(planned, ends_at=end)
    yearly = f"0 0 {(end - timedelta(days=30)):%d %m} *"
    Schedule.objects.update(next_at=None, cron=yearly)
    schedule.refresh_from_db()
    changed = domain.schedule_spec_of(schedule, description="over")
    assert domain.update_schedule(schedule=schedule, spec=changed, actor=planned.actor).ended
    changed = domain.schedule_spec_of(schedule, cron="* * * * *")
    assert not domain.update_schedule(schedule=schedule, spec=changed, actor=planned.actor).ended
    changed = domain.schedule_spec_of(schedule, cron=yearly)
    with pytest.raises(Problem, match="endTime"):
        domain.update_schedule(schedule=schedule, spec=changed, actor=planned.actor)


def test_names_are_unique_and_endpoints_of_other_workspaces_not_there(planned):
    make(planned)
    with pytest.raises(Problem) as twice:
        make(planned)
    assert twice.value.code == "exists"
    other = Workspace.objects.create(name="other")
    with pytest.raises(Problem) as foreign:
        domain.create_schedule(workspace=other, name="nightly", spec=spec(planned), actor=planned.actor)
    assert foreign.value.code == "not-found"


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (datetime(2026, 3, 28, 2, 0, tzinfo=UTC), ["2026-03-29 01:00", "2026-03-30 00:30"]),  # 02:30 is left out
        (datetime(2026, 10, 24, 12, 0, tzinfo=UTC), ["2026-10-25 00:30", "2026-10-26 01:30"]),  # 02:30 comes twice
    ],
)
def test_a_time_of_day_when_the_clock_is_changed_comes_once(after, expected):
    times = islice(triggers.times(domain.ScheduleSpec(None, "30 2 * * *", "Europe/Berlin"), after), 2)
    assert [f"{each.astimezone(UTC):%Y-%m-%d %H:%M}" for each in times] == expected
