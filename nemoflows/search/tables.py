"""Render the rows of Parquet, JSONL and CSV tables as small documents, always the same way."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from nemoflows.errors import CorpusError
from nemoflows.search.outlines import MAX_HEADING_CHARS, shortened

TITLES = ("title", "heading", "headline", "subject", "name")
BODIES = ("text", "body", "content", "contents", "passage", "abstract", "description", "document")
_MAX_PARQUET_BYTES = 2**30
"""Uncompressed; a table beyond it is a decompression bomb or a job for a database."""

_BATCH_ROWS = 256
"""Unpacked at once; a row of a table that compresses well may be a million characters long."""

_SEP_LINE = re.compile(r"\"?sep=(.)\"?[ \t]*(?:\r\n|\r|\n)", re.IGNORECASE)
"""What spreadsheets write above a header to name the delimiter."""
_SAMPLE_ROWS = 200
_AGREED = 0.5
"""Least share of the first rows that must have one number of fields by a delimiter."""
_NONE = "\x1f"
"""Parts nothing: the table has one column."""
_MAX_RECORD_LINES = 200
"""Of one record whose quoted field holds line ends."""

_ESCAPED = re.compile(r'(?<!\\)\\"(?= *[^\s,;|"]|"[ \t]*(?:[,;|\t\r\n]|$))')
"""A quote behind a backslash that cannot end a field."""
_ESCAPED_QUOTE = re.compile(r'(?<!\\)\\"')
_LINE_END = re.compile(r"\s*[\r\n]\s*")
_MAX_ONE_LINE = 300

Row = tuple[str, str]
"""Title and text."""

Skip = Callable[[str], None]


def rows(suffix: str, data: bytes, text: str | None, skip: Skip) -> Iterator[Row]:
    """Yield the title and the text of each row, in order.

    The text is the text-like column, then a `name: value` line for each other column that has a
    value. The title-like column becomes the title, and a line too where no column is text-like.

    Args:
        suffix: Of the file's name, lower case, with its dot.
        data: The file's content.
        text: The same decoded; None for Parquet.
        skip: Told of each line that is left out, and why.

    Raises:
        CorpusError: The table is broken.
    """
    if text is None:
        yield from map(render, _parquet(data))
    elif suffix in {".csv", ".tsv"}:
        yield from map(render, _separated(text.removeprefix("\ufeff"), suffix, skip))
    else:
        yield from map(render, _json_lines(text.removeprefix("\ufeff"), skip))


def render(row: Mapping[str, Any]) -> Row:
    """Return a row's title and text."""
    names = {name.strip().lower(): name for name in reversed(list(row))}
    body = next((names[name] for name in BODIES if name in names), None)
    title = next((names[name] for name in TITLES if name in names), None)
    lines = [
        f"{name}: {_one_line(value)}"
        for name in row
        if name != body and (name != title or body is None) and (value := _text(row[name]))
    ]
    parts = [_text(row[body]) if body is not None else "", "\n".join(lines)]
    heading = " ".join(_text(row[title]).split()) if title is not None else ""
    if len(heading) > MAX_HEADING_CHARS and body is not None:
        parts.append(f"{title}: {heading}")
    return shortened(heading), "\n\n".join(part for part in parts if part)


def _one_line(value: str) -> str:
    """Return a short value without line ends, which would part it from its name."""
    return _LINE_END.sub(" ", value.strip()) if len(value) <= _MAX_ONE_LINE else value


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if value is None or isinstance(value, bytes) or (value != value and isinstance(value, float)):  # noqa: PLR0124 - NaN
        return ""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _json_lines(text: str, skip: Skip) -> Iterator[Mapping[str, Any]]:
    # Not `splitlines`: JSON strings may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            skip(f"line {number} is not JSON: {error}")
            continue
        yield value if isinstance(value, dict) else {"text": value}


def _separated(text: str, suffix: str, skip: Skip) -> Iterator[Mapping[str, Any]]:
    """Yield the rows below the header; a line that does not fit it costs itself, not the table."""
    said = _SEP_LINE.match(text)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    lines = list(io.StringIO(text, newline=""))[bool(said) :]
    delimiter = said[1] if said else "\t" if suffix == ".tsv" else _delimiter(lines)
    width = _width([row for _, row in islice(_records(lines, delimiter), _SAMPLE_ROWS)])
    records = ((at + bool(said) + 1, row) for at, row in _records(lines, delimiter, width))
    yield from _below_header(records, width, skip)


def sheet(rows: Sequence[Sequence[str]], skip: Skip) -> Iterator[Row]:
    """Yield the title and the text of each row of a spreadsheet's sheet."""
    width = _width(rows[:_SAMPLE_ROWS])
    yield from map(render, _below_header(enumerate(rows, start=1), width, skip))


def _below_header(
    records: Iterable[tuple[int, Sequence[str]]], width: int, skip: Skip
) -> Iterator[Mapping[str, Any]]:
    names: list[str] = []
    for line, row in records:
        filled = _filled(row)
        if not names and 0 < filled < width and not _lacks_a_name(row, filled, width):
            skip(f"line {line} stands above the header: {' '.join(row)[:80]!r}")
        elif not names and filled:
            names = _named([*row, *[""] * (width - len(row))])
        elif filled > len(names):
            skip(f"line {line} has {filled} fields, the header {len(names)}")
        elif filled:
            yield dict(zip(names, row, strict=False))


def _lacks_a_name(row: Sequence[str], filled: int, width: int) -> bool:
    """Tell whether a row is a header of which the last column alone has no name."""
    return filled > 1 and filled == width - 1 and not any(map(str.isdigit, "".join(row)))


def _delimiter(lines: Sequence[str]) -> str:
    """Return what parts most of the first lines into the same number of fields."""

    def agreement(delimiter: str) -> tuple[float, int]:
        rows = [row for _, row in islice(_records(lines, delimiter), _SAMPLE_ROWS)]
        width = _width(rows)
        return (width > 1) * sum(_filled(row) == width for row in rows) / max(1, len(rows)), width

    best = max(",;\t|", key=agreement)
    header = next((line for line in lines if line.strip()), "")
    return best if agreement(best)[0] >= _AGREED or best in header else _NONE


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Return how many fields most rows have; of two counts alike, the first row's."""
    counted = Counter(filter(None, map(_filled, rows)))
    first = next(filter(None, map(_filled, rows)), 0)
    return max(counted, key=lambda n: (counted[n], n == first), default=0)


def _records(
    lines: Sequence[str], delimiter: str, width: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Yield the place of each record's first line and its fields.

    A quoted field may hold line ends. A quote that never closes, or without which each line has
    `width` fields, is a sign like others.
    """
    at = 0
    while at < len(lines):
        row, end = [lines[at].rstrip("\r\n")], at + 1
        if '"' not in row[0]:
            row = row[0].split(delimiter)
        else:
            row, end = _quoted(lines, at, delimiter, width)
        yield at, row
        at = end


def _quoted(lines: Sequence[str], at: int, delimiter: str, width: int) -> tuple[list[str], int]:
    """Return the fields of a record with quotes in it, and where it ends."""
    part = lines[at : at + _MAX_RECORD_LINES]
    row, n = _first(part, delimiter)
    mend = _doubled if any(map(_ESCAPED.search, part[:n])) else str
    row, n = _first(map(mend, part), delimiter)
    odd = n > 1 and sum(mend(line).count('"') for line in part[:n]) % 2
    plain = [_plain(line, delimiter) for line in part[:n]]
    alone = all(_filled(each) == width for each in plain)
    if odd or (width and alone and (n > 1 or len(row) < width)):
        return plain[0], at + 1
    return row, at + n


def _first(lines: Iterable[str], delimiter: str) -> tuple[list[str], int]:
    """Return the fields of the first record, and how many lines it has."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    return next(reader), reader.line_num


def _doubled(line: str) -> str:
    """Return a line with quotes in a quoted field doubled that stand behind a backslash."""
    return _ESCAPED_QUOTE.sub('""', line)


def _plain(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, quoting=csv.QUOTE_NONE), [])


def _filled(row: Sequence[str]) -> int:
    """Return how many fields a row has, empty ones at its end left out."""
    return max((n for n, cell in enumerate(row, start=1) if cell.strip()), default=0)


def _named(header: Sequence[str]) -> list[str]:
    """Return a name for each column, none twice."""
    names: list[str] = []
    for number, cell in enumerate(header, start=1):
        name = " ".join(cell.split()) or f"column {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return names


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
