"""Filling in a record without a model: labels, typed patterns, the best sentence; else nothing.

A field's name and description are the question. Lists of records stay empty: which lines of a
table belong together is not told by rules as plain as these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from typing import Any, NamedTuple

from nemoflows.engines.builtin.patterns import Looks, looks
from nemoflows.engines.builtin.weights import Bag, ask, coverage
from nemoflows.language.boxes import options
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
_SEPARATOR = re.compile(
    r"\s*[:=\uff1a]\s*|\t+|\s*(?:\.{4,}|_{3,}|\u2026+|\|)\s*| {2,}|\s+[-\u2013]\s+"
)
_AROUND = " \t_|*`"
"""What stands around a value and is none of it: a form's rule, a table's border, emphasis."""
_NONE = re.compile(r"n/?a|[-\u2013\u2014._?]*", re.IGNORECASE)
"""What is written where there is nothing to write."""
_KEYED = re.compile(r"[^\W\d_][\w /()-]{0,40}[:=](?:\s|$)")
_BULLET = re.compile(r"[-*\u2022]\s+(?=\S)")
_PARTS = re.compile(r"\s*[,;|]\s*(?:and\s+)?|(?<=[^,;|])\s+and\s+(?=[^,;|]*$)")
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
        if asked.value.get("type") == "boolean":
            found += _boxed(asked, text)
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


def _boxed(asked: _Asked, text: str) -> Iterator[Found]:
    """Give whether a box is ticked that stands at a label, or is one."""
    for box in options(text):
        told = text[box.start : box.end]
        line = text[text.rfind("\n", 0, box.start) + 1 : box.end]
        if score := max(asked.label(told), asked.label(box.about)):
            yield Found(score, told or line, box.ticked)


def _labelled(asked: _Asked, lines: Sequence[str]) -> Iterator[Found]:
    """Give what follows `label:`, on the same line or the next."""
    for line, following in zip_longest(lines, lines[1:], fillvalue=""):
        label, *values = _SEPARATOR.split(line.strip("|"), maxsplit=1)
        value = _bare(values[0]) if values else ""
        score = asked.label(label)
        if score > 0 and value and not _NONE.fullmatch(value):
            yield Found(score, line, value)
        elif score > 0 and values and not value and not _KEYED.match(following):
            yield Found(ABOVE * score, following, following)


def _bare(value: str) -> str:
    """Return a value without what stands around it."""
    value = value.strip(_AROUND)
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _sentence(asked: _Asked, text: str) -> Iterator[Found]:
    found = [each.text for each in sentences(text) if each.kind in {"prose", "bullet"}]
    found = [said for said in found if not _NONE.fullmatch(_SEPARATOR.split(said)[-1])]
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
    """Return a list of values where one label has several, in a line or below it; else nothing."""
    parts = schema["items"].get("properties", {})
    if parts.get("quote", {}).get("type") != "string":
        return []
    asked = _asked({**schema["items"], "description": schema.get("description", "")}, name)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = max(_several(asked, lines), key=lambda each: each[0], default=(0.0, []))[1]
    if (seen := looks(asked.value)) is not None:
        found = [(line[m.start : m.end], m.value) for line in told for m in seen.find(line)]
    else:
        most = min(parts["quote"]["maxLength"], asked.value.get("maxLength", asked.quote))
        parts = [each for line in told for each in _parted(line)] if len(told) == 1 else told
        found = [(each[:most], each[:most]) for each in parts]
    return [{"quote": quote, "value": value} for quote, value in found][: schema["maxItems"]]


def _several(asked: _Asked, lines: Sequence[str]) -> Iterator[tuple[float, list[str]]]:
    """Give what follows a label in its line, or as a list below it, and how well it is named."""
    for number, line in enumerate(lines):
        label, *values = _SEPARATOR.split(line.strip("|"), maxsplit=1)
        if values and (score := asked.label(label)) > 0:
            below = takewhile(_BULLET.match, lines[number + 1 :])
            items = [_BULLET.sub("", each, count=1) for each in below]
            yield score, [values[0]] if values[0] else items


def _parted(line: str) -> Iterator[str]:
    """Give the parts of a list in one line, the last of them perhaps behind an "and"."""
    line = line.strip("|[]() ")
    by = _PARTS if re.search(r"[,;|]", line) else re.compile(r"(?!)")
    for part in map(_bare, by.split(line)):
        if part and not _NONE.fullmatch(part) and part.lower() != "none":
            yield part


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
