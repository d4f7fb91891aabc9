"""Filling in a record without a model: labels, typed patterns, the best sentence; else nothing.

A field's name and description are the question. Lists of records stay empty: which lines of a
table belong together is not told by rules as plain as these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from nemoflows.engines.builtin.patterns import Looks, looks
from nemoflows.engines.builtin.weights import Bag, ask, coverage
from nemoflows.language.sentences import sentences
from nemoflows.language.terms import terms

ENOUGH = 0.5
"""Share of a field's weighted terms that a sentence must hold to answer it, and how well a label
must name a total to be one of it."""
ABOVE = 0.7
"""What a label on the line above counts, against one on the same line."""
SENTENCE = 0.2
"""What a sentence counts that says all of a field: any label beats it."""
DECIMALS = 0.2
"""What a number's decimals add: amounts have them, and counts do not."""
_DECIMALS = re.compile(r"\d[.,]\d\d?$")
_SEPARATOR = re.compile(r"\s*[:=]\s*|\t+| {2,}")
_SHORT = 3
"""Characters of a currency or a colon, which label nothing."""
_TOTAL = frozenset(terms("total sum"))


class Found(NamedTuple):
    """A value with its quote; the higher the score, the surer."""

    score: float
    quote: str
    value: Any


@dataclass(frozen=True, slots=True)
class _Asked:
    """A field's terms, and the room of its quote and value."""

    name: frozenset[str]
    said: frozenset[str]
    words: str
    quote: int
    value: dict[str, Any]

    def label(self, before: str) -> float:
        """Return how well words in front of a value name this field, 0 to 1."""
        near = set(terms(before))
        named, said = len(near & self.name), len(near & (self.name | self.said))
        if not said:
            return 0.0
        share = named / len(self.name) if named else 0.4 * said / len(self.said)
        return share * (0.5 + 0.5 * said / len(near))


def fill(schema: dict[str, Any], passages: Sequence[str]) -> dict[str, Any]:
    """Return the record in the form of the reply's schema; a quote is empty where nothing fits."""
    record = schema.get("properties", {}).get("record", {})
    filled: dict[str, Any] = _part(record, "", "\n".join(passages))
    return filled


def _find(asked: _Asked, text: str) -> Found | None:
    """Return the best value for a field; of equals the last, as totals follow their parts.

    A total is at least its parts: of the values that are labelled so, the largest.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    seen = looks(asked.value)
    if seen is None:
        found = [*_labelled(asked, lines), *_sentence(asked, text)]
    else:
        found = list(_typed(asked, seen, lines))
    if seen and seen.number and asked.name & _TOTAL:
        named = [each for each in found if each.score >= ENOUGH]
        return max(named, key=lambda each: float(each.value), default=None)
    return max(reversed(found), key=lambda each: each.score, default=None)


def _typed(asked: _Asked, seen: Looks, lines: Sequence[str]) -> Iterator[Found]:
    """Give typed values with a label beside or above them, or that need none."""
    above = ""
    for line in lines:
        for match in seen.find(line):
            before, after = line[: match.start], line[match.end :]
            own = asked.label(before)
            score = max(own, ABOVE * asked.label(after))
            if not own and len(before.strip()) <= _SHORT:  # a currency, or nothing
                score = max(score, ABOVE * asked.label(above))
            if score or seen.tell:
                score += DECIMALS * bool(seen.number and _DECIMALS.search(line[: match.end]))
                start = 0 if own and match.end <= asked.quote else match.start
                yield Found(score, line[start : match.end], match.value)
        if any(match.end == len(line) for match in seen.find(line)):
            above = ""  # its label has its value
        elif len(line) > _SHORT:
            above = line


def _labelled(asked: _Asked, lines: Sequence[str]) -> Iterator[Found]:
    """Give what follows `label:`, on the same line or the next."""
    for line, following in zip_longest(lines, lines[1:], fillvalue=""):
        label, *values = _SEPARATOR.split(line, maxsplit=1)
        score = asked.label(label)
        if values and score > 0 and values[0]:
            yield Found(score, line, values[0])
        elif values and score > 0 and following:
            yield Found(ABOVE * score, following, following)


def _sentence(asked: _Asked, text: str) -> Iterator[Found]:
    found = [each.text for each in sentences(text) if each.kind in {"prose", "bullet"}]
    bags = [Bag(said) for said in found]
    weights = ask(asked.words, [bag.terms for bag in bags]).weights
    shares = (coverage(weights, bag) for bag in bags)
    for said, share in zip(found, shares, strict=True):
        if share >= ENOUGH:
            yield Found(SENTENCE * share, said, said)


def _part(schema: dict[str, Any], name: str, text: str) -> Any:
    """Return the reply's part for one schema; `name` is the field it belongs to."""
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return _part(schema["anyOf"][0], name, text)
    if schema.get("type") == "array":
        return _entries(schema, name, text)
    parts = schema.get("properties", {})
    if parts.get("quote", {}).get("type") == "string":
        return _leaf(schema, name, text)
    return {inner: _part(part, inner, text) for inner, part in parts.items()}


def _entries(schema: dict[str, Any], name: str, text: str) -> list[Any]:
    """Return a list of values where one label has several, parted by commas; else an empty one."""
    parts = schema["items"].get("properties", {})
    if parts.get("quote", {}).get("type") != "string" or "maxLength" not in parts["value"]:
        return []
    said = {**schema["items"], "description": schema.get("description", "")}
    found = _find(_asked(said, name), text)
    values = re.split(r"\s*[,;]\s*", found.value) if found and ":" in found.quote else []
    most = min(parts["quote"]["maxLength"], parts["value"]["maxLength"])
    return [{"quote": v[:most], "value": v[:most]} for v in values if v][: schema["maxItems"]]


def _leaf(schema: dict[str, Any], name: str, text: str) -> dict[str, Any]:
    asked = _asked(schema, name)
    found = _find(asked, text)
    if found is None:
        return {"quote": "", "value": _nothing(asked.value)}
    most = asked.value.get("maxLength", 0)
    said = found.value[:most] if isinstance(found.value, str) and most else found.value
    return {"quote": found.quote[: asked.quote], "value": said}


def _asked(schema: dict[str, Any], name: str) -> _Asked:
    description, value = schema.get("description", ""), schema["properties"]["value"]
    return _Asked(
        name=frozenset(terms(name)),
        said=frozenset(terms(description)),
        words=f"{name.replace('_', ' ')} {description}",
        quote=schema["properties"]["quote"]["maxLength"],
        value=value["anyOf"][0] if "anyOf" in value else value,
    )


def _nothing(value: dict[str, Any]) -> Any:
    """Return any value that fits; an empty quote says that it does not count."""
    if "enum" in value:
        return value["enum"][0]
    return {"boolean": False, "string": ""}.get(value["type"], value.get("minimum"))
