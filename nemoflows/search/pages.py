"""Grow the text of a page as a browser shows it: white space folded, tables row by row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from nemoflows.search.outlines import MAX_HEADING_CHARS, Heading

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_SPACE = re.compile(r"\s+")
_LINKED, _MENU_LINKS, _LINK_CHARS = 0.8, 3, 40
"""A list or block outside the article is a menu where this share of its text is links, this many at
least, none longer than this on average."""
MOST_SPANNED = 50
"""Rows or columns that one cell is repeated in."""
_MOST_REPEATED, _REPEATED = 2**18, 0.75
"""Characters that a page's cells are repeated with, and share of its text beyond them."""


class Mark(NamedTuple):
    """A place in a page as it grows."""

    n_parts: int
    n_headings: int
    length: int
    gap: str
    n_links: int
    link_chars: int


class Page:
    """Text as it grows, white space folded as a browser folds it."""

    def __init__(self, *, menus: bool = False) -> None:
        self.menus = menus
        """Whether menus are kept."""
        self.parts: list[str] = []
        self.n_links = self.link_chars = 0
        self.headings: list[Heading] = []
        self.in_row, self.n_cells = False, 0
        """Whether a table's row of values is read, and its cells so far."""
        self.spans: dict[int, tuple[int, str]] = {}
        """By column: in how many more rows a cell stands that spans several, and its text."""
        self.repeated = 0
        """Characters that stand there because a cell spans several rows or columns."""
        self.title_at = -1
        """Where the heading begins that is read."""
        self.length = 0
        self.gap = ""
        """White space owed before the next word; the strongest break asked for wins."""

    def add(self, text: str, *, verbatim: bool) -> None:
        """Append the text of one node."""
        if not verbatim:
            folded = _SPACE.sub(" ", text)
            if folded.startswith(" "):
                self.ask(" ")
            text = folded.strip(" ")
        if text:
            self._put((self.gap if self.length else "") + text)
            self.gap = " " if not verbatim and folded.endswith(" ") else ""

    def ask(self, gap: str) -> None:
        """Keep at least this much between what is there and what comes."""
        self.gap = max(self.gap, gap, key=lambda space: (space.count("\n"), len(space)))

    def mark(self) -> Mark:
        """Return how far the page has come."""
        return Mark(
            len(self.parts),
            len(self.headings),
            self.length,
            self.gap,
            self.n_links,
            self.link_chars,
        )

    def cell(self, node: LexborNode, *, entering: bool) -> None:
        """Begin or end a cell of a row of values; an empty one keeps its place.

        One that spans rows or columns stands in each of them.
        """
        wide, high = (min(MOST_SPANNED, _spans(node, name)) for name in ("colspan", "rowspan"))
        if entering:
            self._spanned()
            self._begin_cell()
        self.gap = ""
        if not entering and max(wide, high) > 1:
            told = " ".join((node.text() or "").split())[:MAX_HEADING_CHARS]
            for place in range(self.n_cells - 1, self.n_cells - 1 + wide):
                self.spans[place] = (high - 1, told)
            for _ in range((wide - 1) * self._may_repeat()):
                self._repeat(told)

    def _may_repeat(self) -> bool:
        """Tell whether a cell may be repeated: few tags can ask for a thousand times their text."""
        return self.repeated <= _MOST_REPEATED + _REPEATED * self.length

    def _repeat(self, told: str) -> None:
        before = self.length
        self._begin_cell(told)
        self.repeated += self.length - before

    def _begin_cell(self, told: str = "") -> None:
        self._put((" | " if self.n_cells else f"{self.gap if self.length else ''}| ") + told)
        self.n_cells, self.gap = self.n_cells + 1, ""

    def _spanned(self) -> None:
        """Add the cells of rows above that reach down to here."""
        while (left := self.spans.get(self.n_cells, (0, "")))[0] and self._may_repeat():
            self.spans[self.n_cells] = (left[0] - 1, left[1])
            self._repeat(left[1])

    def begins_title(self) -> bool:
        """Tell whether a heading is read of which nothing was said yet."""
        return self.title_at == self.length

    def end_row(self) -> None:
        """Close a row of values, and begin a line."""
        if self.n_cells:
            self._spanned()
            self._put(" |")
            self.n_cells, self.gap = 0, ""
        self.ask("\n")

    def is_menu(self, since: Mark) -> bool:
        """Tell whether what came since then is links and little else."""
        n, chars = self.n_links - since.n_links, self.link_chars - since.link_chars
        return (
            n >= _MENU_LINKS and _LINKED * (self.length - since.length) <= chars <= _LINK_CHARS * n
        )

    def leave_out(self, since: Mark) -> None:
        """Forget what came since then."""
        del self.parts[since.n_parts :], self.headings[since.n_headings :]
        self.length, self.gap = since.length, since.gap
        self.n_links, self.link_chars = since.n_links, since.link_chars
        self.ask("\n")

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)


def _spans(cell: LexborNode, name: str) -> int:
    told = cell.attributes.get(name) or ""
    return int(told) if told.isascii() and told.isdigit() and len(told) < 4 else 1
