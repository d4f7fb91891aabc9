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
_SIGNS = {f"{_W}{name}": sign for name, sign in (("tab", "\t"), ("br", "\n"), ("cr", "\n"))}
_NOT_SAID = {f"{_W}{name}" for name in ("p", "del", "moveFrom", "pPr", "txbxContent")} | {_FALLBACK}
_HOLDERS = {f"{_W}{name}" for name in ("sdt", "sdtContent", "ins", "moveTo", "customXml")}
_NOTES = ("footnote", "endnote", "comment")


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
    from docx.table import Table
    from docx.text.paragraph import Paragraph

    notes = _notes(document)
    for block in _blocks(document.element.body):
        if block.tag == f"{_W}tbl":
            rows = Table(block, document).rows
            told = piped([[" ".join(cell.text.split()) for cell in row.cells] for row in rows])
            style = ""
        else:
            told = "".join(_said(block)).strip()
            style = str(getattr(Paragraph(block, document).style, "name", None) or "")
        heading = _LEVEL.match(style)
        if told and style.startswith("List"):
            yield _ITEM, f"- {told}"
        elif told:
            yield (1 if style == "Title" else int(heading[1]) + 1 if heading else 0), told
        yield from ((0, notes[mark]) for mark in _marks(block) if notes.get(mark))
    yield from ((0, told) for told in dict.fromkeys(_margins(document)))


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
        if child.tag == f"{_W}t":
            yield child.text or ""
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
        for margin in (section.header, section.footer):
            if not margin.is_linked_to_previous:
                yield from filter(None, (part.text.strip() for part in margin.paragraphs))
