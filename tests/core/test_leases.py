from datetime import timedelta

import pytest
from django.utils import timezone

from apps.core import leases
from apps.core.models import Lease

pytestmark = pytest.mark.django_db


def expire(name):
    Lease.objects.filter(name=name).update(expires_at=timezone.now() - timedelta(seconds=1))


def test_one_holder_at_a_time_and_the_token_grows_with_every_change_of_hands():
    first = leases.acquire("x", holder="a", ttl_s=10)
    assert leases.acquire("x", holder="b", ttl_s=10) is None
    assert leases.acquire("x", holder="a", ttl_s=10).token == first.token
    expire("x")
    second = leases.acquire("x", holder="b", ttl_s=10)
    assert second.token == first.token + 1
    assert not leases.holds(first)
    assert leases.holds(second)


def test_a_late_release_of_an_old_grant_does_no_harm():
    old = leases.acquire("x", holder="a", ttl_s=10)
    expire("x")
    new = leases.acquire("x", holder="b", ttl_s=10)
    leases.release(old)
    assert leases.holds(new)


def test_held_waits_no_longer_than_told():
    leases.acquire("x", holder="a", ttl_s=10)
    with pytest.raises(leases.LeaseTaken), leases.held("x", ttl_s=1, wait_s=0.1):
        pass
