"""How much of a question a text covers, with rare words counting for more."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from nemoflows.engines.embedded.kinship import kin
from nemoflows.language.answer_types import AnswerType, answer_type
from nemoflows.language.terms import STOP_WORDS, terms

_NAMES = re.compile(r"(?<!^)(?<![?.!] )\b(?:[A-Z][\w'-]*|\w*\d\w*|\w+_\w+)")
_ASKING = """
kind type sort name called known term word many much number amount percentage year date time day
month person people thing way something use used happen mean get make give take find tell say
explain describe show list example main exactly first also new work need want
"""
"""What a question says about its answer, or says without a topic: it may well be absent there."""
_ASKING_SHARE = 0.4
_NAME_SHARE = 1.3
_NAME_NEED = 2.0
STANDS_FOR = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the scoring reads it."""

    text: str
    weights: Mapping[str, float]
    """Term to weight, in the question's order."""
    needs: Mapping[str, float]
    """Term to how much an answer needs it, whatever else was found: names twice, asking little."""
    names: frozenset[str]
    """Terms that the question spells as names, numbers or identifiers."""
    kind: AnswerType
    subjects: frozenset[str] = frozenset()
    """Terms by which the question names a document that was found."""


@cache
def _asking() -> frozenset[str]:
    return frozenset(terms(_ASKING))


def ask(question: str, bags: Sequence[Collection[str]], *, subjects: Collection[str] = ()) -> Asked:
    """Weigh the terms of `question` by their rarity among `bags`, the terms of what was found.

    Args:
        question: What is asked.
        bags: Terms of each sentence that was found.
        subjects: Terms that are names, however the question spells them.

    Source: inverse document frequency as in BM25 (Robertson and Zaragoza 2009, section 3.1), over
    the sentences at hand, since no statistics of the whole index come along.
    """
    held = Counter(term for bag in bags for term in set(bag))
    names = frozenset(term for found in _NAMES.finditer(question) for term in terms(found.group()))
    named = frozenset(subjects).intersection(terms(question))
    names |= named
    asking = _asking()
    shapes = {term: _ASKING_SHARE if term in asking else 1.0 for term in terms(question)}
    weights = {
        term: math.log(1 + (len(bags) - held[term] + 0.5) / (held[term] + 0.5))
        * (_NAME_SHARE if term in names else shape)
        for term, shape in shapes.items()
    }
    needs = {term: _NAME_NEED if term in names else shape for term, shape in shapes.items()}
    return Asked(question, weights, needs, names, answer_type(question), named)


class Bag:
    """The terms of one text, ready to be asked how near they come to a term."""

    __slots__ = ("_by_letter", "order", "terms")

    def __init__(self, *texts: str) -> None:
        self.order = [term for text in texts for term in terms(text)]
        self.terms = frozenset(self.order) | {name for text in texts for name in _initials(text)}
        self._by_letter: dict[str, list[str]] = {}
        for term in self.terms:
            self._by_letter.setdefault(term[:1], []).append(term)

    def near(self, term: str) -> float:
        """Return 1 where the term is here, 0.7 where a form or misspelling of it is, else 0.

        A word that may stand for it counts `STANDS_FOR`.
        """
        if term in self.terms:
            return 1.0
        if not self.terms.isdisjoint(kin(term)):
            return STANDS_FOR
        others = self._by_letter.get(term[:1], ()) if len(term) >= 4 and term.isalpha() else ()
        return 0.7 if any(_akin(term, other) for other in others) else 0.0


_CAPITALS = re.compile(r"\b[A-Z][\w'-]+(?:\s+(?:(?:of|the|and|for)\s+)*[A-Z][\w'-]+)+")


def _initials(text: str) -> list[str]:
    """Return what abbreviates the capitalised phrases of `text`: "eu" for "European Union"."""
    runs = (found.group().split() for found in _CAPITALS.finditer(text))
    return [
        "".join(word[0] for word in run if word.lower() not in STOP_WORDS).lower() for run in runs
    ]


def _akin(a: str, b: str) -> bool:
    """Tell whether stems agree but for an ending or one slip: "invas" and "invad"."""
    if abs(len(a) - len(b)) > 4 or len(b) < 3 or a[1] != b[1] or not b.isalpha():
        return False
    shared = _shared(a, b)
    if shared >= max(4, min(len(a), len(b)) - 1) and shared >= 0.6 * max(len(a), len(b)):
        return True
    if min(len(a), len(b)) < 6:
        return False
    tail = _shared(a[: shared - 1 : -1], b[: shared - 1 : -1])
    left, right = a[shared : len(a) - tail], b[shared : len(b) - tail]
    return max(len(left), len(right)) <= 1 or (len(left) == 2 and left == right[::-1])


def _shared(a: str, b: str) -> int:
    """Return how many letters the beginnings share."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((n for n, (x, y) in pairs if x != y), min(len(a), len(b)))


def coverage(weights: Mapping[str, float], *bags: Bag) -> float:
    """Return the share of `weights` whose terms any of `bags` holds, 0 to 1."""
    held = (
        weight * max((bag.near(term) for bag in bags), default=0.0)
        for term, weight in weights.items()
    )
    return sum(held) / (sum(weights.values()) or 1.0)


def grams(order: Sequence[str]) -> Counter[str]:
    """Return the four-letter stretches of stems: they forgive endings and typing."""
    line = " ".join(order)
    return Counter(line[n : n + 4] for n in range(len(line) - 3))
