"""Summaries made of sentences that are there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from nemoflows.engines.builtin.prose import readable
from nemoflows.engines.builtin.weights import Bag
from nemoflows.types import Evidence

TITLE, CENTRAL, OWN = 2.0, 0.25, 1.0
"""What counts: a share of the title's terms, of the other sentences' terms, to speak of itself."""
DIVERSITY = 1.0
"""What a sentence loses per share of its terms that the summary holds already.

Source: maximal marginal relevance (Carbonell and Goldstein 1998).
"""
_OWN = re.compile(
    r"\b(?:we|our|this (?:paper|work|article|study|report|page|guide))\b", re.IGNORECASE
)


def summarise(evidence: Sequence[Evidence]) -> str:
    """Return the first quote, the best, as it reads; "" without quotes."""
    return readable(evidence[0].quote) if evidence else ""


def summarise_text(title: str, sentences: Sequence[str], *, n: int) -> list[int]:
    """Return the positions of the `n` sentences that say most of the text, in reading order."""
    named, bags = Bag(title).terms, [Bag(sentence).terms for sentence in sentences]
    held = Counter(term for bag in bags for term in bag)
    worth = {
        place: TITLE * len(bag & named) / max(1, len(named))
        + CENTRAL * sum(held[term] - 1 for term in bag) / len(bag) / len(bags)
        + OWN * bool(_OWN.search(sentences[place]))
        for place, bag in enumerate(bags)
        if bag
    }
    chosen: list[int] = []
    said: frozenset[str] = frozenset()
    while len(chosen) < min(n, len(worth)):
        loss = {place: DIVERSITY * len(bags[place] & said) / len(bags[place]) for place in worth}
        best = max(worth.keys() - chosen, key=lambda place: (worth[place] - loss[place], -place))
        chosen.append(best)
        said |= bags[best]
    return sorted(chosen)
