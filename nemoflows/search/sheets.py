"""Extract the text of a workbook: each row of a sheet as a record, with its cells' comments."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from nemoflows.errors import CorpusError
from nemoflows.search.tables import sheet

MAX_CELLS = 4_000_000
MAX_MERGED = 10_000
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\b[^>]*\bref=\"([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})\"")
_PART_BYTES = 2**20
_THREADED = re.compile(r"\A\[Threaded comment\].*?\bComment:\s", re.DOTALL)
"""What Excel writes before a comment of today's kind, for versions that do not know it."""
_FORMAT = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|\[\$(?P<currency>[^\]-]*)(?:-[^\]]*)?\]'
    r"|\[(?P<rule>[^\]]*)\]|[_*].|(?P<digits>[#0?][#0?,.]*)|(?P<sign>.)"
)
_MAX_SHOWN, _MAX_DECIMALS = 1e15, 10
_COLOUR = re.compile(r"[A-Za-z]+\d*\Z")


def workbook(data: bytes, note: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """Yield each sheet's name, then its rows as records; of formulas the values."""
    import openpyxl

    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    n_cells = 0
    for page in book.worksheets:
        rows = []
        for row in page.iter_rows():
            n_cells += len(row)
            if n_cells > MAX_CELLS:
                raise CorpusError(f"a workbook of more than {MAX_CELLS:,} cells; split it")
            rows.append([_shown(each) for each in row])
        _fill_down(rows, _merged(book, page))
        name = str(page.title)
        try:
            _remark(rows, _comments(book, page))
        except Exception as error:  # noqa: BLE001 - the cells themselves were read
            note(f"{name}: its comments cannot be read: {type(error).__name__}")
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


def _comments(book: Any, page: Any) -> Iterator[tuple[int, int, str]]:
    """Yield the row and the column, from 0, of each comment on a cell, and what it says."""
    from openpyxl.comments.comment_sheet import CommentSheet
    from openpyxl.packaging.relationship import get_dependents, get_rels_path
    from openpyxl.utils import coordinate_to_tuple
    from openpyxl.xml.constants import COMMENTS_NS
    from openpyxl.xml.functions import fromstring

    archive = book._archive  # noqa: SLF001 - as above
    links = get_rels_path(page._worksheet_path)  # noqa: SLF001
    found = get_dependents(archive, links).find(COMMENTS_NS) if links in archive.NameToInfo else ()
    for link in found:
        notes = CommentSheet.from_tree(fromstring(archive.read(link.target)))
        for place, comment in notes.comments:
            row, column = coordinate_to_tuple(place)
            yield row - 1, column - 1, _said(comment.text, comment.author or "")


def _said(text: str, author: str) -> str:
    """Return a comment and its author, who is a number where it is a thread's first."""
    told, n_threads = _THREADED.subn("", text)
    told = " ".join(told.split())
    return told if not told or n_threads or told.startswith(author) else f"{author}: {told}"


def _remark(rows: list[list[str]], comments: Iterator[tuple[int, int, str]]) -> None:
    """Write each comment into its cell, behind what that says."""
    for row, column, text in comments:
        if text and row < len(rows) and column < len(rows[row]):
            rows[row][column] = f"{rows[row][column]} ({text})".lstrip()


def _of(page: str, note: Callable[[str], None]) -> Callable[[str], None]:
    return lambda told: note(f"{page}, {told}")


class _Format(NamedTuple):
    """How a number is shown: what stands before and behind it, and its digits."""

    before: str
    after: str
    scale: int
    digits: int
    decimals: int
    optional: int
    """Decimals behind these, where they are not 0."""


def _shown(place: Any) -> str:
    """Return what a cell says as it is shown, where its format adds a sign, a unit or zeros."""
    value = place.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not place.has_style:
        return cell(value)
    try:
        form = _format(place.number_format)
    except IndexError:  # a broken file: the style is none of its
        form = None
    if form is None or not abs(value) < _MAX_SHOWN:
        return cell(value)
    return ("-" if value < 0 else "") + form.before + _rounded(value, form) + form.after


def _rounded(value: float, form: _Format) -> str:
    """Return the digits of a number, halves rounded up as programs for sheets do."""
    last = Decimal(1).scaleb(-form.decimals - form.optional)
    number = (abs(Decimal(repr(value))) * form.scale).quantize(last, ROUND_HALF_UP)
    whole, _, part = f"{number:f}".partition(".")
    part = part[: form.decimals] + part[form.decimals :].rstrip("0")
    return whole.zfill(form.digits) + (f".{part}" if part else "")


@lru_cache(maxsize=1024)
def _format(written: str) -> _Format | None:
    """Return a number format's beginning, for numbers above 0; None where it adds nothing.

    Source: ECMA-376 part 1, 18.8.31, number format codes.
    """
    around, digits = ["", ""], ""
    for found in _FORMAT.finditer(written):
        kind, told = found.lastgroup, found[found.lastgroup or 0]
        if kind == "sign" and told == ";":
            break
        if kind == "digits" and not digits:
            digits = told
        elif kind in {"quoted", "escaped", "currency"} or (kind == "sign" and not told.isalnum()):
            around[bool(digits)] += told
        elif kind and not (kind == "rule" and _COLOUR.match(told)):
            return None
    whole, _, decimals = digits.partition(".")
    before, after = around[0].lstrip(), around[1].rstrip()
    if not digits or digits.endswith(",") or not (_tells(before + after) or whole.count("0") > 1):
        return None
    if len(decimals) > _MAX_DECIMALS:
        return None
    scale, n = 100 if "%" in before + after else 1, decimals.count("0")
    return _Format(before, after, scale, whole.count("0"), n, len(decimals) - n)


def _tells(signs: str) -> bool:
    return any(
        each == "%" or each.isalpha() or unicodedata.category(each) == "Sc" for each in signs
    )


def cell(value: object) -> str:
    """Return a value as a person would write it."""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)
