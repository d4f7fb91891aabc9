"""Extract the text of a Word document: paragraphs, tables, boxes, notes, comments, margins."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

_LEVEL = re.compile(r"Heading (\d)")
_ITEM = -1
"""In place of a heading's level: an item of a list."""
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
"""What a drawing says once more, for programs that cannot show it."""
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_TEXTS = {f"{_W}t", f"{_M}t"}
_SIGNS = {
    f"{_W}{name}": sign
    for name, sign in (("tab", "\t"), ("br", "\n"), ("cr", "\n"), ("noBreakHyphen", "-"))
}
_TERMS = {
    f"{_M}{name}": sign for name, sign in (("num", ""), ("den", "/"), ("sup", "^"), ("sub", "_"))
}
"""Parts of an equation, and the sign before each."""
_NOT_SAID = {f"{_W}{name}" for name in ("p", "del", "moveFrom", "pPr", "txbxContent")} | {_FALLBACK}
_HOLDERS = {f"{_W}{name}" for name in ("sdt", "sdtContent", "ins", "moveTo", "customXml")}
_NOTES = ("footnote", "endnote", "comment")
_MOST_SPANNED = 50
"""Columns that one cell is repeated in."""


def blocks(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield each paragraph, list and table in order, with the level of a heading or 0.

    What is deleted and not yet accepted is left out. A note and a comment stand behind the
    paragraph that they belong to, what stands in the margins of all pages at the end.
    """
    import docx

    document = docx.Document(io.BytesIO(data))
    for is_list, group in groupby(_told(document), lambda each: each[0] == _ITEM):
        if is_list:
            yield 0, "\n".join(told for _, told in group)
        else:
            yield from group


def _told(document: Any) -> Iterator[tuple[int, str]]:
    from docx.text.paragraph import Paragraph

    notes = _notes(document)
    for block in _blocks(document.element.body):
        told, style = _text(block), ""
        if block.tag != f"{_W}tbl":
            style = str(getattr(Paragraph(block, document).style, "name", None) or "")
        heading = _LEVEL.match(style)
        if told and style.startswith("List"):
            yield _ITEM, f"- {told}"
        elif told:
            yield (1 if style == "Title" else int(heading[1]) + 1 if heading else 0), told
        yield from ((0, notes[mark]) for mark in _marks(block) if notes.get(mark))
    yield from ((0, told) for told in dict.fromkeys(_margins(document)))


def _text(block: Any) -> str:
    return piped(_rows(block)) if block.tag == f"{_W}tbl" else "".join(_said(block)).strip()


def _rows(table: Any) -> list[list[str]]:
    """Return what a table's cells say; one that spans rows or columns stands in each of them."""
    rows: list[list[str]] = []
    for row in _parts(table, "tr"):
        cells: list[str] = []
        for cell in _parts(row, "tc"):
            at = len(cells)
            above = rows[-1][at] if rows and at < len(rows[-1]) else ""
            told = above if cell.vMerge == "continue" else " ".join(_words(cell))
            cells += [told] * min(cell.grid_span, _MOST_SPANNED)
        rows.append(cells)
    return rows


def _words(cell: Any) -> Iterator[str]:
    """Yield the words of a cell, those of tables in it too."""
    for block in _blocks(cell):
        if block.tag == f"{_W}tbl":
            for row in _parts(block, "tr"):
                for inner in _parts(row, "tc"):
                    yield from _words(inner)
        else:
            yield from "".join(_said(block)).split()


def _parts(parent: Any, name: str) -> Iterator[Any]:
    """Yield a table's rows or a row's cells, those in controls of a form too."""
    for child in parent:
        if child.tag == f"{_W}{name}":
            yield child
        elif child.tag in _HOLDERS:
            yield from _parts(child, name)


def piped(rows: list[list[str]]) -> str:
    """Return rows as a table of Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in rows if any(row)]
    return "\n".join([*lines[:1], *(["|" + "---|" * len(rows[0])] if lines else []), *lines[1:]])


def _blocks(parent: Any) -> Iterator[Any]:
    """Yield the paragraphs and tables below an element, those of text boxes behind their place."""
    for child in parent:
        if child.tag in {f"{_W}p", f"{_W}tbl"}:
            yield child
        if child.tag in _HOLDERS:
            yield from _blocks(child)
        elif child.tag == f"{_W}p":
            for box in child.iter(f"{_W}txbxContent"):
                if next(box.iterancestors(_FALLBACK), None) is None:
                    yield from _blocks(box)


def _said(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag in _TEXTS:
            yield child.text or ""
        elif child.tag in _TERMS:
            term = "".join(_said(child))
            yield _TERMS[child.tag] + (term if term.isalnum() else f"({term})") if term else ""
        elif child.tag in _SIGNS:
            yield _SIGNS[child.tag]
        elif child.tag not in _NOT_SAID:
            yield from _said(child)


def _notes(document: Any) -> Mapping[tuple[str, str], str]:
    """Return each note and comment by its kind and number; a comment names its author."""
    from docx.oxml import parse_xml

    found = {}
    for link in document.part.rels.values():
        kind = link.reltype.rpartition("/")[2].removesuffix("s")
        if kind not in _NOTES or link.is_external:
            continue
        for note in parse_xml(link.target_part.blob).iter(f"{_W}{kind}"):
            text = " ".join(filter(None, ("".join(_said(p)).strip() for p in _blocks(note))))
            author = note.get(f"{_W}author")
            found[kind, note.get(f"{_W}id")] = f"{author}: {text}" if author and text else text
    return found


def _marks(block: Any) -> Iterator[tuple[str, str]]:
    for kind in _NOTES:
        for mark in block.iter(f"{_W}{kind}Reference"):
            yield kind, mark.get(f"{_W}id")


def _margins(document: Any) -> Iterator[str]:
    for section in document.sections:
        margins = [section.header, section.footer]
        if section.different_first_page_header_footer:
            margins += [section.first_page_header, section.first_page_footer]
        for margin in margins:
            if not margin.is_linked_to_previous:
                yield from filter(None, map(_text, _blocks(margin._element)))  # noqa: SLF001 - controls too
