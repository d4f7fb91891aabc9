"""A question taken apart by rules."""

from __future__ import annotations

import re

from nemoflows.engines.embedded.hops import phrases

_SEVERAL = re.compile(r"(?<=\?)\s+(?=\S)")
_SECOND = re.compile(
    r",?\s+(?:and|as well as|or)\s+(?=(?:also\s+)?(?:who|what|which|when|where|why|how)\b)",
    re.IGNORECASE,
)
_BETWEEN = re.compile(
    r"\b(?:differences?|similarit\w+|relationship|comparison|trade-?offs?)\b.*?\bbetween\s+"
    r"(?P<a>.+?)\s+and\s+(?P<b>.+?)"
    r"(?:\s+(?:in terms of|regarding|when|with|for|in)\s+(?P<how>.+?))?\s*[?.]?$",
    re.IGNORECASE,
)
_COMPARE = re.compile(
    r"^(?:please\s+)?(?:compare|contrast)\s+(?P<a>.+?)\s+(?:and|with|to|vs\.?|versus)\s+(?P<b>.+?)"
    r"(?:\s+(?:in terms of|regarding|by|on)\s+(?P<how>.+?))?\s*[?.]?$|"
    r"^(?P<c>[^?]+?)\s+(?:vs\.?|versus)\s+(?P<d>[^?]+?)\s*\??$",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"^(?P<asks>.+?)(?:,|:)\s*(?P<a>[^,?]+?)\s+or\s+(?P<b>[^,?]+?)\s*\??$")
_PRONOUN = re.compile(r"\b(?:it|they|he|she|them|him)\b", re.IGNORECASE)


def plan(question: str, n: int) -> list[str]:
    """Split `question` into at most `n` sub-questions; usually it is its own only one.

    Several questions in one are asked one by one, and a comparison once for each side.
    """
    whole = " ".join(question.split())
    if n < 2:
        return [whole]
    parts = _compared(whole) or _several(whole)
    return parts if 1 < len(parts) <= n else [whole]


def _compared(question: str) -> list[str]:
    """Return a question about each side of a comparison; empty where nothing is compared."""
    found = _BETWEEN.search(question) or _COMPARE.match(question)
    if found:
        sides = [text for name in "abcd" if (text := found.groupdict().get(name))]
        how = found["how"]
        return [f"What is {side}{f' in terms of {how}' if how else ''}?" for side in sides]
    choice = _CHOICE.match(question)
    if choice is None:
        return []
    return [f"{choice['asks']}: {choice[side]}?" for side in "ab"]


def _several(question: str) -> list[str]:
    """Return the questions that one text asks one after the other."""
    parts = [part for text in _SEVERAL.split(question) for part in _SECOND.split(text)]
    named = phrases(parts[0])
    asked = [parts[0], *(_resolved(part, named) for part in parts[1:])]
    return [_as_question(part) for part in asked if len(part.split()) > 1]


def _resolved(part: str, named: list[str]) -> str:
    """Return a later question with its pronoun replaced by the one name of the first."""
    return _PRONOUN.sub(named[0], part, count=1) if len(named) == 1 else part


def _as_question(part: str) -> str:
    text = part.strip().rstrip(",;")
    return (text[0].upper() + text[1:]).rstrip("?. ") + "?"
