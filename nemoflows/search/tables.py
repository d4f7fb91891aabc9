"""Render the rows of Parquet, JSONL and CSV tables as small documents, always the same way."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from nemoflows.errors import CorpusError
from nemoflows.search.outlines import MAX_HEADING_CHARS, shortened

_TITLES = ("title", "heading", "headline", "subject", "name")
_BODIES = ("text", "body", "content", "contents", "passage", "abstract", "description", "document")
_MAX_PARQUET_BYTES = 2**30
"""Uncompressed; a table beyond it is a decompression bomb or a job for a database."""

_BATCH_ROWS = 256
"""Unpacked at once; a row of a table that compresses well may be a million characters long."""

Row = tuple[str, str]
"""Title and text."""


def rows(suffix: str, data: bytes, text: str | None) -> Iterator[Row]:
    """Yield the title and the text of each row, in order.

    The text is the text-like column, then a `name: value` line for each other column that has a
    value. The title-like column becomes the title, and a line too where no column is text-like.

    Args:
        suffix: Of the file's name, lower case, with its dot.
        data: The file's content.
        text: The same decoded; None for Parquet.

    Raises:
        CorpusError: The table is broken; names the row.
    """
    if text is None:
        yield from map(render, _parquet(data))
    elif suffix in {".csv", ".tsv"}:
        yield from map(render, _separated(text.removeprefix("\ufeff"), suffix))
    else:
        yield from map(render, _json_lines(text.removeprefix("\ufeff")))


def render(row: Mapping[str, Any]) -> Row:
    """Return a row's title and text."""
    names = {name.strip().lower(): name for name in reversed(list(row))}
    body = next((names[name] for name in _BODIES if name in names), None)
    title = next((names[name] for name in _TITLES if name in names), None)
    lines = [
        f"{name}: {value}"
        for name in row
        if name != body and (name != title or body is None) and (value := _text(row[name]))
    ]
    parts = [_text(row[body]) if body is not None else "", "\n".join(lines)]
    heading = " ".join(_text(row[title]).split()) if title is not None else ""
    if len(heading) > MAX_HEADING_CHARS and body is not None:
        parts.append(f"{title}: {heading}")
    return shortened(heading), "\n\n".join(part for part in parts if part)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if value is None or isinstance(value, bytes) or (value != value and isinstance(value, float)):  # noqa: PLR0124 - NaN
        return ""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _json_lines(text: str) -> Iterator[Mapping[str, Any]]:
    number = 0
    # Not `splitlines`: JSON strings may hold U+2028 and its like unescaped.
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"a broken table: row {number} is not JSON: {error}") from error
        yield value if isinstance(value, dict) else {"text": value}
        number += 1


def _separated(text: str, suffix: str) -> Iterator[Mapping[str, Any]]:
    head = text.split("\n", 1)[0]
    delimiter = "\t" if suffix == ".tsv" else max(",;\t|", key=head.count)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for number, row in enumerate(reader):
            if None in row:
                raise CorpusError(
                    f"a broken table: row {number} has more fields than the "
                    f"{len(reader.fieldnames or ())} columns"
                )
            yield row
    except csv.Error as error:
        raise CorpusError(f"a broken table: line {reader.line_num}: {error}") from error


def _parquet(data: bytes) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        groups = range(file.metadata.num_row_groups)
        size_bytes = sum(file.metadata.row_group(group).total_byte_size for group in groups)
        if size_bytes > _MAX_PARQUET_BYTES:
            raise CorpusError(f"a table of {size_bytes / 2**20:,.0f} MiB when unpacked; split it")
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError, ArithmeticError) as error:
        raise CorpusError(f"a broken table: {error}") from error
