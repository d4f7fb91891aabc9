"""What kind of answer a question asks for, and the marks by which a sentence holds one."""

from __future__ import annotations

import re
from typing import Literal

from nemoflows.language.terms import STOP_WORDS, words

AnswerType = Literal["reason", "date", "number", "place", "definition", "name", ""]


def _any(*patterns: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile("|".join(patterns), flags)


_VERBS = "do|does|did|is|are|was|were|has|have|had|can|could|should|would|will|must|may|might"
_HOW = rf"how (?!(?:{_VERBS}|to|come|about|and|or|not)\b)[a-z]+\b"
_KIND = re.compile(rf"\b(?:{_HOW}|(?:what|which) (?:\w+ )?\w+(?= (?:{_VERBS})\b))", re.IGNORECASE)
"""Words that name the answer's kind and may well be absent from it: "how long", "which city"."""
_ASKING = r"(?:who|whom|whose|what|which|when|where|why|how)\b"
_AHEAD = re.compile(
    rf"(?!\W*{_ASKING})[^\n]{{0,200}}?\b(?:know|tell (?:me|us)|wonder(?:ing|ed)?|idea|clue|curious|"
    rf"ask(?:ing)?|say|explain(?: to (?:me|us))?|remember|remind (?:me|us)|find out|sure|see|"
    rf"question|exactly|please)\b[ ,:]*(?:in [a-z ]{{1,20}}[, ])?"
    rf"(?=(?:at|by|for|from|in|of|on|to|under|until|with) {_ASKING}|{_ASKING})",
    re.IGNORECASE,
)
"""What may stand ahead of the word that asks, as "I was wondering"."""
_BEHIND = re.compile(
    r"[\s,.!?;-]+please\W*$|"
    r"[,.!?;-]\s*(?:please|thanks?|thank you|many thanks|cheers)\b[^?]{0,60}\??$",
    re.IGNORECASE,
)
_RUN_ON = re.compile(r"\b(who|what|when|where|how)s\b", re.IGNORECASE)
"""As people type "what's"."""
_TIMES = (
    "second seconds s sec minute minutes min mins hour hours h hr hrs day days night nights week "
    "weeks month months year years decade decades century centuries until till since always ever"
)
_LENGTHS = (
    "mm cm m km metre metres meter meters centimetre centimetres kilometre kilometres centimeter "
    "centimeters kilometer kilometers inch inches foot feet ft yard yards mile miles floors "
    "storeys storys pages"
)
_MEASURES = {
    "long": f"{_TIMES} {_LENGTHS}",
    **dict.fromkeys(("far", "distant"), f"{_LENGTHS} {_TIMES} stops stations blocks"),
    **dict.fromkeys(("tall", "deep", "wide", "thick", "broad", "narrow"), _LENGTHS),
    "heavy": "g kg gram grams kilogram kilograms kilo kilos t ton tons tonne tonnes lb lbs pound "
    "pounds oz ounce ounces weigh weighs weight",
    "fast": f"{_TIMES} {_LENGTHS} mph kmh knots speed mbit gbit mbps gbps hz rpm",
    "soon": _TIMES,
    "loud": "db decibel decibels noise",
    "old": f"{_TIMES} age aged born built made finished completed founded opened laid",
    **dict.fromkeys(("hot", "cold", "warm", "cool"), "c f k degree degrees celsius fahrenheit"),
}
"""What a sentence must name, or the asked word itself, to answer how long, how heavy and so on."""
_DIMENSIONS = [
    set(each.split())
    for each in (
        "tall high height",
        "wide width broad narrow breadth",
        "deep depth",
        "thick thickness",
        "long length",
        "far distant distance away from",
    )
]
"""Words for one measure; units of length are the same for all of them."""
_VAGUE = re.compile(r"\b(?:an?|a few|several|some|until|till|since|forever)\b", re.IGNORECASE)
"""Measures without a number: "a week", "until Friday"."""
_OFTEN = re.compile(
    r"\b(?:every|each|daily|nightly|weekly|fortnightly|monthly|quarterly|yearly|annually|hourly|"
    r"once|twice|times|per|never|always|rarely|seldom|(?:an?|on) (?:hour|day|week|month|year|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?))\b",
    re.IGNORECASE,
)
_ASKS: dict[AnswerType, re.Pattern[str]] = {
    "reason": _any(r"\bwhy\b", r"\bwhat (?:\w+ ){0,3}(?:reason|cause|purpose)\b"),
    "date": _any(
        r"\bwhen\b", r"\b(?:what|which) (?:\w+ ){0,3}(?:year|date|day|month|century|decade)\b"
    ),
    "number": _any(
        rf"\b{_HOW}",
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
        r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b\d?\d:\d\d\b|\b\d\d? ?[ap]\.?m\b",
        r"\b(?:noon|midnight|every (?:day|night|morning|evening))\b",
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
_MAY_HOLD: dict[AnswerType, re.Pattern[str]] = {
    "date": _any(
        _HOLDS["date"].pattern,
        r"\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|june?|july?|aug(?:ust)?|"
        r"sept?(?:ember)?|(?:octo|novem|decem)ber|oct|nov|dec)\b|(?-i:\bMay\b)",
        r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b",
        r"\b(?:in|by|from|every|this)(?: the)? (?:spring|summer|autumn|winter|fall)\b",
        r"\b(?:holidays?|to(?:day|morrow|night)|yesterday)\b",
        r"\b(?:before|after|until|till|during|since|while|when(?:ever)?|once|if|by the|later|"
        r"earlier|soon|now|always|never|first|last|next|daily|weekly|monthly|yearly)\b",
        r"\b(?:time|day|week|month|year|hour|minute|decade|centur|era|age|morning|afternoon|"
        r"evening|night)\w*",
    ),
    "place": _any(
        r"\b(?:in|at|near|behind|under|over|above|below|beside|beneath|next to|between|from|into|"
        r"opposite|inside|outside|around|along|across|through|within|here|there|street|road|"
        r"square|floor|room)\b",
        rf"\bon (?!(?:the )?\d|(?:{_MONTH}|mon|tues|wednes|thurs|fri|satur|sun))",
        r"\bto (?!\w+ (?:the|an?|it)\b)",
    ),
    "reason": _any(
        _HOLDS["reason"].pattern,
        r"\b(?:so|as|for|hence|owing|thanks to|otherwise|if|avoid|result\w*)\b",
        r"\bto [a-z]+ (?:the|an?|it|them|its|their|his|her|people)\b",
    ),
}
"""The least that an answer of a kind holds: what lacks it may be about the thing, and is none."""
_HOW_MANY = re.compile(r"\bhow (?:many|much)\b", re.IGNORECASE)
_TIMED = re.compile(r"\b\d\d?[:.]\d\d\b|\b(?:1\d|20)\d\d\b")
_COUNTED = _any(
    _HOLDS["number"].pattern,
    r"\b(?:dozens?|none|no|nothing|free|several|few|many|most|all|both|an?)\b",
)
_IS = (
    r"(?:\s*\([^)]*\))?[,`*]*\s+(?:\w+\s+)?(?:(?:is|are|was|were) (?:an?|the|one|any|used)\b|"
    r"(?:refers? to|means?|stands for|provides?|denotes?)\b)"
)
_DATE = re.compile(r"\b(?:\d{4}-\d\d-\d\d|\d\d?[./]\d\d?[./]\d{4})\b")
_LETTERS = re.compile(r"[a-z]+")
_ASKED_BY = STOP_WORDS | {"mean", "means", "used", "use", "stand", "stands"}


def core(question: str) -> str:
    """Return a question without the courtesies around it: "could you tell me", "thanks"."""
    bare = _BEHIND.sub("", _RUN_ON.sub(r"\1 is", question))
    ahead = _AHEAD.match(bare)
    named = ahead and re.search(r"(?<=[a-z,] )(?!I\b)[A-Z]|\d|[_/]", ahead.group())
    return bare[ahead.end() :] if ahead and not named else bare or question


def answer_type(question: str) -> AnswerType:
    """Return what kind of answer `question` asks for; "" where its words do not say."""
    return next((kind for kind, asks in _ASKS.items() if asks.search(question)), "")


def kind_words(question: str) -> list[str]:
    """Return the words that name the answer's kind: "long" of "how long does it take"."""
    found = (match.group().split()[1:] for match in _KIND.finditer(question))
    return [word.lower() for each in found for word in each]


def answers(kind: AnswerType, question: str, sentence: str) -> bool:
    """Tell whether `sentence` holds something of `kind` that `question` does not say itself."""
    if kind == "definition":
        asked = [word for word in words(question) if word not in _ASKED_BY]
        said = rf"\b{re.escape(asked[-1])}{_IS}" if asked else "(?!)"
        return re.search(said, sentence, re.IGNORECASE) is not None
    how = next(iter(kind_words(question)), "") if kind == "number" else ""
    if how == "often":
        return _OFTEN.search(sentence) is not None
    if how in _MEASURES:
        sentence = _DATE.sub(" ", sentence)
    known = set(words(question))
    found = _HOLDS[kind].finditer(sentence) if kind else iter(())
    new = any(not set(words(match.group())) <= known for match in found)
    if how not in _MEASURES:
        return new
    return (new or _VAGUE.search(sentence) is not None) and _measured(how, sentence)


def may_answer(kind: AnswerType, question: str, sentence: str) -> bool:
    """Tell whether a sentence may hold an answer of `kind`; what has no sign of one holds none."""
    if kind == "number" and _HOW_MANY.search(question):
        return _COUNTED.search(_TIMED.sub(" ", sentence)) is not None
    return kind not in _MAY_HOLD or _MAY_HOLD[kind].search(sentence) is not None


def _measured(how: str, sentence: str) -> bool:
    """Tell whether a sentence names a unit of what is asked and no other measure, or it itself."""
    said = set(_LETTERS.findall(sentence.lower()))
    own = next((each for each in _DIMENSIONS if how in each), {how})
    if not said.isdisjoint(own):
        return True
    if len(own) > 1 and any(not said.isdisjoint(each) for each in _DIMENSIONS):
        return False
    return not said.isdisjoint(_MEASURES[how].split())
