"""Whether batch work can go on: the hosts that run nodes, and clusters whose jobs wait for what they do not get."""

from __future__ import annotations

from django.db.models import Count
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.batch.engine import claims
from apps.batch.models import Cluster, Host, Job, Node
from apps.core.health import Finding, look

SHOWN = 50


@look("batch hosts")
def _hosts() -> list[Finding]:
    rows = list(Host.objects.order_by("name")[:SHOWN])
    counts = dict(Node.objects.order_by().values_list("host").annotate(Count("pk")))
    found = [_host(each, counts.get(each.name, 0)) for each in rows]
    waiting = Job.objects.filter(state__in=claims.RUNNING_JOBS).count()
    newest = Host.objects.order_by("-seen_at").first()
    if waiting and (newest is None or newest.lost):
        text = ngettext("none is alive, and %(count)s job waits", "none is alive, and %(count)s jobs wait", waiting)
        advice = _("Start a worker: nodes of clusters run on the machines that have one.")
        found.insert(0, Finding("batch hosts", "failed", text % {"count": waiting}, advice))
    return found


def _host(host: Host, nodes: int) -> Finding:
    name = f"batch host {host}"
    if host.lost:
        advice = _("Look at the machine and the log of its worker. When it is gone for good, forget it in the console.")
        return Finding(name, "failed", _("lost: its worker died or is cut off"), advice, host.seen_at)
    text = ngettext("alive, %(count)s node", "alive, %(count)s nodes", nodes) % {"count": nodes}
    return Finding(name, "ok", text, seen=host.seen_at)


@look("clusters")
def _clusters() -> list[Finding]:
    """Clusters that get no more nodes while jobs wait; each says itself why."""
    stuck = Cluster.objects.filter(waiting__isnull=False, jobs__state__in=claims.RUNNING_JOBS)
    rows = stuck.select_related("workspace").order_by("workspace__name", "name").distinct()
    return [
        Finding(
            f"cluster {each.workspace}/{each}",
            "degraded",
            _("jobs wait: %(why)s") % {"why": each.waiting.get("message", "")},
            each.waiting.get("next", ""),
        )
        for each in rows[:SHOWN]
        if each.waiting
    ]
