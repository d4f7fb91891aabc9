"""Gates between tiers: checks on what was found, with stated thresholds, never self-confidence.

Two per purpose. *Integrity*: the reply fits its schema, a quote stands word for word in its
passage, a citation resolves; `nemoflows.rag.replies` checks it, and what fails it twice is
unusable.
*Coverage*: what was found is about what was asked; the two functions here.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from nemoflows.language.answer_types import answer_type, answers
from nemoflows.language.terms import terms
from nemoflows.types import Evidence, ModelRef, Passage, Value

ENOUGH_COVERAGE = 0.6
"""Share of the question's terms at which a research agent stops searching, and below which a
model's finding is doubted.

Source: chosen by reading, not calibrated; a profile can set another per purpose.
"""


SURE = 0.64
"""Sureness below which a finding of the embedded tier is doubted.

Source: xquad_en's open part, where 20 % of the questions lie below it and half of the wrong ones.
"""


class Coverage(Value):
    """How much of a question stands in the evidence."""

    share: float
    """Terms of the question found in quotes and headings, longer terms weighing more; 0 to 1."""
    missing: list[str]
    """Terms of the question found nowhere."""


def coverage(question: str, evidence: Sequence[Evidence]) -> Coverage:
    """Return the weighted share of the question's terms that the evidence holds.

    Source: weight of a term = its length in characters, a stand-in for rarity that needs no
    corpus statistics.
    """
    wanted = list(dict.fromkeys(terms(question)))
    held = {term for quote in evidence for term in terms(f"{quote.heading} {quote.quote}")}
    total = sum(map(len, wanted))
    missing = [term for term in wanted if term not in held]
    share = 1.0 - sum(map(len, missing)) / total if total else float(bool(evidence))
    return Coverage(share=share, missing=missing)


def is_enough(question: str, evidence: Sequence[Evidence]) -> bool:
    """Return whether an agent can stop searching."""
    return bool(evidence) and coverage(question, evidence).share >= ENOUGH_COVERAGE


def sureness(question: str, evidence: Sequence[Evidence], passages: Sequence[Passage]) -> float:
    """Return how likely the first quote holds the answer, 0 to 1.

    What counts is how far the first quote leads the second one: in the question's terms, weighed
    by their rarity among the passages, in its pairs of terms, in the type of answer it holds; and
    how far the first passage leads the second one in the search.

    Source: a logistic regression on xquad_en's open part, 565 answered questions, rounded;
    `benchmarks.gates` measures it on folds that a fit has not seen.
    """
    if not evidence:
        return 0.0
    weighed = zip(_WEIGHTS, leads(question, evidence, passages), strict=True)
    return 1 / (1 + math.exp(-(_BIAS + sum(weight * lead for weight, lead in weighed))))


def leads(
    question: str, evidence: Sequence[Evidence], passages: Sequence[Passage]
) -> tuple[float, float, float, float]:
    """Return how far the first quote leads: in terms, in pairs of them, in type, in rank."""
    first = evidence[0].quote if evidence else ""
    second = evidence[1].quote if len(evidence) > 1 else ""
    weights, kind = _rarities(question, passages), answer_type(question)
    typed = [answers(kind, question, quote) if quote else 0.0 for quote in (first, second)]
    return (
        _held(first, weights) - _held(second, weights),
        _paired(question, first) - _paired(question, second),
        typed[0] - typed[1],
        _lead([passage.score for passage in passages]),
    )


_BIAS = -0.16


_WEIGHTS = (2.6, 1.5, 0.5, 1.3)


def doubt(
    question: str, evidence: Sequence[Evidence], passages: Sequence[Passage], model: ModelRef
) -> str:
    """Return why the next tier should look again; empty where the coverage gate is passed.

    The embedded tier is judged by its sureness. A model chooses quotes by what they mean, so that
    of its evidence only the share of the question's terms is asked for.
    """
    if model.endpoint == "embedded":
        sure = sureness(question, evidence, passages)
        told = f"The first quote leads the next one too little: sureness {sure:.2f}, {SURE} wanted."
        return "" if sure >= SURE else told
    found = coverage(question, evidence)
    if found.share >= ENOUGH_COVERAGE:
        return ""
    return (
        f"The quotes cover {found.share:.0%} of the question, {ENOUGH_COVERAGE:.0%} is wanted; "
        f"missing: {', '.join(found.missing[:8])}."
    )


def _rarities(question: str, passages: Sequence[Passage]) -> Mapping[str, float]:
    """Weigh the question's terms by their rarity among passages, as BM25 does."""
    held = Counter(term for passage in passages for term in set(terms(passage.text)))
    n = len(passages)
    return {t: math.log(1 + (n - held[t] + 0.5) / (held[t] + 0.5)) for t in terms(question)}


def _held(text: str, weights: Mapping[str, float]) -> float:
    total, found = sum(weights.values()), set(terms(text))
    return sum(w for t, w in weights.items() if t in found) / total if total and text else 0.0


def _paired(question: str, text: str) -> float:
    wanted, found = (set(itertools.pairwise(each)) for each in map(terms, (question, text)))
    return len(wanted & found) / max(1, len(wanted))


def _lead(scores: Sequence[float]) -> float:
    """Return by what share of itself the first score leads the second one."""
    if len(scores) < 2 or scores[0] <= 0:
        return 1.0
    return (scores[0] - scores[1]) / scores[0]
