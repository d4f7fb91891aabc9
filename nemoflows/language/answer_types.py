"""What kind of answer a question asks for, and the marks by which a sentence holds one."""

from __future__ import annotations

import re
from typing import Literal

from nemoflows.language.terms import STOP_WORDS, words

AnswerType = Literal["reason", "date", "number", "place", "definition", "name", ""]


def _any(*patterns: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile("|".join(patterns), flags)


_ASKS: dict[AnswerType, re.Pattern[str]] = {
    "reason": _any(r"\bwhy\b", r"\bwhat (?:\w+ ){0,3}(?:reason|cause|purpose)\b"),
    "date": _any(
        r"\bwhen\b", r"\b(?:what|which) (?:\w+ ){0,3}(?:year|date|day|month|century|decade)\b"
    ),
    "number": _any(
        r"\bhow (?:many|much|long|far|old|tall|big|large|high|deep|fast|heavy|wide|often)\b",
        r"\bwhat (?:\w+ ){0,3}(?:number|percent\w*|proportion|share|amount|size|length|height|"
        r"width|speed|distance|age|cost|price|temperature|rate|duration|maximum|minimum|limit)\b",
    ),
    "place": _any(r"\bwhere\b"),
    "definition": _any(
        r"\b(?:means?|stands? for|defin\w+)\b",
        r"^\W*what (?:do(?:es)? [\w .-]+? do|(?:is|are) [\w .-]+? (?:used )?for|"
        r"(?:is|are) (?:an? |the )?[\w.-]+)\s*\??\s*$",
    ),
    "name": _any(r"\b(?:who|whom|whose|called|named|known as)\b", r"\bwhich\b"),
}
"""How each kind is asked for; the first that holds counts."""
_MONTH = "jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec"
_HOLDS: dict[AnswerType, re.Pattern[str]] = {
    "date": _any(
        r"\b(?:1\d|20)\d\d(?:s|\b)",
        rf"\b(?:{_MONTH})[a-z]*\.? \d|\d (?:{_MONTH})",
        r"\d(?:st|nd|rd|th)[- ]centur|\b\d+ ?(?:BCE?|AD|CE)\b|\b(?:century|decade)\b",
        r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b",
    ),
    "number": _any(
        r"\b\d[\d,.]*",
        r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|half|third|"
        r"quarter|twice|(?:hundred|thousand|million|billion)s?)\b",
    ),
    "name": _any(
        r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'-]+|\b[A-Z][\w'-]+ [A-Z][\w'-]+",
        r"\b(?:known as|called|named)\b",
        flags=0,
    ),
    "place": _any(
        r"\b(?:in|at|from|near|to|into|between|across|on)\s+(?:the\s+)?[A-Z]\w+", flags=0
    ),
    "reason": _any(
        r"\b(?:because|due to|so that|in order to|as a result|caus\w+|led to|since|therefore|"
        r"to avoid|reasons?|allow(?:s|ed|ing)?|thus)\b"
    ),
}
_IS = (
    r"(?:\s*\([^)]*\))?[,`*]*\s+(?:\w+\s+)?(?:(?:is|are|was|were) (?:an?|the|one|any|used)\b|"
    r"(?:refers? to|means?|stands for|provides?|denotes?)\b)"
)
_ASKED_BY = STOP_WORDS | {"mean", "means", "used", "use", "stand", "stands"}


def answer_type(question: str) -> AnswerType:
    """Return what kind of answer `question` asks for; "" where its words do not say."""
    return next((kind for kind, asks in _ASKS.items() if asks.search(question)), "")


def answers(kind: AnswerType, question: str, sentence: str) -> bool:
    """Tell whether `sentence` holds something of `kind` that `question` does not say itself."""
    if kind == "definition":
        asked = [word for word in words(question) if word not in _ASKED_BY]
        said = rf"\b{re.escape(asked[-1])}{_IS}" if asked else "(?!)"
        return re.search(said, sentence, re.IGNORECASE) is not None
    known = set(words(question))
    found = _HOLDS[kind].finditer(sentence) if kind else iter(())
    return any(not set(words(match.group())) <= known for match in found)
