"""Cut a document into passages along its headings, paragraphs and sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TARGET_CHARS = 1000
"""The longest passage. 600 to 1,000 led on cookbook_docs (nDCG@10 .79 to .80 against .74 for whole
documents), and about 1,000 characters are what MiniLM's 256 tokens hold."""

VERSION = 1
"""Raised whenever the same document would be cut in other places."""

_BREAKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:\r?\n|\r)[^\S\r\n]*(?:\r?\n|\r)\s*",
        r"\r?\n|\r",
        r"(?<=[.!?])\s+|(?<=[。｡।؟])",
        r"\s+",
    )
)
"""Where a text may be cut: between paragraphs, lines, sentences, words; the first that helps."""


@dataclass(frozen=True, slots=True)
class Section:
    """From `start` up to the next section the headings above the text are `heading`."""

    start: int
    heading: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a document's text; it neither starts nor ends with white space."""

    start: int
    end: int
    heading: str


def split(
    text: str, sections: Sequence[Section] = (), *, target_chars: int = TARGET_CHARS
) -> list[Chunk]:
    """Return the passages of `text` in order; together they hold all but white space.

    A passage never spans two sections. A long section is cut into parts of about equal length,
    so that no passage is a leftover of a few words.

    Args:
        text: The document's whole text.
        sections: In order of their start; text before the first has no heading.
        target_chars: The longest passage wanted.
    """
    starts = [Section(0, ""), *sections]
    ends = [section.start for section in sections] + [len(text)]
    return [
        Chunk(start, end, section.heading)
        for section, section_end in zip(starts, ends, strict=True)
        for start, end in _passages(text, section.start, section_end, target_chars)
    ]


def _passages(text: str, start: int, end: int, target: int) -> Iterator[tuple[int, int]]:
    start, end = _trim(text, start, end)
    if start == end:
        return
    parts = -(-(end - start) // target)
    goal = -(-(end - start) // parts)
    # Equal parts that end at good places need some slack over their mean length.
    for low, high in _pack(text, start, end, min(target, goal + goal // 4)):
        trimmed = _trim(text, low, high)
        if trimmed[0] < trimmed[1]:
            yield trimmed


def _pack(text: str, start: int, end: int, limit: int, depth: int = 0) -> Iterator[tuple[int, int]]:
    """Join neighbouring pieces up to `limit` characters; cut a piece that is longer by itself."""
    if end - start <= limit:
        yield start, end
        return
    low = high = start
    for piece_start, piece_end in _pieces(text, start, end, limit, depth):
        if piece_end - low <= limit:
            high = piece_end
            continue
        if high > low:
            yield low, high
        low = high = piece_end
        if piece_end - piece_start <= limit:
            low = piece_start
        else:
            *whole, (low, high) = _pack(text, piece_start, piece_end, limit, depth + 1)
            yield from whole
    if high > low:
        yield low, high


def _pieces(text: str, start: int, end: int, limit: int, depth: int) -> Iterator[tuple[int, int]]:
    if depth == len(_BREAKS):
        yield from ((at, min(at + limit, end)) for at in range(start, end, limit))
        return
    at = start
    for found in _BREAKS[depth].finditer(text, start, end):
        if found.end() > at:
            yield at, found.end()
            at = found.end()
    if at < end:
        yield at, end


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and _blank(text[start]):
        start += 1
    while end > start and _blank(text[end - 1]):
        end -= 1
    return start, end


def _blank(character: str) -> bool:
    # A byte order mark is kept for the sake of the offsets, and says nothing.
    return character.isspace() or character == "\ufeff"
