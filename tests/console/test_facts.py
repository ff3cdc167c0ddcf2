"""What the overview says about the disk: within its time, and with the last whole number when it runs out."""

from __future__ import annotations

import dataclasses
import time

import pytest
from django.core.cache import cache

from apps.console import facts
from apps.core import disk


@pytest.fixture(autouse=True)
def home(settings, tmp_path):
    settings.HOME = dataclasses.replace(settings.HOME, root=tmp_path)
    cache.delete_many(["console.disk", "console.disk.last"])
    yield
    cache.delete_many(["console.disk", "console.disk.last"])


def rooms():
    cache.delete("console.disk")
    return {each.name: each.room for each in facts.disk_use().kinds}


def test_databases_count_with_what_lies_beside_them(tmp_path):
    for name in ("portway.sqlite3", "portway.sqlite3-wal", "mlflow.sqlite3", "mlflow.sqlite3-wal"):
        (tmp_path / name).write_bytes(b"x" * 8192)
    assert rooms()["database"].total >= 4 * 8192


def test_all_walks_together_have_one_deadline_and_the_last_whole_number_stays(tmp_path, monkeypatch):
    walked = []

    def walk(path, seconds):
        walked.append(path.name)
        slow = path.name == "artifacts"
        time.sleep(min(seconds, 1.0 if slow else 0.0))
        return disk.Room(50 if slow else 10, 0, whole=not slow or seconds >= 1.0)

    monkeypatch.setattr(facts.disk, "measure", walk)
    assert rooms()["artifacts"] == disk.Room(50, 0, whole=True)
    monkeypatch.setattr(facts, "DISK_S", 0.2)
    walked.clear()
    began = time.monotonic()
    found = rooms()
    assert time.monotonic() - began < 0.6
    assert found["artifacts"] == disk.Room(50, 0, whole=True)
    assert walked.index("artifacts") > walked.index("environments")
    assert all(room.whole for room in found.values())
