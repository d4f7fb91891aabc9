"""Gates between tiers: checks on what was found, with stated thresholds, never self-confidence.

Two per purpose. *Integrity*: the reply fits its schema, a quote stands word for word in its
passage, a citation resolves; what reads the reply checks it, and what fails it twice is unusable.
*Coverage*: what was found is about what was asked; the two functions here.
"""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.engines.builtin.confidence import SURE, confidence, may_say
from nemoflows.language.terms import terms
from nemoflows.types import Evidence, ModelRef, Passage, Value

ENOUGH_COVERAGE = 0.6
"""Share of the question's terms at which a research agent stops searching, and below which a
model's finding is doubted.

Source: chosen by reading, not calibrated; a profile can set another per purpose.
"""


class Coverage(Value):
    """How much of a question stands in the evidence."""

    share: float
    """Terms of the question found in quotes, longer terms weighing more; 0 to 1."""
    missing: list[str]
    """Terms of the question found nowhere."""


def coverage(question: str, evidence: Sequence[Evidence]) -> Coverage:
    """Return the weighted share of the question's terms that the evidence holds.

    Source: weight of a term = its length in characters, a stand-in for rarity that needs no
    corpus statistics.
    """
    wanted = list(dict.fromkeys(terms(question)))
    held = {term for quote in evidence for term in terms(quote.quote)}
    total = sum(map(len, wanted))
    missing = [term for term in wanted if term not in held]
    share = 1.0 - sum(map(len, missing)) / total if total else float(bool(evidence))
    return Coverage(share=share, missing=missing)


def agree(chosen: Sequence[Evidence], own: Sequence[Evidence]) -> bool:
    """Return whether two that chose, as a model and the builtin tier, put one stretch first."""
    return bool(chosen and own) and chosen[0].overlaps(own[0])


def is_enough(question: str, evidence: Sequence[Evidence], own: Sequence[Evidence] = ()) -> bool:
    """Return whether an agent can stop searching.

    Args:
        own: What the builtin tier chose beside a model.
    """
    if agree(evidence, own):
        return True
    return bool(evidence) and coverage(question, evidence).share >= ENOUGH_COVERAGE


def low_confidence(
    question: str,
    evidence: Sequence[Evidence],
    passages: Sequence[Passage],
    model: ModelRef,
    own: Sequence[Evidence] = (),
) -> str:
    """Return why the next tier should look again; empty where the gate is passed.

    The builtin tier is judged by its own confidence. A model is judged by that tier, which reads
    along, and where it finds nothing by the share of the question's terms in the quotes.

    Args:
        evidence: What the model chose, or the builtin tier where it is the model.
        own: What the builtin tier chose beside a model.

    Source: `benchmarks.models`, a 1.5B model on 40 questions of xquad_en, three passages each: the
    model is right first on 24, the builtin tier on 29; where both choose the same, 21 of 24 are
    right, and the answer is in the evidence of 23.
    """
    if model.is_builtin:
        return _unsure(question, evidence, passages)
    if own and not evidence:
        return "The model found nothing that helps; the quotes are the builtin tier's."
    if own:
        return "" if agree(evidence, own) else _differ(evidence[0], own[0])
    found = coverage(question, evidence)
    if found.share >= ENOUGH_COVERAGE:
        return ""
    return (
        f"The quotes cover {found.share:.0%} of the question, {ENOUGH_COVERAGE:.0%} is wanted; "
        f"missing: {', '.join(found.missing[:8])}."
    )


def _unsure(question: str, evidence: Sequence[Evidence], passages: Sequence[Passage]) -> str:
    sure = confidence(question, evidence, passages)
    if sure >= SURE:
        return ""
    if evidence and not may_say(question, evidence[0], passages):
        return "The first quote shows no sign of what is asked for, or says too little of it."
    return f"The first quote leads the next one too little: confidence {sure:.2f}, {SURE} wanted."


def _differ(chosen: Evidence, own: Evidence) -> str:
    here, there = (f"{e.document}:{e.start}-{e.end}" for e in (chosen, own))
    return f"The model puts {here} first and the builtin tier {there}."
