"""The one place that asks whether every part is up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.core import disk, health, leases
from apps.core.models import AuditRecord, Lease

pytestmark = pytest.mark.django_db


def test_every_part_is_asked_in_order_and_nothing_secret_is_told_to_anybody(client, monkeypatch):
    def down():
        raise ConnectionRefusedError("/home/of/secrets/envoy.sock")

    monkeypatch.setitem(health._checks, "gateway", down)
    parts = health.parts()
    assert [part.name for part in parts] == list(health.ORDER)
    by_name = {part.name: part for part in parts}
    assert by_name["database"].up
    assert by_name["database"].found.version
    assert not by_name["gateway"].up
    assert by_name["gateway"].reason == "/home/of/secrets/envoy.sock"  # an administrator reads it
    told = client.get("/healthz").json()["parts"]
    assert told["gateway"] == {"up": False, "detail": "ConnectionRefusedError"}
    assert told["worker"] == {"up": False, "detail": "Silent"}


def test_a_part_that_beats_says_since_when_and_one_that_stopped_says_when_it_was_last_heard():
    leases.acquire("worker/here", holder=leases.new_holder(), ttl_s=15.0)
    found = health.beat("worker/", ttl_s=15.0)
    assert timezone.now() - found.seen < timedelta(seconds=5)
    assert found.since < timezone.now()
    Lease.objects.update(expires_at=timezone.now() - timedelta(minutes=5))
    with pytest.raises(health.Silent) as met:
        health.beat("worker/", ttl_s=15.0)
    assert timedelta(minutes=5) < timezone.now() - met.value.seen < timedelta(minutes=6)


def test_room_on_disk_knows_what_is_shared(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 8192)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "link").symlink_to("/usr")
    room = disk.measure(tmp_path)
    assert room.shared == 2 * 8192
    assert (room.whole, room.own < room.total) == (True, True)
    assert disk.measure(tmp_path / "none") == disk.Room(0, 0, whole=True)
    assert not disk.measure(tmp_path, seconds=-1).whole


@pytest.mark.parametrize(("sent", "kept"), [("0a1b-2c", "0a1b-2c"), ("<script>", ""), ("x" * 65, ""), ("", "")])
def test_the_request_is_in_the_audit_record(client, people, sent, kept):
    client.force_login(people["olga"])
    client.post("/account/tokens", {"name": "laptop", "days": "30"}, headers={"x-request-id": sent})
    assert AuditRecord.objects.get(action="token.create").request == kept
