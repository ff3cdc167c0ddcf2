"""What lists of the console call things, and how one finds them by those words."""

from __future__ import annotations

from apps.core import audit
from apps.core.models import Operation


def page(it, address):
    response = it.get(f"/console/{address}")
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_operations_are_shown_found_and_narrowed_by_their_names(it):
    for kind, target in (("job.prepare", "job/mine"), ("cluster.create", "cluster/theirs")):
        Operation.objects.create(kind=kind, target=target, workspace="lab", lock=target)
    listed = page(it, "core/operation/")
    assert "Prepare job" in listed
    assert "?kind=job.prepare" in listed
    assert ">job.prepare<" not in listed
    for query in ("q=prepare+JOB", "q=job.prepare", "kind=job.prepare"):
        found = page(it, f"core/operation/?{query}")
        assert "job/mine" in found, query
        assert "cluster/theirs" not in found, query
    assert "Kind: <b>Prepare job</b>" in page(it, "core/operation/?kind=job.prepare")


def test_filters_have_names_for_people(it):
    assert "Administrator" in page(it, "accounts/user/")
    models = page(it, "registry/modelversion/")
    assert "Archived" in models
    assert "Is archived" not in models
    assert "GPUs" in page(it, "compute/instancetype/")


def test_limits_tell_their_units(it):
    limits = page(it, "limits/")
    assert '<b>180000</b> <span class="meta">3 min</span>' in limits
    assert "5.0 GB" in limits


def test_the_audit_trail_tells_a_split_in_words_and_nothing_that_is_empty(it, people):
    detail = {"before": {}, "after": {"blue": 90, "green": 10}, "deployment": ""}
    audit.record(people["ada"], "online-endpoint.traffic", workspace="lab", target="online-endpoint/x", **detail)
    assert ">after: blue 90 green 10</td>" in page(it, "core/auditrecord/?target=online-endpoint/x")
