"""Extract the text of HTML pages, without menus, with the headings above each part of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from nemoflows.errors import CorpusError
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import MAX_HEADING_CHARS, Heading, sections

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_DROPPED = frozenset(
    {"script", "style", "noscript", "template", "head", "iframe", "title", "desc", "metadata"}
    | {"defs", "symbol"}
)
"""Some of them within drawings, of which the labels are read."""
_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "cite", "code", "em", "font", "i", "input", "kbd", "label", "mark"}
    | {"q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tspan", "tt", "u", "var"}
    | {"wbr"}
)
_PARAGRAPHS = frozenset({"p", "pre", "ul", "ol", "dl", "table", "blockquote", "section", "article"})
_LEVELS = {f"h{level}": level for level in range(1, 7)}
_SPACE = re.compile(r"\s+")
_MENUS = frozenset({"nav", "footer", "menu", "dialog", "button", "select"})
_ASIDE = frozenset({"aside", "header"})
"""Dropped unless they stand in the article itself, or hold its title."""
_ROLES = frozenset({"navigation", "banner", "contentinfo", "complementary", "search", "menu"})
_LINKED, _MENU_LINKS, _LINK_CHARS = 0.8, 3, 40
"""A list or block outside the article is a menu where this share of its text is links, this many at
least, none longer than this on average."""
_HOLDS_LINKS = frozenset({"ul", "ol", "div", "table", "p", "section", "center"})
_BLOCKS = "table, p, div, ul, ol, dl, h1, h2, h3, h4, pre, blockquote, section, article"
MOST_SPANNED = 50
"""Rows or columns that one cell is repeated in."""
MAX_DEPTH = 20_000
"""The parser's time grows with the square of it: 0.3 s here. Browsers stop at 512."""
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_UNNESTED = frozenset(
    """
    area base br col embed hr img input link meta source track wbr p li dt dd tr td th thead tbody
    tfoot option optgroup colgroup rp rt html head body
    """.split()  # noqa: SIM905 - as prose
)
"""Tags that hold nothing, or that a later one of their kind ends."""


def html(text: str) -> tuple[str, list[Section]]:
    """Return the readable text of a page and its sections; the title is the highest heading.

    Menus, footers and the like are left out, unless nothing else is there.

    Raises:
        CorpusError: Its tags are nested deeper than `MAX_DEPTH`.
    """
    from selectolax.lexbor import LexborHTMLParser

    _refuse_deep(text)
    tree = LexborHTMLParser(text)
    title = tree.css_first("head title") or tree.css_first("body > svg:only-child > title")
    for menus in (False, True):
        page = _Page(menus=menus)
        if title is not None:
            page.headings.append((0, 0, title.text()))
        if tree.body is not None:
            _walk(tree.body, page)
        if page.length:
            break
    return "".join(page.parts), sections(page.headings)


def _refuse_deep(text: str) -> None:
    depth = 0
    for closes, tag in _TAG.findall(text):
        if tag.lower() not in _UNNESTED:
            depth = max(0, depth - 1) if closes else depth + 1
            if depth > MAX_DEPTH:
                raise CorpusError(f"its tags are nested deeper than {MAX_DEPTH:,} levels")


class _Mark(NamedTuple):
    """A place in a page as it grows."""

    n_parts: int
    n_headings: int
    length: int
    gap: str
    n_links: int
    link_chars: int


class _Page:
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

    def mark(self) -> _Mark:
        """Return how far the page has come."""
        return _Mark(
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
            for _ in range(wide - 1):
                self._begin_cell(told)

    def _begin_cell(self, told: str = "") -> None:
        self._put((" | " if self.n_cells else f"{self.gap if self.length else ''}| ") + told)
        self.n_cells, self.gap = self.n_cells + 1, ""

    def _spanned(self) -> None:
        """Add the cells of rows above that reach down to here."""
        while (left := self.spans.get(self.n_cells, (0, "")))[0]:
            self.spans[self.n_cells] = (left[0] - 1, left[1])
            self._begin_cell(left[1])

    def end_row(self) -> None:
        """Close a row of values, and begin a line."""
        if self.n_cells:
            self._spanned()
            self._put(" |")
            self.n_cells, self.gap = 0, ""
        self.ask("\n")

    def is_menu(self, since: _Mark) -> bool:
        """Tell whether what came since then is links and little else."""
        n, chars = self.n_links - since.n_links, self.link_chars - since.link_chars
        return (
            n >= _MENU_LINKS and _LINKED * (self.length - since.length) <= chars <= _LINK_CHARS * n
        )

    def leave_out(self, since: _Mark) -> None:
        """Forget what came since then."""
        del self.parts[since.n_parts :], self.headings[since.n_headings :]
        self.length, self.gap = since.length, since.gap
        self.n_links, self.link_chars = since.n_links, since.link_chars
        self.ask("\n")

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)


def _walk(body: LexborNode, page: _Page) -> None:
    """Visit the nodes in order without recursion: pages nest deeper than Python's stack."""
    stack: list[tuple[LexborNode, _Mark | None]] = [(body, None)]
    verbatim = articles = 0
    while stack:
        node, since = stack.pop()
        tag, entering = node.tag or "", since is None
        if tag == "-text":
            page.add(node.text_content or "", verbatim=bool(verbatim))
            continue
        if tag in _DROPPED or tag.startswith(("-", "!", "_")):
            continue
        if entering and not page.menus and _is_furniture(node, tag, inside=bool(articles)):
            continue
        step = 1 if entering else -1
        verbatim += step * (tag == "pre")
        articles += step * (tag in {"main", "article"})
        _border(node, tag, page, entering=entering)
        if entering:
            stack.append((node, page.mark()))
            stack.extend((child, None) for child in reversed(list(_children(node))))
        elif since is not None and tag == "a":
            page.n_links += 1
            page.link_chars += page.length - since.length
        elif since and tag in _HOLDS_LINKS and not (articles or page.menus) and page.is_menu(since):
            page.leave_out(since)


def _is_furniture(node: LexborNode, tag: str, *, inside: bool) -> bool:
    """Tell whether an element is there to find one's way, or is not shown."""
    if tag in _MENUS or (tag in _ASIDE and not inside and node.css_first("h1,h2") is None):
        return True
    if tag in _INLINE or not node.attributes:
        return False
    told = node.attributes
    hidden = "hidden" in told or told.get("aria-hidden") == "true"
    return hidden or (told.get("role") in _ROLES and node.css_first("h1") is None)


def _children(node: LexborNode) -> Iterator[LexborNode]:
    yield from node.iter(include_text=True)


def _border(node: LexborNode, tag: str, page: _Page, *, entering: bool) -> None:
    if tag == "tr":
        page.end_row()
        page.in_row = entering and _is_row(node, at_least=1 if page.spans else 2)
    elif tag in {"td", "th"} and page.in_row:
        page.cell(node, entering=entering)
    elif tag in {"td", "th"}:
        page.ask(" | " if entering and page.gap != "\n" else "")
    elif tag == "input" and entering and node.attributes.get("type") in {"checkbox", "radio"}:
        page.add(" [x] " if "checked" in node.attributes else " [ ] ", verbatim=False)
    elif tag in _LEVELS or tag in _PARAGRAPHS:
        page.ask("\n\n")
        page.spans.clear()
    elif tag not in _INLINE:
        page.ask("\n")
    if tag in _LEVELS and entering:
        at = page.length + (len(page.gap) if page.length else 0)
        page.headings.append((at, _LEVELS[tag], _title(node)))


def _is_row(row: LexborNode, at_least: int) -> bool:
    """Tell whether a table's row holds values, and does not lay out the page."""
    return row.css_first(_BLOCKS) is None and len(row.css("td,th")) >= at_least


def _spans(cell: LexborNode, name: str) -> int:
    told = cell.attributes.get(name) or ""
    return int(told) if told.isascii() and told.isdigit() and len(told) < 4 else 1


def _title(heading: LexborNode) -> str:
    """Return the text of a heading up to the first block in it, where a page forgot to end it."""
    text = ""
    for node in heading.traverse(include_text=True):
        tag = node.tag or ""
        if tag == "-text":
            text += node.text_content or ""
        elif tag not in _INLINE:
            if text.strip() and tag not in {"br", "wbr"}:
                break
            text += " "
        if len(text) > MAX_HEADING_CHARS:
            break
    return text
