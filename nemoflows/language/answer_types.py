"""What kind of answer a question asks for, and the marks by which a sentence holds one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Literal, TypeAlias

from nemoflows.language.terms import STOP_WORDS, words

AnswerType = Literal[
    "person", "place", "number", "date", "quantity", "reason", "method", "definition", "name",
    "polar", "",
]  # fmt: skip


_ASK = re.compile(
    r"\b(who(?:m|se)?|what|which|when|where|why|how)\b(.*)", re.IGNORECASE | re.DOTALL
)


_POLAR = re.compile(
    r"\s*(?:is|are|was|were|do|does|did|can|could|has|have|had|will|should|would|may|must)\b",
    re.IGNORECASE,
)


_MEANING = re.compile(r"\bmeans?\b|\bstands? for\b|\bdefin\w+", re.IGNORECASE)


_PURPOSE = re.compile(
    r"\s*what (?:do(?:es)? [\w .-]+? do|(?:is|are) [\w .-]+? (?:used )?for|(?:is|are) [\w.-]+)"
    r"\s*\??\s*$",
    re.IGNORECASE,
)
"""Asks what a thing is, by what it does."""


_CALLED = re.compile(r"\b(?:called|known as|named|referred to)\b", re.IGNORECASE)


_BARE: dict[str, AnswerType] = {
    "who": "person", "whom": "person", "whose": "person",
    "when": "date", "where": "place", "why": "reason",
}  # fmt: skip


_Rows: TypeAlias = tuple[tuple[AnswerType, str], ...]


_HOW_ROWS: _Rows = (
    ("number", "many"),
    ("date", "recently early late"),
    ("quantity", "much long far old tall big large high deep fast heavy wide often hot cold"),
)


_HOW = {word: kind for kind, asked in _HOW_ROWS for word in asked.split()}


_NOUN_ROWS: _Rows = (
    ("date", "year date day month century decade season era period time"),
    ("number", "number total population score count"),
    ("quantity", "percent percentage proportion fraction share amount size length height"),
    ("quantity", "width speed distance age cost price temperature limit rate range duration"),
    ("quantity", "maximum minimum"),
    ("reason", "reason cause purpose motivation motive"),
    ("person", "person man woman player actor actress author writer singer king queen artist"),
    ("person", "president emperor scientist director coach pope general philosopher minister"),
    ("person", "leader founder inventor composer member architect officer ruler mayor"),
    ("place", "city country state place location continent town county region river island"),
    ("place", "stadium venue province village street district folder directory area sea ocean"),
    ("place", "mountain building neighborhood university school"),
    ("name", "name term word nickname"),
)


_NOUNS = {noun: kind for kind, asked in _NOUN_ROWS for noun in asked.split()}
"""What is asked for, by the noun that follows *what* or *which*."""


_AFTER = frozenset(
    """
    is are was were do does did has have had can could will would of that in for to by with from
    on at
    """.split()  # noqa: SIM905 - one word per element would be a page
)
"""Where the phrase behind *what* or *which* ends."""


def answer_type(question: str) -> AnswerType:
    """Return what kind of answer `question` asks for; "" where its words do not say."""
    found = _ASK.search(question)
    if found is None:
        return "polar" if _POLAR.match(question) else ""
    asks, rest = found[1].lower(), words(found[2])
    if asks == "how":
        return _HOW.get(rest[0] if rest else "", "method")
    return _BARE.get(asks) or _of_noun(question, rest)


def _of_noun(question: str, rest: Sequence[str]) -> AnswerType:
    """Return the type that *what* or *which* with the words after it asks for."""
    if _MEANING.search(question) or _PURPOSE.match(question):
        return "definition"
    copula = rest[:1] and rest[0] in {"is", "are", "was", "were"}
    phrase = list(takewhile(lambda word: word not in _AFTER, rest[1:] if copula else rest))
    named: Iterator[AnswerType] = (_NOUNS.get(_singular(word), "") for word in reversed(phrase[:6]))
    whole = copula and len(phrase) == len(rest) - 1 <= 4
    fallback: AnswerType = "definition" if whole else ""
    return next(filter(None, named), "name" if _CALLED.search(question) else fallback)


def _singular(word: str) -> str:
    return word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")


_MONTH = (
    "jan(?:uary)?|feb(?:ruary)?|march|april|may|june|july|aug(?:ust)?|sept?(?:ember)?|"
    "oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)


def _any(*patterns: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile("|".join(patterns), flags)


_DATE = _any(
    r"\b(?:1\d|20)\d\d(?:s|\b)",
    rf"\b(?:{_MONTH})\s+\d{{1,2}}\b|\b\d{{1,2}}\s+(?:{_MONTH})\b",
    r"\b\d{1,2}(?:st|nd|rd|th)[- ]centur|\b\d{2,4}\s*(?:BC|AD|BCE|CE)\b",
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b",
    r"\b(?:spring|summer|autumn|winter|century|decade)\b",
)


_NUMBER = _any(
    r"[\u00a3$\u20ac]?\b\d[\d,.]*",
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twenty|thirty|forty)\b",
    r"\b(?:fifty|hundreds?|thousands?|millions?|billions?|half|third|quarter|twice|both|none|one)\b",
)


_NAME = _any(
    r"\b[A-Z][\w'-]+(?:\s+(?:(?:of|the|de|von|van)\s+)?[A-Z][\w'-]+)+",
    r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'-]+",
    flags=0,
)


_AT = re.compile(
    r"\b(?:in|at|from|near|to|into|of|between|across|on|through)\s+(?:the\s+)?[A-Z~/.]"
)


_CUES: dict[str, re.Pattern[str]] = {
    "reason": _any(
        r"\b(?:because|due to|so that|in order to|as a result|caus\w+|led to|since|therefore)\b",
        r"\b(?:to avoid|reasons?|allow(?:s|ed|ing)?|thus)\b",
    ),
    "method": _any(r"\bby \w+ing\b", r"\b(?:using|via|through|use|call|set|pass|run)\b"),
    "name": _any(r"\b(?:known as|called|named|termed|name|referred to|or)\b", r"[\"\u201c(]"),
}


_UNITS: list[tuple[re.Pattern[str], re.Pattern[str]]] = [
    (
        _any(r"percent|proportion|fraction|\bshare\b"),
        _any(r"\d\s?%|percent|\bhalf\b|\bthird|\bquarter|\bmajority\b"),
    ),
    (
        _any(r"\bhow (?:long|old|often)\b|\bage\b|\bduration\b"),
        _any(r"\b\S+[ -](?:years?|months?|weeks?|days?|hours?|minutes?|seconds?|ms|s|decades?)\b"),
    ),
    (
        _any(r"\bhow much\b|\bcost|\bprice"),
        _any(r"[\u00a3$\u20ac]\s?\d|\d\s?(?:dollars|pounds|euros|cents|million|billion)"),
    ),
    (
        _any(r"\bhow (?:far|tall|high|deep|wide|big|large)\b|distance|length|height|width|size"),
        _any(r"\d[ -]?(?:sq |square )?(?:mi|miles?|[kcm]?m|(?:kilo)?met\w+|feet|foot|ft|inch\w*|"
             r"yards?|acres?|ha|hectares?|[kmg]i?b)\b"),
    ),
]  # fmt: skip
"""How a quantity is asked for, and how its unit reads."""


def answers(kind: AnswerType, question: str, sentence: str) -> float:
    """Return how far `sentence` holds something of `kind` that `question` does not, 0 to 1."""
    known = set(words(question))
    if kind in _CUES:
        return float(bool(_CUES[kind].search(sentence)))
    if kind == "quantity":
        number = float(_fresh(_NUMBER, sentence, known))
        unit = next((unit for asks, unit in _UNITS if asks.search(question)), None)
        return number if unit is None else (number + _fresh(unit, sentence, known)) / 2
    if kind == "place":
        return (_fresh(_NAME, sentence, known) + bool(_AT.search(sentence))) / 2
    if kind == "definition":
        return _defines(question, sentence)
    pattern = {"date": _DATE, "number": _NUMBER, "person": _NAME}.get(kind)
    return float(pattern is not None and _fresh(pattern, sentence, known))


_COPULA = (
    r"(?:\s*\([^)]*\))?[,`*]*(?:\s+(?:module|package|library|tool|project|framework|plugin))?\s+"
    r"(?:(?:is|are|was|were) (?:an?|the|one|any|used|\w+-\w+)\b|"
    r"refers? to\b|means?\b|stands for\b|provides?\b|denotes?\b)"
)


_ASKED_BY = frozenset({"mean", "means", "used", "use", "stand", "stands"})


_NAMED = re.compile(r"\b(?:known as|called|defined as|or|means?|stands for)\b|\(", re.IGNORECASE)


def _defines(question: str, sentence: str) -> float:
    """Return 1 where a sentence says what the question's subject is, 0.4 where it may."""
    asked = [word for word in words(question) if word not in STOP_WORDS | _ASKED_BY]
    if asked and re.search(rf"\b{re.escape(asked[-1])}{_COPULA}", sentence, re.IGNORECASE):
        return 1.0
    return 0.4 * bool(_NAMED.search(sentence))


def _fresh(pattern: re.Pattern[str], sentence: str, known: set[str]) -> bool:
    return any(not set(words(found.group())) <= known for found in pattern.finditer(sentence))
