"""What can be quoted of passages: sentences, lead-ins with what they announce, tables, code."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from nemoflows.engines.embedded.prose import is_code, readable
from nemoflows.engines.embedded.titles import mentions, subjects, title
from nemoflows.engines.embedded.weights import Bag
from nemoflows.language.sentences import Kind, Sentence, sentences
from nemoflows.types import Passage

MAX_CODE_CHARACTERS = 1200
MAX_JOINED_CHARACTERS = 600
"""Of a lead-in with the code or list that it announces, and of a table; `prompts` asks models for
no longer quotes either."""

LETTERS = 0.6
"""Least share of letters and digits in a sentence."""

_ADDRESS = re.compile(r"https?://[^\s)>\]]+")
_STUB = re.compile(r"@[\w.]*overload\b|\.\.\.$|^(?:if|elif) (?:typing\.|t\.)?TYPE_CHECKING")
"""Code for a type checker: it does nothing."""
_NOISE = re.compile(r"\.\. |\s*$")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stretch that may be quoted, and what surrounds it."""

    sentence: Sentence
    passage: Passage
    rank: int
    bag: Bag
    before: Bag
    around: Bag
    heading: Bag
    path: Bag
    """Terms of the names in the document's path."""
    linked: Bag
    """Terms of the passages whose title this one mentions, or that mention its title."""
    opens: bool = False
    """Whether it is the first sentence of its document."""
    torn: bool = False
    """Whether the passage begins or ends within it."""


def named_by_path(question_terms: Collection[str], passages: Sequence[Passage]) -> frozenset[str]:
    """Return the question's terms that are the outermost name of a passage's document."""
    asked = frozenset(question_terms)
    outermost = (names[0] for each in passages if (names := subjects(each.document)))
    return frozenset(term for name in outermost if name <= asked for term in name)


def candidates(passages: Sequence[Passage]) -> list[Candidate]:
    """Return what can be quoted; passages of one section stand as one, at the best one's rank."""
    sections: dict[tuple[str, str], list[Passage]] = {}
    for passage in passages:
        sections.setdefault((passage.document, passage.heading), []).append(passage)
    return [
        each
        for rank, section in enumerate(sections.values())
        for each in _of_section(section, rank, passages)
    ]


def _of_section(
    section: Sequence[Passage], rank: int, passages: Sequence[Passage]
) -> Iterator[Candidate]:
    first = section[0]
    around, heading = Bag(*(passage.text for passage in section)), Bag(first.heading)
    path = Bag(" ".join(term for name in subjects(first.document) for term in sorted(name)))
    linked, before = _linked(first, passages), Bag()
    for passage in sorted(section, key=lambda passage: passage.start):
        found = sentences(passage.text)
        opening = next((each for each in found if each.kind == "prose"), None)
        for place, sentence in enumerate(found):
            bag = Bag(_ADDRESS.sub(" ", sentence.text))
            if _states(sentence) and bag.terms:
                yield Candidate(
                    _with_announced(passage.text, found, place),
                    passage,
                    rank,
                    bag,
                    before,
                    around,
                    heading,
                    path,
                    linked,
                    passage.start == 0 and sentence == opening,
                    _torn(passage, sentence, place, len(found)),
                )
            before = bag


def _states(sentence: Sentence) -> bool:
    """Tell whether it can be quoted by itself: no heading, address or single word."""
    if sentence.kind == "code":
        told = len(sentence.text) <= MAX_CODE_CHARACTERS and bool(readable(sentence.text))
        return told and not _STUB.search(sentence.text)
    if sentence.kind == "table":
        return len(sentence.text) <= MAX_JOINED_CHARACTERS and sentence.text.startswith("|")
    said = _ADDRESS.sub("", sentence.text).split()
    if sum(map(str.isalnum, sentence.text)) < LETTERS * len("".join(sentence.text.split())):
        return False
    return sentence.kind in {"prose", "bullet"} and len(said) >= 3 and not is_code(sentence.text)


def _with_announced(text: str, found: Sequence[Sentence], place: int) -> Sentence:
    """Return a sentence that ends in a colon together with the code or list that follows it."""
    lead = found[place]
    if lead.kind not in {"prose", "bullet"} or not lead.text.rstrip("*_ ").endswith(":"):
        return lead
    end = lead.end
    kinds: set[Kind] = {"code", "bullet", "table"}
    for each in found[place + 1 :]:
        if each.kind == "markup" and end == lead.end and _NOISE.match(each.text):
            continue
        if each.kind not in kinds or each.end - lead.start > MAX_JOINED_CHARACTERS:
            break
        end, kinds = each.end, {each.kind} - {"code", "table"}
    return Sentence(lead.start, end, text[lead.start : end], lead.kind, lead.block)


def _torn(passage: Passage, sentence: Sentence, place: int, n: int) -> bool:
    """Tell whether the passage's edge seems to cut the sentence."""
    cut_before = place == 0 and passage.start > 0 and sentence.text[:1].islower()
    last = sentence.text.rstrip("\"'\u201d\u2019)*_`] ")[-1:]
    cut_after = place == n - 1 and sentence.kind == "prose" and (last.isalnum() or last == ",")
    return cut_before or (cut_after and len(sentence.text) > 40)


def _linked(here: Passage, passages: Sequence[Passage]) -> Bag:
    others = (other for other in passages if title(other) != title(here))
    texts = (other.text for other in others if mentions(here, other) or mentions(other, here))
    return Bag(*texts)
