"""Limits an administrator changes count at once, and everywhere."""

from __future__ import annotations

import pytest
from django.conf import settings

from apps.core import limits
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Limit
from apps.endpoints.domain import EndpointSpec, create_endpoint
from apps.gateway.models import Route

pytestmark = pytest.mark.django_db


def test_every_limit_of_the_settings_has_a_rule_and_its_default_obeys_it():
    assert set(limits.RULES) == set(settings.LIMITS)
    for name, rule in limits.RULES.items():
        assert rule.least <= settings.LIMITS[name] <= rule.most


def test_a_limit_counts_at_once_and_can_be_taken_back(workspace, people):
    limits.set_limit(name="endpoints", value=1, actor=people["olga"])
    create_endpoint(workspace=workspace, name="one", spec=EndpointSpec(), actor=people["olga"])
    with pytest.raises(Problem, match="limit"):
        create_endpoint(workspace=workspace, name="two", spec=EndpointSpec(), actor=people["olga"])
    limits.set_limit(name="endpoints", value=None, actor=people["olga"])
    create_endpoint(workspace=workspace, name="two", spec=EndpointSpec(), actor=people["olga"])
    details = list(AuditRecord.objects.filter(action="limit.set").order_by("pk").values_list("detail", flat=True))
    assert details == [{"before": 100, "after": 1}, {"before": 1, "after": 100}]
    assert not Limit.objects.exists()


def test_the_rate_limit_reaches_the_routes():
    Route.objects.create(endpoint="iris", workspace="lab", auth="Key", rate_per_second=5)
    limits.set_limit(name="requests_per_second", value=77, actor=None)
    assert Route.objects.get().rate_per_second == 77


@pytest.mark.parametrize(("name", "value", "code"), [("nope", 1, "not-found"), ("endpoints", 0, "bad-field")])
def test_nonsense_is_refused(name, value, code):
    with pytest.raises(Problem) as met:
        limits.set_limit(name=name, value=value, actor=None)
    assert met.value.code == code
    assert not AuditRecord.objects.exists()


def test_nobody_reads_the_settings_past_the_accessor():
    found = [path for path in (settings.BASE_DIR / "apps").rglob("*.py") if "settings.LIMITS[" in path.read_text()]
    assert [path.name for path in found] == ["limits.py"]
