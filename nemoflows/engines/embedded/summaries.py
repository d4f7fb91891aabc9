"""Summaries made of sentences that are there."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from nemoflows.engines.embedded.prose import readable
from nemoflows.engines.embedded.weights import Bag, ask, coverage
from nemoflows.types import Evidence

DIVERSITY = 0.5
"""What a sentence loses per share of its terms that the summary holds already.

Source: maximal marginal relevance (Carbonell and Goldstein 1998) with lambda near a half.
"""


def summarise(question: str, evidence: Sequence[Evidence], *, n: int = 3) -> str:
    """Return up to `n` quotes that answer `question` and do not repeat each other.

    Quotes of one document stand in its order; the document of the best quote comes first.
    """
    bags = [Bag(piece.quote) for piece in evidence]
    asked = ask(question, [bag.terms for bag in bags])
    worth = [coverage(asked.needs, bag) + 1 / (1 + rank) for rank, bag in enumerate(bags)]
    chosen = _diverse(worth, bags, n)
    documents = list(dict.fromkeys(evidence[place].document for place in chosen))
    pieces = sorted(
        (evidence[place] for place in chosen),
        key=lambda piece: (documents.index(piece.document), piece.start),
    )
    return " ".join(dict.fromkeys(readable(piece.quote) for piece in pieces))


_ACTS = (
    r"propos\w+|introduc\w+|present\w*|develop\w*|describ\w+|devis\w+|design\w*|explor\w+|"
    r"investigat\w+|stud(?:y|ies)|address\w*|provid\w+|formulat\w+|offer\w*|suggest\w*"
)
_CUES: tuple[tuple[float, re.Pattern[str]], ...] = tuple(
    (weight, re.compile(pattern, re.IGNORECASE))
    for weight, pattern in (
        (3.3, rf"\b(?:we|i|this \w+|our \w+|the authors?)\b[^.;]{{0,40}}?\b(?:{_ACTS})\b"),
        (2.7, r"\b(?:we|our)\b"),
        (2.0, r"\bthis (?:paper|work|article|study|report|page|guide|package|library|module)\b"),
        (-1.0, r"^(?:however|unfortunately|while|although|despite|recent\w*|yet|but|existing)\b"),
        (-0.7, r"^(?:moreover|further\w*|additionally|in addition|also|finally|for example)\b"),
        (-0.7, r"^(?:specifically|in particular|these|they|it|such|second\w*|third\w*)\b|https?:"),
    )
)  # fmt: skip
_TITLE_F1, _TITLE_SHARE, _CENTRAL, _LATE, _ODD_LENGTH = 2.5, 4.5, 1.0, -2.0, -2.0
_TYPICAL_WORDS = 22
"""Rounded weights of a softmax over an abstract's sentences, and the length of a usual summary.

Source: fitted on scitldr's dev part for ROUGE-1; each half's fit, tried on the other half, gives
.409 and .417 where the first sentence gives .301.
"""


def summarise_text(title: str, sentences: Sequence[str], *, n: int) -> list[int]:
    """Return the positions of the `n` sentences that say most of the text, in reading order.

    What counts: terms shared with the title and with the other sentences, words that announce a
    contribution or only continue, an early place, and a usual length.
    """
    named, bags = Bag(title), [Bag(sentence) for sentence in sentences]
    held = Counter(term for bag in bags for term in bag.terms)
    worth = []
    for place, (sentence, bag) in enumerate(zip(sentences, bags, strict=True)):
        shared, size = len(bag.terms & named.terms), max(1, len(bag.terms))
        others = max(1, len(sentences) - 1)
        worth.append(
            _TITLE_F1 * 2 * shared / (size + len(named.terms))
            + _TITLE_SHARE * shared / max(1, len(named.terms))
            + _CENTRAL * sum(held[term] - 1 for term in bag.terms) / size / others
            + _LATE * place / others
            + _ODD_LENGTH * abs(math.log(max(1, len(sentence.split())) / _TYPICAL_WORDS))
            + sum(weight for weight, cue in _CUES if cue.search(sentence))
        )
    return sorted(_diverse(worth, bags, n))


def _diverse(worth: Sequence[float], bags: Sequence[Bag], n: int) -> list[int]:
    """Return `n` positions, each the best for what the earlier ones do not say already."""
    chosen: list[int] = []
    scale = max(map(abs, worth), default=0.0) or 1.0
    said: set[str] = set()
    left = [place for place, bag in enumerate(bags) if bag.terms]
    while left and len(chosen) < n:
        best = max(
            left,
            key=lambda place: (
                worth[place] / scale
                - DIVERSITY * len(bags[place].terms & said) / len(bags[place].terms)
            ),
        )
        chosen.append(best)
        left.remove(best)
        said |= bags[best].terms
    return chosen
