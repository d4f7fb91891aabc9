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

from nemoflows.engines.embedded.patterns import Finder, finder, is_number, looks_tell
from nemoflows.engines.embedded.weights import Bag, ask, coverage
from nemoflows.language.sentences import sentences
from nemoflows.language.terms import terms

_SEPARATOR = re.compile(r"\s*[:=]\s*|\t+| {2,}")
_ENOUGH = 0.5
"""Share of a field's weighted terms that a sentence must hold to answer it."""
_ABOVE = 0.7
"""What a label on the line above counts, against one on the same line."""
_SHORT = 3
"""Characters of a currency or a colon, which label nothing."""
_COMPANY = re.compile(
    r"\b(?:inc|ltd|llc|llp|plc|corp|co|gmbh|ag|bv|nv|sa|srl|sas|oy|ab|pty|bhd|limited|company|"
    r"corporation|enterprise|group|university|institute)\b\.?",
    re.IGNORECASE,
)
_STREET = re.compile(
    r"\b(?:street|st|road|rd|avenue|ave|lane|drive|boulevard|blvd|square|highway|\w*stra(?:ss|ß)e|"
    r"rue|via|calle|jalan|jln|jl)\b|\b\d{5}\b",
    re.IGNORECASE,
)
_REGISTERED = re.compile(r"\s*\([^()]*\d[^()]*\)$")
_COMMA = re.compile(r"\d.*,$")
_ADDRESS_LINES = 4
_GUESS = 0.3
"""Score of what only looks like it: any label beats it."""
_IS_COMPANY = frozenset(terms("company organisation vendor seller merchant supplier firm shop"))
_MONEY = frozenset(terms("amount price cost pay paid money fee tax charge total"))
_TOTAL = frozenset(terms("total sum"))
_LABELLED = 0.5
_CENTS = re.compile(r"[.,]\d\d$")
_IS_ADDRESS = frozenset(terms("address"))


class Found(NamedTuple):
    """A value with its quote; the higher the score, the surer."""

    score: float
    quote: str
    value: Any


def fill(schema: dict[str, Any], passages: Sequence[str]) -> dict[str, Any]:
    """Return the record in the form of the reply's schema; a quote is empty where nothing fits."""
    record = schema.get("properties", {}).get("record", {})
    filled: dict[str, Any] = _part(record, "", _Text("\n".join(passages)))
    return filled


@dataclass(frozen=True, slots=True)
class _Asked:
    """A field's terms, and the room of its quote and value."""

    name: frozenset[str]
    said: frozenset[str]
    words: str
    quote: int
    value: dict[str, Any]

    @property
    def is_money(self) -> bool:
        """Return whether the field is an amount of money, which has cents."""
        return bool((self.name | self.said) & _MONEY) and self.value.get("type") != "integer"

    def label(self, before: str) -> float:
        """Return how well words in front of a value name this field, 0 to 1."""
        near = set(terms(before))
        named, said = len(near & self.name), len(near & (self.name | self.said))
        if not said:
            return 0.0
        share = named / len(self.name) if named else 0.4 * said / len(self.said)
        return share * (0.5 + 0.5 * said / len(near))


class _Text:
    """A passage by lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = [line.strip() for line in text.splitlines() if line.strip()]

    def find(self, asked: _Asked) -> Found | None:
        """Return the best value for a field; of equals the last, as totals follow their parts.

        A total is at least its parts: of the values that are labelled so, the largest.
        """
        search = finder(asked.value)
        found = list(self._typed(asked, search) if search else self._free(asked))
        if search and asked.name & _TOTAL and is_number(asked.value):
            named = [each for each in found if each.score >= _LABELLED]
            return max(named, key=lambda each: float(each.value), default=None)
        best = max(found, key=lambda each: each.score, default=None)
        last = [each for each in found if best and each.score == best.score]
        return last[-1] if last else None

    def _typed(self, asked: _Asked, search: Finder) -> Iterator[Found]:
        """Give typed values with a label beside or above them, or that need none."""
        above = ""
        for line in self.lines:
            for match in search(line):
                before, after = line[: match.start], line[match.end :]
                own = asked.label(before)
                score = max(own, _ABOVE * asked.label(after))
                if not own and len(before.strip()) <= _SHORT:  # a currency, or nothing
                    score = max(score, _ABOVE * asked.label(above))
                if score or looks_tell(asked.value):
                    value = line[match.start : match.end]
                    with_label = line[: match.end]
                    fits = own and len(with_label) <= asked.quote
                    score += 0.2 * (asked.is_money and bool(_CENTS.search(value)))
                    yield Found(score, with_label if fits else value, match.value)
            if any(match.end == len(line) for match in search(line)):
                above = ""  # its label has its value
            elif len(line) > _SHORT:
                above = line

    def _free(self, asked: _Asked) -> Iterator[Found]:
        labelled = self._labelled(asked)
        if asked.name & _IS_COMPANY:
            labelled = (each for each in labelled if _is_worded(each.value))
            yield from self._company()
        yield from labelled
        if asked.name & _IS_ADDRESS:
            yield from self._address()
        yield from self._sentence(asked)

    def _company(self) -> Iterator[Found]:
        """Give the first line that ends like a company's name, else the first line of words."""
        worded = [line for line in self.lines if _is_worded(line)]
        named = [line for line in worded if _COMPANY.search(line) and len(terms(line)) > 2]
        for line in (named or worded)[:1]:
            name = _REGISTERED.sub("", line)
            yield Found(_GUESS, name, name)

    def _address(self) -> Iterator[Found]:
        """Give the first lines that go on from one to the next as addresses do."""
        held = [bool(_STREET.search(line)) for line in self.lines]
        first = held.index(True) if True in held else 0
        while first > 0 and _COMMA.search(self.lines[first - 1]):
            first -= 1
        last = first
        while last + 1 < len(held) and last - first < _ADDRESS_LINES:
            if not (held[last + 1] or self.lines[last].endswith(",")):
                break
            last += 1
        if True in held:
            start = self.text.index(self.lines[first])
            end = self.text.index(self.lines[last], start) + len(self.lines[last])
            quote = self.text[start:end]
            yield Found(_GUESS, quote, " ".join(quote.split()))

    def _labelled(self, asked: _Asked) -> Iterator[Found]:
        """Give what follows `label:`, on the same line or the next."""
        for line, following in zip_longest(self.lines, self.lines[1:], fillvalue=""):
            parts = _SEPARATOR.split(line, maxsplit=1)
            score = asked.label(parts[0])
            if len(parts) == 2 and score > 0 and terms(parts[0]):
                if parts[1]:
                    yield Found(score, line, parts[1])
                elif following:
                    yield Found(_ABOVE * score, following, following)

    def _sentence(self, asked: _Asked) -> Iterator[Found]:
        found = [each.text for each in sentences(self.text) if each.kind in {"prose", "bullet"}]
        bags = [Bag(text) for text in found]
        weights = ask(asked.words, [bag.terms for bag in bags]).weights
        for text, bag in zip(found, bags, strict=True):
            share = coverage(weights, bag)
            if share >= _ENOUGH:
                yield Found(0.2 * share, text, text)


def _is_worded(line: str) -> bool:
    """Return whether a line is made of letters rather than of digits and signs."""
    letters = sum(character.isalpha() for character in line)
    return letters > 3 and letters > len(line) / 2


def _part(schema: dict[str, Any], name: str, text: _Text) -> Any:
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


def _entries(schema: dict[str, Any], name: str, text: _Text) -> list[Any]:
    """Return a list of values where one label has several, parted by commas; else an empty one."""
    parts = schema["items"].get("properties", {})
    if parts.get("quote", {}).get("type") != "string" or "maxLength" not in parts["value"]:
        return []
    found = text.find(
        _asked({**schema["items"], "description": schema.get("description", "")}, name)
    )
    values = re.split(r"\s*[,;]\s*", found.value) if found and ":" in found.quote else []
    most = min(parts["quote"]["maxLength"], parts["value"]["maxLength"])
    return [{"quote": v[:most], "value": v[:most]} for v in values if v][: schema["maxItems"]]


def _leaf(schema: dict[str, Any], name: str, text: _Text) -> dict[str, Any]:
    asked = _asked(schema, name)
    found = text.find(asked)
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
