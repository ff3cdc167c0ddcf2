"""The lease of an export."""

import time

import pytest
from asgiref.sync import async_to_sync

from apps.builds.packaging import download
from apps.core import leases


@pytest.mark.django_db(transaction=True)
def test_the_lease_is_short_and_renewed_while_it_sends(monkeypatch):
    monkeypatch.setattr(download, "LEASE_S", 0.3)
    monkeypatch.setattr(download, "RENEW_S", 0.0)
    monkeypatch.setattr(download, "PIECE", 1)
    grant = leases.acquire("package-export/1", holder="me", ttl_s=0.3)
    taken = []

    def parts():
        for _ in range(4):
            time.sleep(0.15)
            taken.append(leases.acquire("package-export/1", holder="other", ttl_s=1))
            yield b"x"

    async def read():
        return [piece async for piece in download.Sending(parts(), grant)]

    assert async_to_sync(read)() == [b"x"] * 4
    assert taken == [None] * 4
    assert not leases.holds(grant)
