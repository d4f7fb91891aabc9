"""Extract the text of PDF files in reading order: columns, lines, paragraphs, whole words."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nemoflows.errors import CorpusError
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import Heading, sections

MAX_CHARS = 64 * 2**20
"""A PDF whose text is longer than this is a decompression bomb."""
MAX_PAGES = 10_000

_LOCK = threading.Lock()
"""PDFium must not be called from two threads at once."""
_GUTTER = 8.0
"""Least points between two columns."""
_COLUMN_CHARS, _COLUMN_LINES = 25, 3
"""A column of prose has so many lines of so many characters; a table's has not."""
_WIDE = 0.6
"""A line over this share of the text's width belongs to no column."""
_APART, _SIZED = 1.75, 1.15
"""From how many sizes below the line above a line begins a paragraph; from what ratio of sizes."""
_HYPHENS = re.compile("[\x02\ufffe\u00ad\u2010]$")


class _Run(NamedTuple):
    """Text on one line: its box in points, from the page's left and lower edges."""

    left: float
    low: float
    right: float
    top: float
    text: str
    size: float
    """Of its font, where the page says it; else its height."""


def read(data: bytes) -> tuple[str, list[Section]]:
    """Return the text of a PDF, pages parted by an empty line, and a section per page.

    Raises:
        CorpusError: Broken, encrypted, of too many pages, or without any text (scanned, say).
    """
    import pypdfium2

    with _LOCK:
        try:
            with pypdfium2.PdfDocument(data) as document:
                title = document.get_metadata_value("Title")
                pages = list(_pages(document))
        except (pypdfium2.PdfiumError, UnicodeError) as error:
            raise CorpusError(f"a broken or encrypted PDF: {error}") from error
    if not any(page.strip() for page in pages):
        raise CorpusError(f"a PDF without text on its {len(pages)} pages; it needs OCR first")
    return "\n\n".join(pages), sections(_headings(pages, title))


def _pages(document: Any) -> Iterator[str]:
    n_pages, length = len(document), 0
    if not 0 < n_pages <= MAX_PAGES:
        broken = "a broken or encrypted PDF: it has no pages"
        raise CorpusError(
            f"a PDF of {n_pages:,} pages, over the limit of {MAX_PAGES:,}" if n_pages else broken
        )
    for number in range(n_pages):
        page = document[number]
        text = _text(_runs(page))
        page.close()
        length += len(text)
        if length > MAX_CHARS:
            raise CorpusError(f"a PDF with more than {MAX_CHARS:,} characters of text")
        yield text


def _runs(page: Any) -> list[_Run]:
    """Return the runs of text in the order in which the page draws them."""
    text = page.get_textpage()
    boxes = [text.get_rect(number) for number in range(text.count_rects())]
    runs = [_run(text, *box) for box in boxes]
    text.close()
    return [run for run in runs if run.text]


def _run(page: Any, left: float, low: float, right: float, top: float) -> _Run:
    from pypdfium2 import raw

    told = " ".join(page.get_text_bounded(left, low, right, top).split())
    at = page.get_index(left + 1, (low + top) / 2, 4, top - low)
    size = raw.FPDFText_GetFontSize(page, at) if at is not None else 0.0
    return _Run(left, low, right, top, told, size if size > 2 else top - low)


def _text(runs: Sequence[_Run]) -> str:
    """Return a page's text: column after column, its lines in paragraphs."""
    paragraphs: list[list[str]] = []
    for block in _blocks(runs):
        above: _Run | None = None
        for line in _lines(block):
            if above is None or _is_apart(above, line):
                paragraphs.append([])
            paragraphs[-1].append(line.text)
            above = line
    whole = " ".join(line for lines in paragraphs for line in lines)
    return "\n\n".join(_unbroken(lines, whole) for lines in paragraphs)


def _blocks(runs: Sequence[_Run]) -> Iterator[list[_Run]]:
    """Yield what is read one after the other: between wide lines, the left column, the right."""
    if not runs:
        return
    left, right = min(run.left for run in runs), max(run.right for run in runs)
    wide = {run for run in runs if run.right - run.left > _WIDE * (right - left)}
    gutter = _gutter([run for run in runs if run not in wide])
    if gutter is None:
        yield list(runs)
        return
    band: list[_Run] = []
    for run in [*sorted(runs, key=lambda run: -run.top), None]:
        if run is not None and not run.left < gutter < run.right:
            band.append(run)
            continue
        yield from filter(
            None, ([r for r in band if (r.left < gutter) is first] for first in (True, False))
        )
        band = []
        if run is not None:
            yield [run]


def _gutter(runs: Sequence[_Run]) -> float | None:
    """Return where two columns of prose part, if they do."""
    ordered = sorted(runs, key=lambda run: run.left)
    reach = 0.0
    for number, run in enumerate(ordered):
        if number and run.left - reach >= _GUTTER:
            sides = (_lines(ordered[:number]), _lines(ordered[number:]))
            if all(_is_column(side) for side in sides):
                return (run.left + reach) / 2
        reach = max(reach, run.right)
    return None


def _is_column(lines: Sequence[_Run]) -> bool:
    return sum(len(line.text) >= _COLUMN_CHARS for line in lines) >= _COLUMN_LINES


def _lines(runs: Sequence[_Run]) -> list[_Run]:
    """Join the runs that stand on one line, from the top down and from left to right."""
    lines: list[list[_Run]] = []
    for run in sorted(runs, key=lambda run: -(run.low + run.top)):
        middle = (run.low + run.top) / 2
        if lines and lines[-1][0].low <= middle <= lines[-1][0].top:
            lines[-1].append(run)
        else:
            lines.append([run])
    return [_joined(sorted(line, key=lambda run: run.left)) for line in lines]


def _joined(line: Sequence[_Run]) -> _Run:
    text, end = "", line[0].left
    for run in line:
        near = run.left - end < 0.15 * (run.top - run.low)
        text += ("" if near or not text else " ") + run.text
        end = run.right
    low, top = min(run.low for run in line), max(run.top for run in line)
    return _Run(line[0].left, low, end, top, text, max(run.size for run in line))


def _is_apart(above: _Run, line: _Run) -> bool:
    """Tell whether a line begins a paragraph, or is a heading or below one."""
    small, large = sorted((above.size, line.size))
    return large > _SIZED * small or above.low - line.low > _APART * large


def _unbroken(lines: Sequence[str], whole: str) -> str:
    """Return a paragraph whose words are whole; a hyphen that the page has elsewhere too stays."""
    text = lines[0]
    for line in lines[1:]:
        text = _HYPHENS.sub("-", text)
        head, tail = re.search(r"[^\W\d_]+-$", text), re.match(r"[^\W\d_]+", line)
        if head and tail and tail.group()[0].islower():
            kept = f"{head.group()}{tail.group()}" in whole
            text = (text if kept else text[:-1]) + line
        else:
            text += f"\n{line}"
    return _HYPHENS.sub("-", text)


def _headings(pages: Sequence[str], title: str) -> Iterator[Heading]:
    at = 0
    yield 0, 0, title
    for number, page in enumerate(pages, start=1):
        yield at, 1, f"page {number}"
        at += len(page) + len("\n\n")
