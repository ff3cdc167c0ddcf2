"""Leases end by the database's time, whatever the clock of a host says."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.core import clock, leases

pytestmark = pytest.mark.django_db


@pytest.fixture
def an_hour_ahead(monkeypatch):
    """This host's clock is wrong. With a database that is a file of this machine there is no other clock."""
    monkeypatch.setattr(clock, "_asked", None)
    monkeypatch.setattr(timezone, "now", lambda now=timezone.now: now() + timedelta(hours=1))


def test_the_clock_is_the_databases(an_hour_ahead):
    ahead = timedelta(hours=1) if connection.vendor == "sqlite" else timedelta(0)
    right = timezone.now() - timedelta(hours=1)
    assert abs(clock.now() - right - ahead) < timedelta(seconds=30)


def test_a_lease_of_another_host_holds_for_a_host_that_is_ahead(monkeypatch):
    grant = leases.acquire("clocks", holder="a", ttl_s=60)
    assert grant is not None
    monkeypatch.setattr(clock, "_asked", None)
    monkeypatch.setattr(timezone, "now", lambda now=timezone.now: now() + timedelta(hours=1))
    taken = leases.acquire("clocks", holder="b", ttl_s=60)
    assert (taken is None) == (connection.vendor == "postgresql")


def test_it_goes_on_without_asking(django_assert_max_num_queries):
    first = clock.now()
    with django_assert_max_num_queries(1):
        for _ in range(20):
            time.sleep(0.002)
            assert clock.now() > first
