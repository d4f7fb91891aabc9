"""What is searched for: a question taken apart, and the next query after what was found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import dropwhile

from nemoflows.engines.builtin.weights import Bag
from nemoflows.language.terms import terms, words
from nemoflows.language.titles import mentions, title
from nemoflows.types import Passage

N_BRIDGES = 3
"""Names that a rewritten query takes from what was found; more drown what is still asked."""

_CAPITAL = "A-Z\u00c0-\u00d6\u00d8-\u00de"
_WORD = rf"[{_CAPITAL}][\w'&.-]*\w"
_PHRASE = re.compile(
    rf"[\"\u201c]([{_CAPITAL}][^\"\u201d\n]{{2,60}})[\"\u201d]|"
    rf"\b({_WORD}(?: (?:(?:of|the|de|von|van|der|la|ki|al) ){{0,2}}(?:{_WORD}|\d+\b))*)"
)
_ASKING = r"(?:who|what|which|when|where|why|how)\b"
_PARTS = re.compile(rf"(?<=\?)\s+(?=\S)|,?\s+(?:and|or)\s+(?=(?:also\s+)?{_ASKING})", re.IGNORECASE)
_HOW = r"(?:\s+(?:in terms of|regarding|for)\s+(?P<how>.+?))?\s*[?.]?$"
_COMPARED = (
    re.compile(rf"\bbetween\s+(?P<a>.+?)\s+and\s+(?P<b>.+?){_HOW}", re.IGNORECASE),
    re.compile(
        rf"^(?:compare\s+)?(?P<a>[^?]+?)\s+(?:with|to|versus|vs\.?)\s+(?P<b>[^?]+?){_HOW}",
        re.IGNORECASE,
    ),
)
_COMPARES = re.compile(r"\b(?:difference|similarit|compar|versus|vs\b)", re.IGNORECASE)
_CHOICE = re.compile(r"^(?P<asks>.+?)[,:]\s*(?P<a>[^,?]+?)\s+or\s+(?P<b>[^,?]+?)\s*\??$")
_PRONOUN = re.compile(r"\b(?:it|they|he|she|them|him)\b", re.IGNORECASE)


def plan(question: str, n: int) -> list[str]:
    """Split `question` into at most `n` sub-questions; usually it is its own only one.

    Several questions in one are asked one by one, and a comparison once for each side.
    """
    whole = " ".join(question.split())
    parts = _compared(whole) or _several(whole)
    return parts if 1 < len(parts) <= n else [whole]


def _compared(question: str) -> list[str]:
    """Return a question about each side of a comparison; empty where nothing is compared."""
    tried = (each.search(question) for each in _COMPARED if _COMPARES.search(question))
    if found := next(filter(None, tried), None):
        how = f" in terms of {found['how']}" if found["how"] else ""
        return [f"What is {found[side]}{how}?" for side in "ab"]
    choice = _CHOICE.match(question)
    return [f"{choice['asks']}: {choice[side]}?" for side in "ab"] if choice else []


def _several(question: str) -> list[str]:
    """Return the questions that one text asks one after the other.

    A later one's pronoun stands for the one name of the first.
    """
    first, *others = _PARTS.split(question)
    named = phrases(first)
    if len(named) == 1:
        others = [_PRONOUN.sub(lambda _: named[0], part, count=1) for part in others]
    asked = [part.strip().rstrip(",;?. ") for part in (first, *others) if len(part.split()) > 1]
    return [f"{part[0].upper()}{part[1:]}?" for part in asked if part]


def rewrite(question: str, passages: Sequence[Passage], queries: Sequence[str]) -> str:
    """Return the next hop's query, or "" where another hop would add nothing.

    It names what the question names and the best passage does not hold, or else the names that
    this passage brings in, with those words of the question that it leaves open.

    Args:
        question: What is asked.
        passages: What the hops so far retrieved, best first.
        queries: What was searched for, in order.
    """
    if not passages:
        return ""
    best = passages[0]
    held = Bag(best.text, best.heading)
    line = f" {' '.join(held.order)} "
    asked = [name for name in phrases(question) if f" {' '.join(terms(name))} " not in line]
    if not asked and (bridges := _bridges(question, passages)):
        opened = (word for word in words(question) if not all(map(held.near, terms(word))))
        asked = [*bridges, *opened]
    query = " ".join(asked)
    return "" if any(set(terms(query)) == set(terms(earlier)) for earlier in queries) else query


def _bridges(question: str, passages: Sequence[Passage]) -> list[str]:
    """Return names in the best passage that the question lacks, retrieved titles first."""
    best, *others = passages
    asked = {*terms(question), *terms(title(best))}
    names = [title(other) for other in others if mentions(best, other)] + phrases(best.text)
    return list(dict.fromkeys(name for name in names if not set(terms(name)) <= asked))[:N_BRIDGES]


def phrases(text: str) -> list[str]:
    """Return the names in `text` in order of appearance: capitalised or quoted phrases."""
    found = (match[1] or _trimmed(match[2]) for match in _PHRASE.finditer(text))
    return [name for name in dict.fromkeys(found) if terms(name)]


def _trimmed(phrase: str) -> str:
    """Drop the function words that a phrase begins with, as in "Are King Vidor"."""
    return " ".join(dropwhile(lambda word: not terms(word), phrase.split()))
