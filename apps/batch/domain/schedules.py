"""Schedules: what is due is invoked or sent, an endpoint or a pipeline job, in the name of who last changed it."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission, require
from apps.batch.domain import pipelines
from apps.batch.domain.jobs import invoke
from apps.batch.domain.specs import LONGEST_NAME, JobSpec, check_settings
from apps.batch.domain.triggers import cron_of, next_time, times
from apps.batch.models import BatchEndpoint, Job, Schedule
from apps.core import audit, events
from apps.core.errors import Problem
from apps.endpoints.rules import check_name

log = structlog.get_logger(__name__)

MOST = 1000  # of one workspace
AT_ONCE = 100  # schedules that fire in one round
SECRET = 32  # hexadecimal digits of a request's id
TOPIC = "schedules"


@dataclass(frozen=True)
class ScheduleSpec:
    """What a user says about a schedule: of an `endpoint`, or of a pipeline job.

    `deployment`: empty for the default one at that time. `definition`: of the job, as `pipelines.submit` takes it.
    `recurrence`: as `triggers` has it; what it means replaces `cron`.
    """

    endpoint: BatchEndpoint | None
    cron: str = ""
    time_zone: str = "UTC"
    job: JobSpec = field(default_factory=JobSpec)
    deployment: str = ""
    display_name: str = ""
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    enabled: bool = True
    definition: dict[str, Any] | None = None
    recurrence: dict[str, Any] | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None


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
    """One that has ended can be changed and stays so, unless it is given another end.

    Raises Problem "bad-field", "not-found".
    """
    return _change(schedule, "schedule.update", actor, **_values(schedule.workspace, spec, schedule))


@transaction.atomic
def enable_schedule(*, schedule: Schedule, enabled: bool, actor: Any) -> Schedule:
    """Switch it on or off; times that passed meanwhile are not made up for. Raises Problem "not-found"."""
    following = next_time(schedule, timezone.now()) if enabled else None
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
        "definition": schedule.definition,
        "recurrence": schedule.recurrence,
        "starts_at": schedule.starts_at,
        "ends_at": schedule.ends_at,
    }
    return ScheduleSpec(**values | changes)


def upcoming(schedule: Schedule, count: int) -> list[datetime]:
    """The next times it would fire, were it enabled."""
    return list(islice(times(schedule, timezone.now()), count))


def _values(workspace: Workspace, spec: ScheduleSpec, before: Schedule | None = None) -> dict[str, Any]:
    if spec.endpoint is not None:
        _check_invocation(workspace, spec.endpoint, spec)
    else:
        pipelines.draft(workspace=workspace, document=spec.definition or {})
    if len(spec.display_name) > LONGEST_NAME:
        reason = f"is longer than {LONGEST_NAME} characters"
        raise Problem("bad-field", field="displayName", reason=reason, target="displayName")
    if spec.recurrence:
        spec = replace(spec, cron=cron_of(spec.recurrence, spec.starts_at, spec.time_zone))
    spec = replace(spec, cron=" ".join(spec.cron.split()))
    following = _following(spec, before)
    names = ("cron", "time_zone", "display_name", "description", "tags", "enabled", "definition", "recurrence")
    return {name: getattr(spec, name) for name in (*names, "endpoint", "starts_at", "ends_at")} | {
        "body": asdict(spec.job),
        "deployment_name": spec.deployment,
        "next_at": following if spec.enabled else None,
        "last_error": None,
    }


def _following(spec: ScheduleSpec, before: Schedule | None) -> datetime | None:
    """When it is due next; None when it has ended. Raises Problem "bad-field" for an end that leaves it no time."""
    now = timezone.now()
    kept = before is not None and before.ends_at == spec.ends_at
    past = spec.ends_at is not None and spec.ends_at <= now
    if (past and (kept or not spec.enabled)) or (kept and before is not None and before.ended):
        return next(times(spec, now), None)
    return next_time(spec, now)


def _check_invocation(workspace: Workspace, endpoint: BatchEndpoint, spec: ScheduleSpec) -> None:
    if endpoint.workspace_id != workspace.pk:
        raise Problem("not-found", kind="batch endpoint", name=endpoint.name)
    if spec.deployment and not endpoint.deployments.filter(name__iexact=spec.deployment).exists():
        reason = f"endpoint {endpoint} has no deployment {spec.deployment[:60]!r}"
        raise Problem("bad-field", field="deployment", reason=reason, target="deployment")
    if spec.job.name:
        reason = "is made for each job: leave it out"
        raise Problem("bad-field", field="name", reason=reason, target="name")
    check_settings(spec.job.overrides)


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


# -- firing


def fire_due() -> int:
    """Invoke what is due; how many were. A time that passed while nobody looked fires once, late.

    The request's id is the schedule's and the time's, so a crash before the next time is written makes no second job.
    Nobody else can tell it: a job that a user sent under it would pass for the one that was made already.
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
        values["next_at"] = next(times(schedule, now), None) if schedule.ends_at else next_time(schedule, now)
    except Problem as problem:  # the last time there was
        values |= {"next_at": None, "last_error": problem.as_json()}
    if Schedule.objects.filter(pk=schedule.pk, next_at=due).update(**values):
        events.changed(schedule.workspace.name, TOPIC)


def trigger_schedule(*, schedule: Schedule, actor: Any) -> Job:
    """Do now what it does when it is due, in the name of who asks; its times stay as they are.

    Raises what `invoke` and `pipelines.submit` do.
    """
    job = _run(schedule, actor, str(uuid.uuid4()))
    Schedule.objects.filter(pk=schedule.pk).update(last_job=job, last_at=timezone.now(), last_error=None)
    audit.record(
        actor, "schedule.trigger", workspace=schedule.workspace.name, target=f"schedule/{schedule.name}", job=job.name
    )
    events.changed(schedule.workspace.name, TOPIC)
    return job


def _invoke(schedule: Schedule, due: datetime) -> Job:
    actor = schedule.modified_by
    if actor is None or not actor.is_active:
        reason = "Who changed this schedule last is not here any more; whoever saves it again answers for its jobs."
        raise Problem("conflict", reason=reason)
    require(actor, Permission.SCORE, schedule.workspace)
    request = f"schedule/{schedule.pk}/{due:%Y-%m-%dT%H:%MZ}"
    secret = salted_hmac("apps.batch.schedules", request, algorithm="sha256").hexdigest()[:SECRET]
    return _run(schedule, actor, f"{request}/{secret}")


def _run(schedule: Schedule, actor: Any, request_id: str) -> Job:
    """The job of a request; the same one when it was made already. The request's id is one that nobody can guess."""
    if schedule.endpoint is not None:
        job, _new = invoke(
            endpoint=schedule.endpoint,
            deployment=schedule.deployment_name or None,
            spec=JobSpec(**schedule.body),
            actor=actor,
            request_id=request_id,
        )
        return job
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, request_id))
    found = Job.objects.filter(workspace=schedule.workspace, name=name).first()
    if found is not None:
        return found
    document = schedule.definition or {}
    return pipelines.submit(workspace=schedule.workspace, document=document, name=name, actor=actor)
