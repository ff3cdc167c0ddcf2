"""The controller's threads and their leases."""

import threading

import pytest

from apps.core import controller, leases

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_controller_that_is_stopped_makes_room_for_the_next_at_once(monkeypatch):
    ran, stop = threading.Event(), threading.Event()
    monkeypatch.setattr(controller, "_jobs", {"test": controller.Job("test", 0.05, ran.set)})
    thread = threading.Thread(target=controller.Controller(stop).run)
    thread.start()
    assert ran.wait(10)
    assert leases.acquire("controller/test", holder="another", ttl_s=5) is None
    stop.set()
    thread.join(10)
    assert leases.acquire("controller/test", holder="another", ttl_s=5) is not None
