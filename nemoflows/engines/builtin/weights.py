"""How much of a question a text covers, with rare words counting for more."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, lru_cache

from nemoflows.language.answer_types import AnswerType, answer_type, core, kind_words
from nemoflows.language.boxes import WORDS
from nemoflows.language.terms import STOP_WORDS, is_dated, names, parts, shares, terms, words

NAME_NEED = 2.0
"""How much more an answer needs a name, a number or an identifier than another word."""
ASKING_NEED = 0.4
"""The same for a word that asks, or that has no topic: it may well be absent from an answer. A
word that names the measure ("how long") is not needed at all: its kind of answer is."""
FUNCTION_NEED = 0.2
"""The same for a function word of a language of which no list is kept."""
CLOSE, WORTH = 0.75, 0.7
"""How alike stems are that count for one another, and what they count."""

SIGN = 0.35
"""What a pair of Chinese characters counts of which one is here, as in another form of a word."""
_PAIR = re.compile(r"[\u4e00-\u9fff]{2}")

_ASKING = """
kind type sort name called known term word many much number amount percentage year date time day
often month person people thing way something use used happen mean get make give take find tell say
explain describe show list example main exactly first also new work need want current please
normal usual typical actual overall whole here now today anyway still page document file
"""
_ENGLISH = frozenset(
    "what which who whom whose where when why how does did are were the of is do can".split()  # noqa: SIM905
)
"""Words of which most English questions hold one, and questions in other languages none."""
MAX_FUNCTION_LETTERS, MOST_FUNCTION_WORDS = 3, 0.7
_FULL_NAME = re.compile(r"(?<!^)\b([A-Z][a-z]+) ([A-Z][a-z]+)\b(?! [A-Z])")
_ANOTHER = r"\b{0} [A-Z]\w|(?<![.!?] )(?<!^)\b[A-Z]\w+ {1}\b"
_ADVERB = re.compile(r"[a-z]{3,}ly$")
_NAMES = re.compile(
    r"(?<!^)(?<![?.!] )(?<![\u00bf\u00a1])\b(?:[A-Z][\w'-]*(?:\+\+|[#+])?|\w*\d\w*|\w+_\w+)"
)
_CAPITALS = re.compile(r"\b[A-Z][\w'-]+(?:\s+(?:(?:of|the|and|for)\s+)*[A-Z][\w'-]+)+")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the scoring reads it."""

    text: str
    kind: AnswerType
    weights: Mapping[str, float]
    """Term to rarity, in the question's order."""
    needs: Mapping[str, float]
    """Term to how much an answer needs it, whatever else was found."""
    names: frozenset[str]
    """Terms that the question spells as names, numbers or identifiers, or that are subjects."""
    subjects: frozenset[str] = frozenset()
    """Terms by which the question names a document that was found."""
    exact: tuple[str, ...] = ()
    """Names with signs in them: another one may differ in a sign alone."""
    measure: frozenset[str] = frozenset()
    """What "how" asks for, as "long"; no answer need hold it."""

    @property
    def state(self) -> bool:
        """Whether it asks for what boxes say by their signs, and for nothing else."""
        needed = {term for term, need in self.needs.items() if need > ASKING_NEED}
        return bool(needed) and needed <= frozenset(terms(WORDS))

    def other(self, text: str) -> bool:
        """Tell whether a text has a part of a name of the question beside that of another."""
        return any(
            f"{first} {last}" not in text and re.search(_ANOTHER.format(first, last), text)
            for first, last in _FULL_NAME.findall(self.text)
        )

    def n_words(self, among: Collection[str]) -> int:
        """Return how many words some of its terms are: one for a run of neighbouring characters."""
        share = shares(self.text)
        return round(sum(share.get(term, 1.0) for term in among))


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
    question = core(question)
    held = Counter(term for bag in bags for term in set(bag))
    share = shares(question)
    exact = names(question)
    loose = {part for name in exact if not is_dated(name) for part in parts(name)}
    asked = [term for term in dict.fromkeys(terms(question)) if term not in loose]
    spelled = " ".join(found.group() for found in _NAMES.finditer(question))
    named = frozenset(subjects) & set(asked)
    special = (named | set(terms(spelled)) | set(exact)) & set(asked)
    kind = answer_type(question)
    measure = frozenset(terms(" ".join(kind_words(question)))) if kind == "number" else frozenset()
    weak = _asking() | set(terms(" ".join(kind_words(question)))) | _adverbs(question)
    needs = {t: ASKING_NEED if t in weak else share.get(t, 1.0) for t in asked}
    needs |= dict.fromkeys(_function_words(question) & set(asked), FUNCTION_NEED)
    needs |= dict.fromkeys(special - measure, NAME_NEED)
    return Asked(
        text=question,
        kind=kind,
        weights={
            t: share.get(t, 1.0) * math.log(1 + (len(bags) - held[t] + 0.5) / (held[t] + 0.5))
            for t in asked
        },
        needs={t: need for t, need in needs.items() if t not in measure and not is_dated(t)},
        names=frozenset(special),
        subjects=named,
        exact=tuple(exact),
        measure=measure,
    )


def _function_words(question: str) -> set[str]:
    """Return what is taken for function words where a question is not in English.

    Its first word asks, and words of few letters are articles and the like wherever letters have
    capitals; in other scripts a short word may be anything.
    """
    said = words(question)
    if not _ENGLISH.isdisjoint(said):
        return set()
    short = [word for n, word in enumerate(said) if not n or len(word) <= MAX_FUNCTION_LETTERS]
    if len(short) > MOST_FUNCTION_WORDS * len(said):  # its words are short, as in Vietnamese
        return set()
    return set(terms(" ".join(word for word in short if word.upper() != word)))


def _adverbs(question: str) -> set[str]:
    found = (word for word in question.lower().split() if _ADVERB.match(word.strip("?.,!")))
    return set(terms(" ".join(found)))


class Bag:
    """The terms of one text, ready to be asked how near they come to a term."""

    __slots__ = ("_by_letter", "_line", "order", "terms")

    def __init__(self, *texts: str) -> None:
        self.order = [term for text in texts for term in terms(text)]
        self.terms = frozenset(self.order) | {name for text in texts for name in _initials(text)}
        self._line = f" {' '.join(self.order)} "
        self._by_letter: dict[str, list[str]] = defaultdict(list)
        for term in self.terms:
            self._by_letter[term[:1]].append(term)

    def near(self, term: str) -> float:
        """Return 1 where the term is here, `WORTH` where a form or misspelling is, else 0."""
        if term in self.terms:
            return 1.0
        if not term.isalnum():
            spelled = " ".join(parts(term))
            return WORTH * (bool(spelled) and f" {spelled} " in self._line)
        others = self._by_letter.get(term[0], ()) if len(term) >= 4 and term.isalpha() else ()
        return WORTH * any(_alike(term, other) for other in others)


def _initials(text: str) -> list[str]:
    """Return what abbreviates the capitalised phrases of `text`: "eu" for "European Union"."""
    runs = (found.group().split() for found in _CAPITALS.finditer(text))
    return [
        "".join(word[0] for word in run if word.lower() not in STOP_WORDS).lower() for run in runs
    ]


@lru_cache(maxsize=65536)
def _alike(a: str, b: str) -> bool:
    """Tell whether stems agree but for an ending or a slip: "invas" and "invad"."""
    if len(b) < 4 or abs(len(a) - len(b)) > 4 or not b.isalpha():
        return False
    return SequenceMatcher(None, a, b, autojunk=False).ratio() >= CLOSE


def coverage(weights: Mapping[str, float], *bags: Bag) -> float:
    """Return the share of `weights` whose terms any of `bags` holds, 0 to 1."""
    held = (
        weight * max((bag.near(term) for bag in bags), default=0.0)
        for term, weight in weights.items()
    )
    return sum(held) / (sum(weights.values()) or 1.0)


def loose_coverage(weights: Mapping[str, float], *bags: Bag) -> float:
    """Return `coverage` where a form of a Chinese word counts in part.

    That is a pair of which a character is here, and not as a part of a pair that is asked for too.
    """
    held = coverage(weights, *bags)
    pairs = [term for term in weights if _PAIR.fullmatch(term)]
    if not pairs:
        return held
    here = [term for term in weights if any(bag.near(term) for bag in bags)]
    signs = {sign for bag in bags for term in bag.terms for sign in term} - set("".join(here))
    forms = (
        SIGN * weights[pair] for pair in pairs if pair not in here and not signs.isdisjoint(pair)
    )
    return held + sum(forms) / (sum(weights.values()) or 1.0)
