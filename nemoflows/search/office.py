"""Extract the text of office files: documents by their headings, slides, the rows of sheets."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

from nemoflows.errors import CorpusError
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import Heading, sections
from nemoflows.search.tables import sheet

MAX_CELLS = 4_000_000
_LEVEL = re.compile(r"Heading (\d)")


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


def _word(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield each paragraph and table, with the level of a heading or 0."""
    import docx
    from docx.table import Table

    items: list[str] = []
    for block in docx.Document(io.BytesIO(data)).iter_inner_content():
        told = _table(block) if isinstance(block, Table) else block.text.strip()
        style = "" if isinstance(block, Table) else str(block.style.name if block.style else "")
        if style.startswith("List") and told:
            items.append(f"- {told}")
            continue
        if items:
            yield 0, "\n".join(items)
            items = []
        heading = _LEVEL.match(style)
        if told:
            yield (1 if style == "Title" else int(heading[1]) + 1 if heading else 0), told
    if items:
        yield 0, "\n".join(items)


def _table(table: Any) -> str:
    rows = ([" ".join(cell.text.split()) for cell in row.cells] for row in table.rows)
    return _piped(list(rows))


def _piped(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows if any(row)]
    return "\n".join([*lines[:1], *(["|" + "---|" * len(rows[0])] if lines else []), *lines[1:]])


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
            if title is not None and shape.shape_id == title.shape_id:
                continue
            if shape.has_text_frame and shape.text_frame.text.strip():
                yield 0, shape.text_frame.text.strip()
            if shape.has_table:
                yield 0, _table(shape.table)
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame.text.strip()):
            yield 0, notes


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
        name = str(page.title)
        records = [text for _, text in sheet(rows, _of(name, note))]
        if records:
            yield 1, name
            yield from ((0, record) for record in records)


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
    ".docx": _word,
    ".pptx": _slides,
}
