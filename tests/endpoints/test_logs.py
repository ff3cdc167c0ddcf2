"""Reading logs of many instances at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from apps.endpoints import logs
from apps.monitoring.logs import Line

AT = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Chunk:
    lines: list
    mark: str


def test_one_answer_is_bounded_and_every_instance_has_its_turn(monkeypatch):
    def read(replica, *, after=""):
        return Chunk([Line(AT, replica[-1] * 2**18)], str(int(after or 0) + 1))

    monkeypatch.setattr(logs.compute, "read_log", read)
    chosen = [logs.Source(f"i{n}", "blue", 1, n, f"i{n}", AT, living=f"i{n}") for n in range(12)]
    marks = {"i0": "7"}
    entries, fresh = logs.more(chosen, marks)
    assert len(entries) == 4
    assert set(fresh) == {source.key for source in chosen}
    heard = {entry.source.key for entry in entries}
    assert all(fresh[key] == str(int(marks.get(key, 0)) + 1) for key in heard)
    assert all(fresh[key] == marks.get(key, "") for key in set(fresh) - heard)
    for _ in range(100):
        heard |= {entry.source.key for entry in logs.more(chosen, marks)[0]}
    assert heard == set(fresh)
