"""What a model declares of itself."""

from types import SimpleNamespace

from apps.builds import declared


def test_no_more_than_the_limit_is_read(monkeypatch, tmp_path):
    with (tmp_path / "conda.yaml").open("wb") as stream:
        stream.write(b"a")
        stream.truncate(10**12)  # more than memory holds
    monkeypatch.setattr(declared.storage, "tree_path", lambda _: tmp_path)
    assert len(declared.by_model(SimpleNamespace(tree_id="", path="."))["conda_file"]) == declared.LIMIT
