"""Bringing a pipeline forward: its steps become jobs when what they wait for is done.

`advance` may be called at any time, by several at once, and be killed anywhere: it looks at the rows and does what is
missing. It is called when a step ends, and by the controller for what nobody told.
"""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Count, Q
from django.utils import timezone

from apps.batch.engine import lifecycle, steps
from apps.batch.engine.plan import Plan
from apps.batch.enums import JobState, JobType
from apps.batch.models import Job
from apps.core import leases
from apps.core.errors import Problem, stored_problem

log = structlog.get_logger(__name__)

LIVE = (JobState.RUNNING, JobState.CANCEL_REQUESTED)
LEASE_S, WAIT_S = 120.0, 5.0
AT_ONCE = 1000  # pipelines of one sweep

Children = dict[str, Job]


def sweep() -> None:
    """Advance each pipeline whose steps have got further than it knows. One pipeline's trouble holds up no other."""
    ended = Count("children", filter=Q(children__state__in=JobState.ended()))
    rows = Job.objects.filter(type=JobType.PIPELINE, state__in=LIVE).annotate(steps=Count("children"), ended=ended)
    for job in rows.order_by("modified_at")[:AT_ONCE]:
        known = job.done + job.failed
        if job.state == JobState.CANCEL_REQUESTED or job.ended != known or job.steps == job.ended:
            try:
                advance(job.pk)
            except Exception:
                log.exception("pipeline.failed", job=job.name)


def advance(pk: uuid.UUID | str) -> None:
    """Do what can be done for a pipeline now."""
    rows = Job.objects.filter(pk=pk, type=JobType.PIPELINE, state__in=LIVE)
    if not rows.exists():
        return
    try:
        with leases.held(f"pipeline/{pk}", ttl_s=LEASE_S, wait_s=WAIT_S) as grant:
            job = rows.select_related("workspace", "created_by").first()
            if job is not None:
                _advance(job)
            if not rows.exists():
                leases.drop(grant)
    except leases.LeaseTaken:
        log.info("pipeline.busy", job=str(pk))


def _advance(job: Job) -> None:
    children = {each.step: each for each in job.children.select_related("workspace", "parent", "cluster")}
    if job.state == JobState.CANCEL_REQUESTED:
        if not _stop(job, children):
            lifecycle.end(job, JobState.CANCELED)
        return
    plan = Plan.of(job.settings)
    again = True
    while again:  # what was done before need not run: the next step may be due at once
        again = _start_due(job, plan, children)
    _count(job, children)
    if len(children) == len(plan.graph.steps) and not any(each.live for each in children.values()):
        _end(job, plan, children)


def _stop(job: Job, children: Children) -> bool:
    """Ask every step to stop; whether any still runs."""
    live = [each for each in children.values() if each.live]
    for each in live:
        with transaction.atomic():
            lifecycle.cancel(each, job.created_by)
    return bool(live)


def _start_due(job: Job, plan: Plan, children: Children) -> bool:
    """Make the jobs of steps that can run, and of those that never will; whether one of them has ended already."""
    done = {step for step, each in children.items() if each.state == JobState.COMPLETED}
    lost = {step for step, each in children.items() if not each.live} - done
    go_on = plan.settings.continue_on_step_failure
    due, skipped = plan.graph.ready(done, lost, continue_on_step_failure=go_on)
    if lost and not go_on:
        _stop(job, children)
    before = len(children)
    ended = False
    for step in due:
        if step not in children:
            children[step] = _make(job, plan, step, children)
            ended |= not children[step].live
    for step in skipped:
        if step not in children:
            values = {"state": JobState.CANCELED, "ended_at": timezone.now()}
            error = Problem("step-skipped", step=step).as_json()
            children[step] = _saved(_child(job, plan, step, **values, error=error))
    return ended and len(children) > before


def _make(job: Job, plan: Plan, step: str, children: Children) -> Job:
    """The job of a step: a new one, one that was done before, or one that failed because it cannot be made."""
    try:
        values = steps.prepare(job, plan, plan.graph.steps[step], children)
    except Problem as problem:
        log.info("pipeline.step_refused", job=job.name, step=step, reason=problem.message)
        values = {"state": JobState.FAILED, "error": problem.as_json(), "ended_at": timezone.now()}
    return _saved(_child(job, plan, step, **values))


def _child(job: Job, plan: Plan, step: str, **values: Any) -> Job:
    return Job(
        workspace=job.workspace,
        type=JobType.COMMAND,
        parent=job,
        step=step,
        name=steps.name_of(job, step),
        display_name=plan.graph.steps[step].display_name or step[:255],
        experiment_name=job.experiment_name,
        created_by=job.created_by,
        **values,
    )


def _saved(child: Job) -> Job:
    """The row, written once: whoever came first has made it."""
    try:
        with transaction.atomic():
            if child.live:
                lifecycle.submit(child, child.created_by)
            else:
                child.save(force_insert=True)
                lifecycle.changed(child)
    except IntegrityError:
        found: Job = Job.objects.get(parent=child.parent, step=child.step)
        return found
    return child


def _count(job: Job, children: Children) -> None:
    done = sum(each.state == JobState.COMPLETED for each in children.values())
    failed = sum(not each.live for each in children.values()) - done
    if (job.done, job.failed) != (done, failed):
        Job.objects.filter(pk=job.pk).update(done=done, failed=failed, modified_at=timezone.now())
        job.done, job.failed = done, failed
        lifecycle.changed(job)


def _end(job: Job, plan: Plan, children: Children) -> None:
    _bind_outputs(job, plan, children)
    bad = [children[step] for step in plan.graph.order() if children[step].state != JobState.COMPLETED]
    if not bad:
        lifecycle.end(job, JobState.COMPLETED)
        return
    first = next((each for each in bad if each.state == JobState.FAILED), bad[0])
    cause = stored_problem(first.error) if first.error else Problem("canceled")
    problem = Problem(
        "step-failed", step=first.step, reason=cause.message, evidence=cause.evidence, target=f"jobs.{first.step}"
    )
    lifecycle.end(job, JobState.FAILED, problem)


def _bind_outputs(job: Job, plan: Plan, children: Children) -> None:
    """The outputs of the pipeline are where its steps wrote them, maybe in an earlier job."""
    for name, step in plan.graph.steps.items():
        for key, output in step.outputs.items():
            if output.parent and children[name].state == JobState.COMPLETED:
                job.outputs[output.parent] |= {"uri": children[name].outputs[key]["uri"]}
    Job.objects.filter(pk=job.pk).update(outputs=job.outputs)
