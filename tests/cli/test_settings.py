"""Secrets from files, and what containers mount of Portway."""

import pytest

from cli import handout
from cli.home import HomeError, env_secret
from cli.parts import SOURCE


def test_secret_from_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv("PORTWAY_X", raising=False)
    assert env_secret("PORTWAY_X") == ""
    (tmp_path / "x").write_text("hidden\n")
    monkeypatch.setenv("PORTWAY_X_FILE", str(tmp_path / "x"))
    assert env_secret("PORTWAY_X") == "hidden"
    monkeypatch.setenv("PORTWAY_X", "open")
    with pytest.raises(HomeError, match=r"PORTWAY_X or PORTWAY_X_FILE, not both"):
        env_secret("PORTWAY_X")
    monkeypatch.delenv("PORTWAY_X")
    monkeypatch.setenv("PORTWAY_X_FILE", str(tmp_path / "none"))
    with pytest.raises(HomeError, match="none, which cannot be read: No such file"):
        env_secret("PORTWAY_X")


def test_handout_is_copied_once_and_named_by_its_content(tmp_path):
    store = tmp_path / "handout"
    first = handout.make(SOURCE, str(store))
    assert first == handout.handout(SOURCE, str(store))
    assert (first.runtime / "boot.py").read_text() == (SOURCE / "runtime" / "boot.py").read_text()
    seen = first.runtime.stat().st_ino
    assert handout.make(SOURCE, str(store)).runtime.stat().st_ino == seen
    assert sorted(each.name for each in store.iterdir()) == sorted([first.runtime.name, first.uv.name])
    assert handout.handout(SOURCE, "").runtime == SOURCE / "runtime"
