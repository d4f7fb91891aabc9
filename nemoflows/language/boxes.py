"""The boxes of forms and task lists: what is ticked, and what is left open."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

WORDS = """
choose chosen choice select selected tick ticked check checked mark marked cross crossed pick picked
complete completed finish finished open todo left undone unfinished incomplete remain remaining
missing unticked unchecked task item
"""
"""By which people ask for what a box says by its sign."""
_ASKS_FOR_OPEN = re.compile(
    r"\b(?:open|todo|left|un(?:done|finished|ticked|checked|marked)|incomplete|remain\w*|missing|"
    r"not|never|yet)\b|n['\u2019]t\b",
    re.IGNORECASE,
)

BOX = re.compile(
    r"(?<!\S)(?:\[[ _xX\u2713\u2714]\]|\([ _xX\u2713\u2714\u2022]\)|"
    r"[\u2610-\u2612\u2705\u2b1c\u25a1\u25a0\u25cb\u25cf\u25c9\u25fb\u25fc])(?=\s|[^\W_]|$)"
)
_EMPTY = set(" _\u2610\u2b1c\u25a1\u25cb\u25fb")
_PLAIN = set("\u25a0\u25cf\u25cb\u25a1\u25c9\u25fb\u25fc")
"""Signs that stand before items of any list too."""
_BETWEEN = " \t\r\n-*+\u2022,;|/"
_LEAD = re.compile(r"[ \t]*(?:(?:[-*+\u2022]|\(?\d{1,3}[.)])[ \t]+)?")


MOST_LOOKED_AT = 100


class Option(NamedTuple):
    """A box with what it stands beside, and what the boxes around it are about."""

    start: int
    end: int
    ticked: bool
    about: str


def asks_for_ticked(question: str) -> bool:
    """Tell whether a question is after what is ticked, and not after what is left open."""
    return _ASKS_FOR_OPEN.search(question) is None


def options(text: str) -> list[Option]:
    """Return the boxes of a text, in order; none where the signs may mean something else."""
    found = list(_options(text))
    both = len({option.ticked for option in found}) == 2
    sure = both or any(_is_surely(text, option) for option in found[:MOST_LOOKED_AT])
    return found if sure else []


def _is_surely(text: str, option: Option) -> bool:
    """Tell whether a box alone is one: square, and the first of its line."""
    before = text[text.rfind("\n", 0, option.start) + 1 : option.start]
    sure = text[option.start] not in _PLAIN and text[option.start] != "("
    return sure and _LEAD.fullmatch(before) is not None


def _options(text: str) -> Iterator[Option]:
    about, at = "", 0
    for line in text.splitlines(keepends=True):
        boxes = list(BOX.finditer(line))
        if boxes:
            yield from _of_line(line, boxes, about, at)
        elif line.strip():
            about = line.strip(" \t\r\n#*_:")
        at += len(line)


def _of_line(line: str, boxes: list[re.Match[str]], about: str, at: int) -> Iterator[Option]:
    """Yield a line's options, which stand behind their boxes or, where none does, before them."""
    lead = _LEAD.match(line)
    first = lead.end() if lead else 0
    led = line[first : boxes[0].start()].strip()
    behind = bool(line[boxes[-1].end() :].strip()) or not led
    colon = line.rfind(":", first, boxes[0].start())
    told = led.strip(" :*_") if behind else line[first:colon] if colon >= 0 else ""
    starts = [box.start() for box in boxes] + [len(line.rstrip())]
    ends = [max(first, colon + 1)] + [box.end() for box in boxes]
    for n, box in enumerate(boxes):
        low, high = (starts[n], starts[n + 1]) if behind else (ends[n], ends[n + 1])
        part = line[low:high]
        low += len(part) - len(part.lstrip())
        end, ticked = low + len(part.strip(" \t\r\n,;|/")), box.group()[-2:][0] not in _EMPTY
        yield Option(at + low, at + end, ticked, told or about)


def cut(text: str, start: int, end: int, boxes: Sequence[Option]) -> Iterator[tuple[int, int, str]]:
    """Yield the parts of a stretch with their kinds.

    Each box with its words is a "bullet", what leads to boxes a "heading", and all else "".
    """
    at = start
    for n in range(bisect_left(boxes, start, key=attrgetter("start")), len(boxes)):
        box = boxes[n]
        if box.start >= end:
            break
        yield from _rest(text, at, box.start, "heading")
        at = min(box.end, end)
        yield box.start, at, "bullet"
    yield from _rest(text, at, end, "")


def _rest(text: str, start: int, end: int, led: str) -> Iterator[tuple[int, int, str]]:
    """Yield what stands between boxes; its last line, where it ends in a colon, leads to one."""
    colon = led and text[start:end].rstrip(" \t").endswith(":")
    line = max(start, text.rfind("\n", start, end) + 1) if colon else end
    for low, high, kind in ((start, line, ""), (line, end, led)):
        bare = text[low:high].strip(_BETWEEN)
        if bare:
            begin = high - len(text[low:high].lstrip(_BETWEEN))
            yield begin, begin + len(bare), kind
