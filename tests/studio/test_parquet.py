"""Parquet files as tables: real ones, and those that somebody made to do harm."""

from __future__ import annotations

import io
import os
import struct
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings

from apps.registry import locations
from apps.studio import parquet
from apps.studio.preview import COLUMNS, ROWS, preview

pytestmark = pytest.mark.django_db(transaction=True)
PLACE = "azureml://datastores/workspaceblobstore/paths/in"


@pytest.fixture
def folder(workspace):
    made = settings.HOME.artifacts / "blobs" / str(workspace.pk) / "in"
    made.mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture
def look(workspace, folder, monkeypatch):
    """Previews without hurry: on a busy machine a child may take long to start."""
    monkeypatch.setattr(parquet, "TIMEOUT_S", 120)

    def at(name):
        place = locations.resolve(PLACE, workspace=workspace, actor=None)
        return preview(place, name, (folder / name).stat().st_size)

    return at


def test_rows_types_and_how_many_there_are(folder, look):
    table = pa.table(
        {
            "id": pa.array(range(1000), pa.int64()),
            "name": [f"row {number}" for number in range(1000)],
            "when": pa.array([datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)] * 1000, pa.timestamp("ns", "UTC")),
            "cost": pa.array([Decimal("1.50"), None] * 500, pa.decimal128(8, 2)),
            "raw": [b"abc"] * 1000,
            "tags": [{"a": [1, 2], "b": "ä"}] * 1000,
            "kind": pa.array(["x", "y"] * 500).dictionary_encode(),
        }
    )
    pq.write_table(table, folder / "rows.parquet", row_group_size=300)
    shown = look("rows.parquet")
    assert (shown.kind, shown.count, shown.width, shown.more, len(shown.rows)) == ("table", 1000, 7, True, ROWS)
    assert shown.columns[0] == ("id", "int64")
    assert [name for name, _ in shown.columns] == table.column_names
    assert shown.rows[1][:2] == ["1", "row 1"]
    assert shown.rows[0][2].startswith("2026-01-02 03:04:05")
    assert [shown.rows[0][3], shown.rows[1][3]] == ["1.50", ""]
    assert shown.rows[0][4:] == ["3 bytes", '{"a": [1, 2], "b": "ä"}', "x"]


def test_a_few_rows_are_all_of_it(folder, look):
    pq.write_table(pa.table({"a": [1, 2]}), folder / "few.pq")
    shown = look("few.pq")
    assert (shown.rows, shown.more) == ([["1"], ["2"]], False)
    pq.write_table(pa.table({"a": pa.array([], pa.int8())}), folder / "empty.parquet")
    shown = look("empty.parquet")
    assert (shown.columns, shown.rows, shown.count) == ([("a", "int8")], [], 0)


def test_it_is_on_the_page_with_types(folder, browser, world):
    pq.write_table(pa.table({"<b>": ["<script>alert(1)</script>"]}), folder / "odd.parquet")
    page = browser("rita").get("/w/lab/datastores/workspaceblobstore?folder=in&path=odd.parquet").content.decode()
    assert "&lt;b&gt;" in page
    assert "<script>alert(1)" not in page
    assert "1 row," in " ".join(page.split())


def test_many_columns_and_long_names_are_cut(folder, look):
    pq.write_table(pa.table({f"{'c' * 400}{number}": [number] for number in range(3000)}), folder / "wide.parquet")
    shown = look("wide.parquet")
    assert (len(shown.head), len(shown.rows[0]), shown.width, shown.more) == (COLUMNS, COLUMNS, 3000, True)
    assert max(map(len, shown.head)) <= 300


def test_columns_of_one_name_and_with_dots_are_shown(folder, look):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([{"x": 3}])], ["a.x", "b", "a"])
    pq.write_table(table, folder / "dots.parquet")
    shown = look("dots.parquet")
    assert dict(zip(shown.head, shown.rows[0], strict=True)) == {"a.x": "1", "b": "2", "a": '{"x": 3}'}


def test_deep_nesting_and_long_lists_are_cut(folder, look):
    deep = pa.array([1])
    for _ in range(60):
        deep = pa.array([deep.to_pylist()], pa.list_(deep.type))
    pq.write_table(pa.table({"deep": deep, "long": [list(range(100_000))]}), folder / "deep.parquet")
    shown = look("deep.parquet")
    assert shown.rows[0][0].startswith("[[[[")
    assert len(shown.rows[0][1]) == 300


def test_no_more_of_it_is_read_than_is_shown(folder, look):
    """A file of 128 GB that is mostly a hole: its first rows are there, and nobody looks at the rest."""
    data = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2, 3]}), data)
    whole = data.getvalue()
    [size] = struct.unpack("<I", whole[-8:-4])
    with (folder / "large.parquet").open("wb") as file:
        file.write(whole[: -8 - size])
        file.seek(2**37)
        file.write(whole[-8 - size :])
    assert look("large.parquet").rows == [["1"], ["2"], ["3"]]


def hostile():
    data = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(1000)), "b": ["x" * 50] * 1000}), data, compression="zstd")
    good = data.getvalue()
    yield "empty", b"", "no Parquet"
    yield "text", b"a,b\n1,2\n", "no Parquet"
    yield "cut", good[:-100], "no Parquet"
    yield "locked", good[:-4] + b"PARE", "encrypted"
    yield "far", good[:-8] + struct.pack("<I", 2**32 - 1) + b"PAR1", "no Parquet"
    yield "noise", b"PAR1" + os.urandom(5000) + struct.pack("<I", 5000) + b"PAR1", "cannot be read"
    yield "pages", b"PAR1" + b"\xff" * 200 + good[204:], "cannot be read"
    big = b"\x15" * (17 * 2**20)
    yield "footer", b"PAR1" + big + struct.pack("<I", len(big)) + b"PAR1", "too many columns"


@pytest.mark.parametrize(
    ("name", "data", "told"), list(hostile()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_what_is_broken_says_so(folder, look, name, data, told):
    (folder / f"{name}.parquet").write_bytes(data)
    shown = look(f"{name}.parquet")
    assert shown.kind == ""
    assert told in shown.reason


def test_no_changed_byte_of_a_footer_does_harm(folder, look):
    data = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2, 3], "b": [[1], [2], []]}), data)
    good = bytearray(data.getvalue())
    for place in range(len(good) - 8, len(good) - 300, -43):
        bad = bytearray(good)
        bad[place] ^= 0xFF
        (folder / "bad.parquet").write_bytes(bad)
        shown = look("bad.parquet")
        assert shown.kind == "table" or shown.reason, place


def test_a_bomb_is_too_large(folder, look, monkeypatch):
    """A value of 256 MB that is a few kilobytes on the disk."""
    monkeypatch.setitem(parquet.LIMITS, "memory", 2**29)
    pq.write_table(pa.table({"a": [1]}), folder / "small.parquet")
    assert look("small.parquet").kind == "table"
    table = pa.table({"a": pa.array([b"\0" * 2**28], pa.large_binary())})
    pq.write_table(table, folder / "bomb.parquet", compression="zstd", use_dictionary=False, write_statistics=False)
    del table
    assert (folder / "bomb.parquet").stat().st_size < 2**20
    assert "too much memory or time" in look("bomb.parquet").reason


def test_what_takes_too_long_is_stopped(folder, look, monkeypatch):
    pq.write_table(pa.table({"a": [1]}), folder / "slow.parquet")
    monkeypatch.setattr(parquet, "TIMEOUT_S", 0.01)
    assert "too much memory or time" in look("slow.parquet").reason


def test_of_a_file_elsewhere_only_so_much_is_copied(monkeypatch):
    monkeypatch.setattr(parquet, "COPIED", 10)
    with pytest.raises(parquet.NotShownError, match="from afar"):
        parquet._copy(io.BytesIO(b"x" * 11), io.BytesIO())
    copy = io.BytesIO()
    parquet._copy(io.BytesIO(b"x" * 10), copy)
    assert copy.getvalue() == b"x" * 10
