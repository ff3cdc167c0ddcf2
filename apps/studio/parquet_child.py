"""The first rows of a Parquet file as JSON: `python -I parquet_child.py '<limits>' < file`.

Run as a process of its own by `apps.studio.parquet` and never imported: the file is a stranger's, and what reads it is
a large library in C++. Memory and processor time are bounded before anything of the file is looked at. Of the file
there are read its footer and as many pages as the rows need. Writes {"reason": …} for what cannot be shown.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
from typing import Any, BinaryIO

MAGIC = b"PAR1"
TAIL = struct.Struct("<I4s")  # bytes of the footer, and the magic again
AT_ONCE = 20  # rows
BUFFER = 2**16  # bytes of a column that are read at once
STRINGS, CONTAINERS = 2**24, 2**20  # bytes of a text and entries of a list in the footer


class RefusedError(Exception):
    """Why it is not shown: a word that the parent knows."""


def main(limits: dict[str, int], source: BinaryIO) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory"], limits["memory"]))
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu"], limits["cpu"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["written"], limits["written"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    check_footer(source, limits["footer"])
    sys.modules["pandas"] = None  # type: ignore[assignment]  # a value of a time would load it
    try:
        return table(source, limits)
    except MemoryError:
        raise RefusedError("large") from None
    except Exception as error:  # whatever the library finds wrong with it
        raise RefusedError("broken") from error


def check_footer(source: BinaryIO, most: int) -> None:
    size = source.seek(0, 2)
    if size < len(MAGIC) + TAIL.size:
        raise RefusedError("none")
    source.seek(-TAIL.size, 2)
    length, magic = TAIL.unpack(source.read(TAIL.size))
    if magic == b"PARE":
        raise RefusedError("encrypted")
    if magic != MAGIC or length > size:
        raise RefusedError("none")
    if length > most:
        raise RefusedError("footer")
    source.seek(0)


def table(source: BinaryIO, limits: dict[str, int]) -> dict[str, Any]:
    import pyarrow as pa  # noqa: PLC0415 -- after the limits
    import pyarrow.parquet as pq  # noqa: PLC0415

    pa.set_cpu_count(1)
    file = pq.ParquetFile(
        source, buffer_size=BUFFER, thrift_string_size_limit=STRINGS, thrift_container_size_limit=CONTAINERS
    )
    schema = file.schema_arrow
    width = len(schema.names)
    found: list[list[str]] = []
    read = 0
    for batch in file.iter_batches(AT_ONCE, columns=schema.names[: limits["columns"]], use_threads=False):
        schema = batch.schema  # of names that are there twice, or have dots, the library takes some in its own order
        columns = [cells(column, limits["cell"]) for column in batch.columns[: limits["columns"]]]
        found.extend(list(row) for row in zip(*columns, strict=True))
        read += batch.nbytes
        if len(found) >= limits["rows"] or read > limits["read"]:
            break
    fields = [schema.field(number) for number in range(min(len(schema.names), limits["columns"]))]
    return {
        "head": [each.name[: limits["cell"]] for each in fields],
        "types": [str(each.type)[: limits["cell"]] for each in fields],
        "rows": found[: limits["rows"]],
        "count": file.metadata.num_rows,
        "width": width,
    }


def cells(column: Any, longest: int) -> list[str]:
    """The values as texts; bytes only as how many there are."""
    import pyarrow as pa  # noqa: PLC0415

    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return ["" if not each.is_valid else f"{each.as_buffer().size} bytes" for each in column]
    texts = None if pa.types.is_nested(kind) else plain(column)
    if texts is None:
        return [nested(each, longest) for each in column]
    return [(each or "")[:longest] for each in texts]


def plain(column: Any) -> list[str | None] | None:
    """The values as texts; None for a type that has no text of its own."""
    import pyarrow as pa  # noqa: PLC0415

    try:
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return texts


def nested(value: Any, longest: int) -> str:
    if not value.is_valid:
        return ""
    try:
        return json.dumps(value.as_py(), ensure_ascii=False, default=str)[:longest]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return "?"


if __name__ == "__main__":
    try:
        answer = main(json.loads(sys.argv[1]), sys.stdin.buffer)
    except RefusedError as refused:
        answer = {"reason": str(refused), "evidence": str(refused.__cause__ or "")[:200]}
    sys.stdout.buffer.write(json.dumps(answer).encode())
