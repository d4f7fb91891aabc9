"""Extract the text of HTML pages and PDF files, with the headings above each part of it."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nemoflows.errors import CorpusError
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import MAX_HEADING_CHARS, Heading, sections

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_DROPPED = frozenset({"script", "style", "noscript", "template", "head", "svg", "iframe"})
_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "cite", "code", "em", "font", "i", "kbd", "label", "mark", "q", "s"}
    | {"samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"}
)
_PARAGRAPHS = frozenset({"p", "pre", "ul", "ol", "dl", "table", "blockquote", "section", "article"})
_LEVELS = {f"h{level}": level for level in range(1, 7)}
_SPACE = re.compile(r"\s+")
_MAX_CHARS = 64 * 2**20
"""A PDF whose text is longer than this is a decompression bomb."""


def html(text: str) -> tuple[str, list[Section]]:
    """Return the readable text of a page and its sections; the title is the highest heading."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(text)
    page = _Page()
    title = tree.css_first("head title")
    if title is not None:
        page.headings.append((0, 0, title.text()))
    if tree.body is not None:
        _walk(tree.body, page)
    return "".join(page.parts), sections(page.headings)


class _Page:
    """Text as it grows, white space folded as a browser folds it."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
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

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)


def _walk(body: LexborNode, page: _Page) -> None:
    """Visit the nodes in order without recursion: pages nest deeper than Python's stack."""
    stack = [(body, True)]
    verbatim = 0
    while stack:
        node, entering = stack.pop()
        tag = node.tag or ""
        if tag == "-text":
            page.add(node.text_content or "", verbatim=bool(verbatim))
        elif tag not in _DROPPED and not tag.startswith(("-", "!", "_")):
            verbatim += (1 if entering else -1) if tag == "pre" else 0
            _border(node, tag, page, entering=entering)
            if entering:
                stack.append((node, False))
                stack.extend((child, True) for child in reversed(list(_children(node))))


def _children(node: LexborNode) -> Iterator[LexborNode]:
    yield from node.iter(include_text=True)


def _border(node: LexborNode, tag: str, page: _Page, *, entering: bool) -> None:
    if tag in {"td", "th"}:
        page.ask(" | " if entering and page.gap != "\n" else "")
    elif tag in _LEVELS or tag in _PARAGRAPHS:
        page.ask("\n\n")
    elif tag not in _INLINE:
        page.ask("\n")
    if tag in _LEVELS and entering:
        at = page.length + (len(page.gap) if page.length else 0)
        page.headings.append((at, _LEVELS[tag], _title(node)))


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


def pdf(data: bytes) -> tuple[str, list[Section]]:
    """Return the text of a PDF, pages parted by an empty line, and a section per page.

    Raises:
        CorpusError: Broken, encrypted, or without any text (scanned pages, say).
    """
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        reader = PdfReader(io.BytesIO(data))
        title = str((reader.metadata.title if reader.metadata else "") or "")
        pages = list(_pages(page.extract_text() for page in reader.pages))
    except CorpusError:
        raise
    except Exception as error:
        # A broken PDF raises whatever it broke.
        raise CorpusError(f"a broken or encrypted PDF: {type(error).__name__}: {error}") from error
    if not any(page.strip() for page in pages):
        raise CorpusError(f"a PDF without text on its {len(pages)} pages; it needs OCR first")
    return "\n\n".join(pages), sections(_page_headings(pages, title))


def _pages(texts: Iterator[str]) -> Iterator[str]:
    length = 0
    for text in texts:
        length += len(text)
        if length > _MAX_CHARS:
            raise CorpusError(f"a PDF with more than {_MAX_CHARS:,} characters of text")
        yield text


def _page_headings(pages: list[str], title: str) -> Iterator[Heading]:
    at = 0
    yield 0, 0, title
    for number, page in enumerate(pages, start=1):
        yield at, 1, f"page {number}"
        at += len(page) + len("\n\n")
