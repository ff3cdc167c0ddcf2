"""What is kept of programs that print for ever, without an engine."""

from apps.builds import engine, packages
from apps.builds.spec import LINES_KEPT, LINES_TOLD, LONGEST_LINE


def test_a_build_keeps_and_tells_so_many_lines():
    told = []
    tee = packages.Tee(told.append)
    for _ in range(LINES_TOLD + 10):
        tee("x" * (LONGEST_LINE + 1))
    assert len(tee.lines) <= LINES_KEPT
    assert len(told) == LINES_TOLD + 1
    assert len(told[0]) == LONGEST_LINE


def test_output_of_a_container_is_bounded(monkeypatch):
    monkeypatch.setattr(engine, "LONGEST_OUTPUT", 10)
    chunks = iter([(b"x" * 100, b"y" * 50_000)])
    out, err = engine._collect(chunks, 5.0, lambda _: None, lambda: None)
    assert len(out) == 10
    assert len(err[0]) == engine.LONGEST_LINE
