"""Find the headings in a text: Markdown, underlined titles, Python definitions."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from pathlib import PurePosixPath

from nemoflows.search.chunks import Section

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)?")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r"\ufeff? {0,3}(#{1,6})[ \t]+(.*)$")
_UNDERLINE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}[ \t]*$")

MAX_HEADING_CHARS = 300
_MAX_TITLE_CHARS = 120
_BOM = "\ufeff"

Heading = tuple[int, int, str]
"""Offset, level (1 is the highest), title."""


def sections(headings: Iterable[Heading]) -> list[Section]:
    """Return a section per heading, under the path of the headings above it."""
    path: list[tuple[int, str]] = []
    found = []
    for start, level, title in headings:
        path = [(above, name) for above, name in path if above < level]
        path.append((level, shortened(title)))
        found.append(Section(start, " > ".join(name for _, name in path if name)))
    return found


def shortened(title: str) -> str:
    """Return a title on one line, cut after `MAX_HEADING_CHARS`.

    Every passage carries its headings: an endless one, of a page whose tags never end, say, would
    be stored and indexed a thousand times.
    """
    line = " ".join(title[: 4 * MAX_HEADING_CHARS].split())
    return line if len(line) <= MAX_HEADING_CHARS else f"{line[: MAX_HEADING_CHARS - 1]}…"


def none(text: str, name: str) -> list[Section]:  # noqa: ARG001 - an outline like the others
    """Return no sections: the text has no headings that we know of."""
    return []


def markdown(text: str, name: str) -> list[Section]:  # noqa: ARG001
    """Return the sections under `#` headings and underlined titles, outside code fences."""
    return sections(with_bodies(text, markdown_headings(text)))


def markdown_headings(text: str) -> list[Heading]:
    """Return the headings of a Markdown text."""
    found: list[Heading] = []
    fence = ""
    lines = list(_lines(text))
    for number, (start, line) in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence and (atx := _ATX.match(line)):
            found.append((start, len(atx[1]), _unclosed(atx[2])))
        elif not fence and line[:1] in "=-" and _is_title(lines, number):
            found.append((lines[number - 1][0], 1 if line[0] == "=" else 2, lines[number - 1][1]))
    return found


def _unclosed(title: str) -> str:
    """Return a title without the `#` that may close it, apart from its words."""
    bare = title.strip(" \t")
    within = bare.rstrip("#")
    return within.rstrip(" \t") if within[-1:] in {"", " ", "\t"} else bare


def underlined(text: str, name: str) -> list[Section]:  # noqa: ARG001
    """Return the sections under titles that a line of punctuation underlines, as in rST."""
    found: list[Heading] = []
    styles: list[str] = []
    lines = list(_lines(text))
    for number, (_, line) in enumerate(lines):
        if not _is_title(lines, number):
            continue
        above = lines[number - 2][1] if number > 1 else ""
        style = line[0] * (2 if above == line else 1)
        if style not in styles:
            styles.append(style)
        first = lines[number - (2 if above == line else 1)][0]
        found.append((first, styles.index(style) + 1, lines[number - 1][1]))
    return sections(with_bodies(text, found))


def _is_title(lines: list[tuple[int, str]], number: int) -> bool:
    """Tell whether line `number` underlines a title of about its own length."""
    line = lines[number][1].rstrip()
    if number == 0 or not _UNDERLINE.match(line):
        return False
    title = lines[number - 1][1].rstrip()
    above = lines[number - 2][1].strip() if number > 1 else ""
    if not title or title[0].isspace() or _UNDERLINE.match(title) or above not in ("", line):
        return False
    return len(title) <= _MAX_TITLE_CHARS and title[0] not in "|>"


def with_bodies(text: str, headings: list[Heading]) -> Iterator[Heading]:
    """Give a heading that is followed by nothing but the next one to that one's section.

    Otherwise it would be a passage of its own that says nothing.
    """
    pending: int | None = None
    for heading, following in pairwise([*headings, (len(text), 0, "")]):
        start = heading[0] if pending is None else pending
        body = text[heading[0] : following[0]].strip().split("\n", 2)
        bare = not any(line.strip() and not _UNDERLINE.match(line) for line in body[1:])
        deeper = following[1] > heading[1]
        yield start, heading[1], heading[2]
        pending = start if bare and deeper else None


def python(text: str, name: str) -> list[Section]:
    """Return a section per definition and per docstring, under its qualified name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.removeprefix(_BOM))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    lines = [line for _, line in _lines(text.removeprefix(_BOM), keep_ends=True)]
    offsets = [0, *accumulate(map(len, lines))]
    path = PurePosixPath(name).with_suffix("")
    module = ".".join(part for part in path.parts if part != "__init__")
    outline = _Outline(lines, offsets)
    outline.visit(tree, module, len(text))
    skipped = len(text) - offsets[-1]
    return [Section(section.start + skipped, section.heading) for section in outline.found]


class _Outline:
    """Walks definitions in order of their source, and remembers where sections start."""

    def __init__(self, lines: list[str], offsets: list[int]) -> None:
        self.lines = lines
        self.offsets = offsets
        self.found: list[Section] = []

    def visit(self, node: ast.AST, name: str, end: int) -> None:
        """Add the sections of one definition; after it, at `end`, the outer one goes on."""
        body: list[ast.stmt] = getattr(node, "body", [])
        self._docstring(body, name)
        for child in body:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                child_end = self._at(child.end_lineno, child.end_col_offset)
                self._start(self.offsets[first - 1], f"{name}.{child.name}")
                self.visit(child, f"{name}.{child.name}", child_end)
                self._start(min(child_end, end), name)

    def _docstring(self, body: list[ast.stmt], name: str) -> None:
        first = body[0].value if body and isinstance(body[0], ast.Expr) else None
        if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
            return
        start = self._at(first.lineno, first.col_offset)
        end = self._at(first.end_lineno, first.end_col_offset)
        self._start(start, name)
        self._start(end, name)

    def _start(self, at: int, name: str) -> None:
        if self.found and self.found[-1].start >= at:
            self.found.pop()
        self.found.append(Section(at, name))

    def _at(self, line: int | None, column_bytes: int | None) -> int:
        """Return the offset of a place that `ast` gives as line and UTF-8 bytes."""
        number = (line or 1) - 1
        before = self.lines[number].encode()[: column_bytes or 0].decode("utf-8", "ignore")
        return self.offsets[number] + len(before)


def _lines(text: str, *, keep_ends: bool = False) -> Iterator[tuple[int, str]]:
    for found in _LINE.finditer(text):
        if found[0]:
            yield found.start(), found[0] if keep_ends else found[0].rstrip("\r\n")
