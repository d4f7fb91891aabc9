"""Extract the text of office files: documents by their headings, slides, workbooks."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from nemoflows.errors import CorpusError
from nemoflows.search import sheets, word
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import Heading, sections


def read(suffix: str, data: bytes, note: Callable[[str], None]) -> tuple[str, list[Section]]:
    """Return the text of an office file and its sections.

    Raises:
        CorpusError: It is broken or encrypted, or what reads it is not installed.
    """
    try:
        blocks = list(sheets.workbook(data, note) if suffix == ".xlsx" else _READERS[suffix](data))
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
        if slide.has_notes_slide and (notes := _lines(slide.notes_slide.notes_text_frame)):
            yield 0, notes


def _lines(frame: Any) -> str:
    """Return a frame's text; a line break within a paragraph is a vertical tab there."""
    return str(frame.text).replace("\v", "\n").strip()


def _shape(shape: Any) -> Iterator[str]:
    """Yield the texts of a shape, of all in a group, and the numbers behind a chart."""
    for each in getattr(shape, "shapes", ()):
        yield from _shape(each)
    if shape.has_text_frame:
        yield _lines(shape.text_frame)
    if shape.has_table:
        rows = ([" ".join(cell.text.split()) for cell in row.cells] for row in shape.table.rows)
        yield word.piped(list(rows))
    if shape.has_chart:
        for plot in shape.chart.plots:
            columns = [
                map(str, plot.categories),
                *(map(sheets.cell, s.values) for s in plot.series),
            ]
            body = map(list, zip_longest(*columns, fillvalue=""))
            yield word.piped([["", *(str(s.name) for s in plot.series)], *body])


_READERS: Mapping[str, Callable[[bytes], Iterator[tuple[int, str]]]] = {
    ".docx": word.blocks,
    ".pptx": _slides,
}
