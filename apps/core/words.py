"""Words that the pages of the studio and of the console share: for states, operations, times and durations.

A state is a dot, a shape and a word, never colour alone. Those of an enum have tone and label there, the others here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from apps.core.models import OperationState

NONE = "–"  # noqa: RUF001 -- the sign for "nothing" on every page

NAMED: dict[str, tuple[str, str | Promise]] = {
    "active": ("ok", _("Active")),
    "deactivated": ("idle", _("Deactivated")),
    "on": ("ok", _("On")),
    "off": ("idle", _("Off")),
    "no-engine": ("failed", _("No container engine")),
    "enabled": ("ok", _("Enabled")),
    "disabled": ("idle", _("Disabled")),
    "ended": ("idle", _("Ended")),
    "failed-last": ("failed", _("Failed last")),
    "offered": ("ok", _("Offered")),
    "hidden": ("idle", _("Hidden")),
    "whole": ("ok", _("Whole")),
    "cut-down": ("degraded", _("Cut down")),
    "alive": ("ok", _("Alive")),
    "lost": ("failed", _("Lost")),
    "gone": ("idle", _("Gone")),
    "not-begun": ("idle", _("Not begun")),
    "expired": ("failed", _("Expired")),
    "waiting": ("degraded", _("Waiting for room")),
    "up": ("ok", _("Up")),
    "down": ("failed", _("Down")),
}

OPERATIONS = {
    "online-endpoint.create": _("Create endpoint"),
    "online-endpoint.update": _("Update endpoint"),
    "online-endpoint.delete": _("Delete endpoint"),
    "online-endpoint.traffic": _("Change traffic"),
    "online-endpoint.regenerate-key": _("Regenerate key"),
    "online-deployment.create": _("Create deployment"),
    "online-deployment.update": _("Update deployment"),
    "online-deployment.deploy": _("Deploy"),
    "online-deployment.delete": _("Delete deployment"),
    "operation.cancel": _("Cancel operation"),
    "model.register": _("Register model"),
    "environment.build": _("Build environment"),
    "model.package": _("Package model"),
    "package.export": _("Export package"),
    "environment.register": _("Register environment"),
    "replica.restart": _("Restart instance"),
    "replica.stop": _("Stop instance"),
    "replica.start": _("Start instance"),
    "job.prepare": _("Prepare job"),
    "job.finish": _("Finish job"),
    "job.cancel": _("Cancel job"),
    "job.retry": _("Retry failed mini-batches"),
    "job.update": _("Update job"),
    "batch-endpoint.create": _("Create batch endpoint"),
    "batch-endpoint.update": _("Update batch endpoint"),
    "batch-endpoint.delete": _("Delete batch endpoint"),
    "batch-deployment.create": _("Create batch deployment"),
    "batch-deployment.update": _("Update batch deployment"),
    "batch-deployment.delete": _("Delete batch deployment"),
    "cluster.create": _("Create cluster"),
    "cluster.update": _("Update cluster"),
    "cluster.delete": _("Delete cluster"),
    "environments.prune": _("Prune environments"),
    "packages.prune": _("Prune package cache"),
}
STEPS = {
    "endpoint": _("Endpoint"),
    "traffic": _("Move traffic"),
    "environment": _("Environment"),
    "image": _("Image"),
    "start": _("Start instances"),
    "route": _("Route"),
    "drain": _("Drain old instances"),
    "stop": _("Stop instances"),
    "prune": _("Prune"),
    "input": _("List the input"),
    "workers": _("End the workers"),
    "results": _("Put the results together"),
    "address": _("Address"),
    "place": _("Find room"),
    "nodes": _("Give the nodes back"),
    "remove": _("Remove"),
}


def state(tone: str, word: Any) -> SafeString:
    return format_html('<span class="state" data-tone="{}">{}</span>', tone, word)


def named(name: str) -> SafeString:
    return state(*NAMED[name])


def word(name: str) -> str:
    """The word alone, for a place that has its own mark."""
    return str(NAMED[name][1])


def state_of(row: Any) -> SafeString:
    """Of a row with a state of an enum. A cluster that gets no more nodes says so instead."""
    return named("waiting") if getattr(row, "waiting", None) else state(row.tone, row.get_state_display())


def kind_name(kind: str) -> str:
    """What an operation does; of a record of the audit trail also how it ended."""
    stem, _dot, end = kind.rpartition(".")
    if stem in OPERATIONS and end in OperationState.values:
        return f"{OPERATIONS[stem]} · {OperationState(end).label}"
    return str(OPERATIONS.get(kind) or kind.replace(".", " · ").replace("-", " "))


def kinds_called(text: str) -> list[str]:
    """The kinds of operations whose name for people holds this text."""
    return [kind for kind, name in OPERATIONS.items() if text.casefold() in str(name).casefold()]


def step_name(name: str) -> str:
    return str(STEPS.get(name, name))


def ago(moment: datetime | None) -> SafeString | str:
    if not moment:  # also what a template makes of nothing
        return NONE
    text = date_format(localtime(moment), "Y-m-d H:i")
    return format_html('<relative-time datetime="{}" title="{} UTC">{}</relative-time>', moment.isoformat(), text, text)


def took(seconds: float | None) -> str:
    """A duration in its two largest units; empty for none."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s".replace(".0 ", " ")
    minutes, left = divmod(int(seconds), 60)
    hours, over = divmod(minutes, 60)
    parts = ((hours, "h"), (over, "min")) if hours else ((minutes, "min"), (left, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
