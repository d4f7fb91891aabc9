"""Extract the text of HTML pages, without menus, with the headings above each part of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nemoflows.errors import CorpusError
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import MAX_HEADING_CHARS, sections
from nemoflows.search.pages import Mark, Page

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
_MENUS = frozenset({"nav", "footer", "menu", "dialog", "button", "select"})
_ASIDE = frozenset({"aside", "header"})
"""Dropped unless they stand in the article itself, or hold its title."""
_ROLES = frozenset({"navigation", "banner", "contentinfo", "complementary", "search", "menu"})
_MESSAGES = frozenset({"alert", "alertdialog", "dialog", "status", "tooltip"})
"""Hidden until something happens, as is a paragraph. What else is hidden, one unfolds: tabs."""
_TITLES = frozenset({*_LEVELS, "dt"})
_HOLDS_LINKS = frozenset({"ul", "ol", "div", "table", "p", "section", "center"})
_BLOCKS = "table, p, div, ul, ol, dl, h1, h2, h3, h4, pre, blockquote, section, article"
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
        page = Page(menus=menus)
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


def _walk(body: LexborNode, page: Page) -> None:
    """Visit the nodes in order without recursion: pages nest deeper than Python's stack."""
    stack: list[tuple[LexborNode, Mark | None]] = [(body, None)]
    verbatim = articles = 0
    while stack:
        node, since = stack.pop()
        tag, entering = node.tag or "", since is None
        if tag == "-text":
            page.add(node.text_content or "", verbatim=bool(verbatim))
            continue
        if tag in _DROPPED or tag.startswith(("-", "!", "_")):
            continue
        if entering and not page.menus and _is_furniture(node, tag, page, inside=bool(articles)):
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


def _is_furniture(node: LexborNode, tag: str, page: Page, *, inside: bool) -> bool:
    """Tell whether an element is there to find one's way, or waits for something to happen."""
    if tag in _MENUS or (tag in _ASIDE and not inside and node.css_first("h1,h2") is None):
        return tag != "button" or not page.begins_title()
    if tag in _INLINE or not node.attributes:
        return False
    told = node.attributes
    hidden = "hidden" in told or told.get("aria-hidden") == "true"
    if hidden and (told.get("role") in _MESSAGES or (tag == "p" and not _is_unfolded(node))):
        return True
    return told.get("role") in _ROLES and node.css_first("h1") is None


def _is_unfolded(node: LexborNode) -> bool:
    """Tell whether an element stands right behind what a person clicks to see it."""
    before = node.prev
    while before is not None and before.tag == "-text" and not (before.text_content or "").strip():
        before = before.prev
    return before is not None and before.tag in _TITLES | {"button"}


def _children(node: LexborNode) -> Iterator[LexborNode]:
    yield from node.iter(include_text=True)


def _border(node: LexborNode, tag: str, page: Page, *, entering: bool) -> None:
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
    if tag in _TITLES:
        page.title_at = page.length if entering else -1
    if tag in _LEVELS and entering:
        at = page.length + (len(page.gap) if page.length else 0)
        page.headings.append((at, _LEVELS[tag], _title(node)))


def _is_row(row: LexborNode, at_least: int) -> bool:
    """Tell whether a table's row holds values, and does not lay out the page."""
    return row.css_first(_BLOCKS) is None and len(row.css("td,th")) >= at_least


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
