"""Gates: is what a tier found enough, and who is asked when it is not.

A gate is a check on the material, never a model's opinion of itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from nemoflows.text import terms
from nemoflows.types import Evidence, Finding, ModelRef, NotFound, Tiers, Value

ENOUGH_COVERAGE = 0.6
"""Share of the question's terms at which a research agent stops searching.

Source: chosen by reading, not calibrated; a profile can set another per purpose.
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


def failed(findings: Sequence[Finding]) -> list[NotFound]:
    """Return what the next tier must look at: the questions without a finding."""
    return [finding.not_found for finding in findings if finding.not_found is not None]


def next_model(tiers: Tiers) -> ModelRef | None:
    """Return the model that failed questions go to; None where it is the one that failed."""
    return None if tiers.frontier == tiers.efficient else tiers.frontier
