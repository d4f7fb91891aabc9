"""Extract the text of office files: documents by their headings, slides, the rows of sheets."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from itertools import zip_longest
from typing import Any

from nemoflows.errors import CorpusError
from nemoflows.search import word
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import Heading, sections
from nemoflows.search.tables import sheet

MAX_CELLS = 4_000_000
MAX_MERGED = 10_000
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\b[^>]*\bref=\"([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})\"")
_PART_BYTES = 2**20


def read(suffix: str, data: bytes, note: Callable[[str], None]) -> tuple[str, list[Section]]:
    """Return the text of an office file and its sections.

    Raises:
        CorpusError: It is broken or encrypted, or what reads it is not installed.
    """
    try:
        blocks = list(_sheets(data, note) if suffix == ".xlsx" else _READERS[suffix](data))
    except ImportError as error:
        raise CorpusError(
            f"an office file: reading it needs {error.name}; pip install 'nemoflows[office]'"
        ) from error
    except (CorpusError, MemoryError):
        raise
    except Exception as error:
        # A broken archive raises whatever it broke.
        raise CorpusError(f"a broken or encrypted file: {type(error).__name__}: {error}") from error
    headings: list[Heading] = []
    at = 0
    for level, told in blocks:
        if level:
            headings.append((at, level, told))
        at += len(told) + len("\n\n")
    return "\n\n".join(told for _, told in blocks), sections(headings)


def _slides(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield each slide's title and texts, and its notes."""
    import pptx

    for number, slide in enumerate(pptx.Presentation(io.BytesIO(data)).slides, start=1):
        title = slide.shapes.title
        yield (
            1,
            " ".join(title.text.split())
            if title is not None and title.text.strip()
            else f"slide {number}",
        )
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                yield from ((0, told) for told in _shape(shape) if told.strip())
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame.text.strip()):
            yield 0, notes


def _shape(shape: Any) -> Iterator[str]:
    """Yield the texts of a shape, of all in a group, and the numbers behind a chart."""
    for each in getattr(shape, "shapes", ()):
        yield from _shape(each)
    if shape.has_text_frame:
        yield shape.text_frame.text.strip()
    if shape.has_table:
        rows = ([" ".join(cell.text.split()) for cell in row.cells] for row in shape.table.rows)
        yield word.piped(list(rows))
    if shape.has_chart:
        for plot in shape.chart.plots:
            columns = [map(str, plot.categories), *(map(_cell, s.values) for s in plot.series)]
            body = map(list, zip_longest(*columns, fillvalue=""))
            yield word.piped([["", *(str(s.name) for s in plot.series)], *body])


def _sheets(data: bytes, note: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """Yield each sheet's name, then its rows as records; of formulas the values."""
    import openpyxl

    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    n_cells = 0
    for page in book.worksheets:
        rows = []
        for row in page.iter_rows(values_only=True):
            n_cells += len(row)
            if n_cells > MAX_CELLS:
                raise CorpusError(f"a workbook of more than {MAX_CELLS:,} cells; split it")
            rows.append([_cell(value) for value in row])
        _fill_down(rows, _merged(book, page))
        name = str(page.title)
        records = [text for _, text in sheet(rows, _of(name, note))]
        if records:
            yield 1, name
            yield from ((0, record) for record in records)


def _merged(book: Any, page: Any) -> Iterator[tuple[int, int, int]]:
    """Yield the column, the first and the last row of cells that are merged downwards, from 0."""
    from openpyxl.utils import range_boundaries

    with book._archive.open(page._worksheet_path) as sheet:  # noqa: SLF001 - it reads cells alone
        tail, n_found = b"", 0
        while (part := sheet.read(_PART_BYTES)) and n_found < MAX_MERGED:
            for found in _MERGED.finditer(text := tail + part):
                left, top, _, low = range_boundaries(found[1].decode())
                n_found += 1
                yield left - 1, top - 1, low - 1
            tail = text[text.rfind(b"<") :][:_PART_BYTES]


def _fill_down(rows: list[list[str]], merged: Iterator[tuple[int, int, int]]) -> None:
    """Write what a merged cell says into each of its rows."""
    for column, top, low in merged:
        for row in rows[top + 1 : low + 1]:
            if column < min(len(row), len(rows[top])):
                row[column] = row[column] or rows[top][column]


def _of(page: str, note: Callable[[str], None]) -> Callable[[str], None]:
    return lambda told: note(f"{page}, {told}")


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


_READERS: Mapping[str, Callable[[bytes], Iterator[tuple[int, str]]]] = {
    ".docx": word.blocks,
    ".pptx": _slides,
}
