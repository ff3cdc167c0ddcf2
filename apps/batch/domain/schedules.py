"""Schedules: a batch endpoint is invoked whenever a cron expression says so, in the name of who last changed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim, CronSimError
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission, require
from apps.batch.domain.jobs import invoke
from apps.batch.domain.specs import LONGEST_NAME, JobSpec, check_settings
from apps.batch.models import BatchEndpoint, Schedule
from apps.core import audit, events
from apps.core.errors import Problem
from apps.endpoints.rules import check_name

log = structlog.get_logger(__name__)

FIELDS = 5  # minute, hour, day of the month, month, day of the week
LONGEST = 120
MOST = 1000  # of one workspace
AT_ONCE = 100  # schedules that fire in one round
TOPIC = "schedules"


@dataclass(frozen=True)
class ScheduleSpec:
    """What a user says about a schedule. `deployment`: empty for the default one at that time."""

    endpoint: BatchEndpoint
    cron: str
    time_zone: str = "UTC"
    job: JobSpec = field(default_factory=JobSpec)
    deployment: str = ""
    display_name: str = ""
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    enabled: bool = True


def create_schedule(*, workspace: Workspace, name: str, spec: ScheduleSpec, actor: Any) -> Schedule:
    """Raises Problem "bad-name", "bad-field", "exists", "limit"."""
    check_name("schedule", name)
    values = _values(workspace, spec)
    if Schedule.objects.filter(workspace=workspace).count() >= MOST:
        raise Problem("limit", limit=MOST, what="schedules of one workspace")
    try:
        with transaction.atomic():
            made = Schedule.objects.create(
                workspace=workspace, name=name, created_by=actor, modified_by=actor, **values
            )
            _record(made, "schedule.create", actor)
    except IntegrityError:
        raise Problem("exists", kind="Schedule", name=name, target="name") from None
    return made


@transaction.atomic
def update_schedule(*, schedule: Schedule, spec: ScheduleSpec, actor: Any) -> Schedule:
    """Raises Problem "bad-field", "not-found"."""
    return _change(schedule, "schedule.update", actor, **_values(schedule.workspace, spec))


@transaction.atomic
def enable_schedule(*, schedule: Schedule, enabled: bool, actor: Any) -> Schedule:
    """Switch it on or off; times that passed meanwhile are not made up for. Raises Problem "not-found"."""
    following = next_time(schedule.cron, schedule.time_zone, timezone.now()) if enabled else None
    return _change(schedule, "schedule.update", actor, enabled=enabled, next_at=following)


@transaction.atomic
def delete_schedule(*, schedule: Schedule, actor: Any) -> None:
    """Its jobs stay."""
    _record(schedule, "schedule.delete", actor)
    Schedule.objects.filter(pk=schedule.pk).delete()


def schedule_spec_of(schedule: Schedule, **changes: Any) -> ScheduleSpec:
    """The schedule as a spec, with some fields changed."""
    values: dict[str, Any] = {
        "endpoint": schedule.endpoint,
        "cron": schedule.cron,
        "time_zone": schedule.time_zone,
        "job": JobSpec(**schedule.body),
        "deployment": schedule.deployment_name,
        "display_name": schedule.display_name,
        "description": schedule.description,
        "tags": schedule.tags,
        "enabled": schedule.enabled,
    }
    return ScheduleSpec(**values | changes)


def upcoming(schedule: Schedule, count: int) -> list[datetime]:
    """The next times it would fire, were it enabled."""
    return list(islice(_times(schedule.cron, schedule.time_zone, timezone.now()), count))


def _values(workspace: Workspace, spec: ScheduleSpec) -> dict[str, Any]:
    if spec.endpoint.workspace_id != workspace.pk:
        raise Problem("not-found", kind="batch endpoint", name=spec.endpoint.name)
    if spec.deployment and not spec.endpoint.deployments.filter(name__iexact=spec.deployment).exists():
        reason = f"endpoint {spec.endpoint} has no deployment {spec.deployment[:60]!r}"
        raise Problem("bad-field", field="deployment", reason=reason, target="deployment")
    if spec.job.name:
        reason = "is made for each job: leave it out"
        raise Problem("bad-field", field="name", reason=reason, target="name")
    if len(spec.display_name) > LONGEST_NAME:
        reason = f"is longer than {LONGEST_NAME} characters"
        raise Problem("bad-field", field="displayName", reason=reason, target="displayName")
    check_settings(spec.job.overrides)
    following = next_time(spec.cron, spec.time_zone, timezone.now())
    return {
        "endpoint": spec.endpoint,
        "cron": " ".join(spec.cron.split()),
        "time_zone": spec.time_zone,
        "body": asdict(spec.job),
        "deployment_name": spec.deployment,
        "display_name": spec.display_name,
        "description": spec.description,
        "tags": spec.tags,
        "enabled": spec.enabled,
        "next_at": following if spec.enabled else None,
        "last_error": None,
    }


def _change(schedule: Schedule, action: str, actor: Any, **values: Any) -> Schedule:
    values |= {"modified_by": actor if getattr(actor, "pk", None) else None, "modified_at": timezone.now()}
    if not Schedule.objects.filter(pk=schedule.pk).update(**values):
        raise Problem("not-found", kind="schedule", name=schedule.name)
    _record(schedule, action, actor)
    schedule.refresh_from_db()
    return schedule


def _record(schedule: Schedule, action: str, actor: Any) -> None:
    audit.record(actor, action, workspace=schedule.workspace.name, target=f"schedule/{schedule.name}")
    events.changed(schedule.workspace.name, TOPIC)


# -- time


def next_time(cron: str, time_zone: str, after: datetime) -> datetime:
    """When it is due next. Raises Problem "bad-field" for what is no expression, no zone, or never due."""
    found = next(_times(cron, time_zone, after), None)
    if found is None:
        raise Problem("bad-field", field="cron", reason="is never due", target="cron")
    return found


def _times(cron: str, time_zone: str, after: datetime) -> Iterator[datetime]:
    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):  # OSError: a name that is a folder of the zones' data
        reason = f"{time_zone[:60]!r} is no time zone; write it as Europe/Berlin"
        raise Problem("bad-field", field="timeZone", reason=reason, target="timeZone") from None
    if len(cron.split()) != FIELDS or len(cron) > LONGEST:
        reason = "needs five fields: minute, hour, day of the month, month, day of the week"
        raise Problem("bad-field", field="cron", reason=reason, target="cron")
    try:
        return iter(CronSim(cron.upper(), after.astimezone(zone)))
    except CronSimError as error:
        raise Problem("bad-field", field="cron", reason=f"is no cron expression: {error}", target="cron") from None


# -- firing


def fire_due() -> int:
    """Invoke what is due; how many were. A time that passed while nobody looked fires once, late.

    The request's id is the schedule's and the time's, so a crash before the next time is written makes no second job.
    """
    rows = Schedule.objects.filter(enabled=True, next_at__lte=timezone.now()).select_related(
        "workspace", "endpoint__workspace", "modified_by"
    )
    found = list(rows.order_by("next_at")[:AT_ONCE])
    for schedule in found:
        _fire(schedule)
    return len(found)


def _fire(schedule: Schedule) -> None:
    now = timezone.now()
    due = schedule.next_at
    if due is None:
        return
    values: dict[str, Any] = {"last_at": now, "last_error": None}
    try:
        values["last_job"] = _invoke(schedule, due)
    except Problem as problem:
        log.warning("schedule.failed", schedule=schedule.name, reason=problem.message)
        values["last_error"] = problem.as_json()
    except Exception as error:  # its next time comes all the same, and the other schedules are not held up
        log.exception("schedule.crashed", schedule=schedule.name)
        values["last_error"] = Problem("internal", evidence=type(error).__name__).as_json()
    try:
        values["next_at"] = next_time(schedule.cron, schedule.time_zone, now)
    except Problem as problem:  # the last time there was
        values |= {"next_at": None, "last_error": problem.as_json()}
    if Schedule.objects.filter(pk=schedule.pk, next_at=due).update(**values):
        events.changed(schedule.workspace.name, TOPIC)


def _invoke(schedule: Schedule, due: datetime) -> Any:
    actor = schedule.modified_by
    if actor is None or not actor.is_active:
        reason = "Who changed this schedule last is not here any more; whoever saves it again answers for its jobs."
        raise Problem("conflict", reason=reason)
    require(actor, Permission.SCORE, schedule.workspace)
    job, _new = invoke(
        endpoint=schedule.endpoint,
        deployment=schedule.deployment_name or None,
        spec=JobSpec(**schedule.body),
        actor=actor,
        request_id=f"schedule/{schedule.pk}/{due:%Y-%m-%dT%H:%MZ}",
    )
    return job
