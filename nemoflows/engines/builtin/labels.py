"""The nearest of several labels without a model: by words that they and their examples share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from nemoflows.language.terms import terms


def nearest(text: str, examples: Mapping[str, Sequence[str]]) -> tuple[str, float]:
    """Return the label whose words and examples a text is most like, and how far it leads.

    A naive Bayes classifier over stemmed terms, with one count added to each; a label's own words
    count as an example. The lead is the first label's share of the probability, 0 to 1.

    Args:
        examples: Texts by label; labels without any are known by their own words.

    Source: Manning, Raghavan, Schütze, Introduction to Information Retrieval (2008), chapter 13.
    """
    counts = {
        label: Counter(term for each in [_spelt_out(label), *texts] for term in terms(each))
        for label, texts in examples.items()
    }
    vocabulary = {term for held in counts.values() for term in held}
    known = [term for term in terms(text) if term in vocabulary]
    scores = {
        label: sum(
            math.log((held[term] + 1) / (held.total() + len(vocabulary) + 1)) for term in known
        )
        for label, held in counts.items()
    }
    best = max(scores, key=lambda label: scores[label])
    weights = [math.exp(score - scores[best]) for score in scores.values()]
    return best, 1 / sum(weights)


def _spelt_out(label: str) -> str:
    """Return a label as words: `SearchCreativeWork` and `search_creative_work` alike."""
    spaced = "".join(f" {c}" if c.isupper() else c for c in label)
    return spaced.replace("_", " ").replace("-", " ")
