"""From what one search found to the next search, and several rankings to one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, dropwhile

from nemoflows.engines.embedded.titles import mentions, title
from nemoflows.engines.embedded.weights import Bag
from nemoflows.language.terms import terms, words
from nemoflows.types import Passage

N_BRIDGES = 3
"""Names that a rewritten query takes from what was found; more drown what is still asked."""
NAMED_BY, NAMES, BEST = 0.6, 0.15, 2.0
"""What it is worth to be named by a passage, to name it, and how much more the best one's word
counts.

Source: hotpot200's open part, both halves alike: both supporting paragraphs in the top two of ten
.74 to .75 on a plateau of NAMED_BY .3 to 1.5, NAMES 0 to .5; .38 after one hop.
"""

_CAPITAL = "A-Z\u00c0-\u00d6\u00d8-\u00de"
_WORD = rf"[{_CAPITAL}][\w'&.-]*\w"
_PHRASE = re.compile(
    rf"[\"\u201c]([{_CAPITAL}][^\"\u201d\n]{{2,60}})[\"\u201d]|"
    rf"\b({_WORD}(?: (?:(?:of|the|de|von|van|der|la|ki|al) ){{0,2}}(?:{_WORD}|\d+\b))*)"
)


def rewrite(question: str, passages: Sequence[Passage], queries: Sequence[str]) -> str:
    """Return the next hop's query, or "" where another hop would add nothing.

    It names what the question names and the best passage does not hold, or else the names that
    this passage brings in, with those words of the question that it leaves open.

    Args:
        question: What is asked.
        passages: What the hops so far retrieved, best first.
        queries: What was searched for, in order.
    """
    if not passages:
        return ""
    best = passages[0]
    held = Bag(best.text, best.heading)
    missed = [name for name in phrases(question) if not _names(best, name)]
    if missed:
        return _unless_asked(" ".join(missed), queries)
    opened = [word for word in words(question) if not all(map(held.near, terms(word)))]
    bridges = _bridges(question, passages)
    return _unless_asked(" ".join([*bridges, *opened]), queries) if bridges else ""


def _unless_asked(query: str, queries: Sequence[str]) -> str:
    """Return `query`, or "" where the very same terms were searched for already."""
    asked = (set(terms(earlier)) for earlier in queries)
    return "" if set(terms(query)) in asked else query


def _bridges(question: str, passages: Sequence[Passage]) -> list[str]:
    """Return names in the best passage that the question lacks, retrieved titles first."""
    best, asked = passages[0], set(terms(question)) | set(terms(title(passages[0])))
    titles = [title(other) for other in passages[1:] if mentions(best, other)]
    named = [name for name in phrases(best.text) if not set(terms(name)) <= asked]
    fresh = [name for name in titles if not set(terms(name)) <= asked]
    return list(dict.fromkeys([*fresh, *named]))[:N_BRIDGES]


def _names(passage: Passage, name: str) -> bool:
    held = " ".join(terms(f"{passage.heading} {passage.text}"))
    return f" {' '.join(terms(name))} " in f" {held} "


def phrases(text: str) -> list[str]:
    """Return the names in `text` in order of appearance: capitalised or quoted phrases."""
    found = (match[1] or _trimmed(match[2]) for match in _PHRASE.finditer(text))
    return [name for name in dict.fromkeys(found) if terms(name)]


def _trimmed(phrase: str) -> str:
    """Drop the function words that a phrase begins with, as in "Are King Vidor"."""
    return " ".join(dropwhile(lambda word: not terms(word), phrase.split()))


def merge_hops(hops: Sequence[Sequence[Passage]]) -> list[Passage]:
    """Return one ranking out of one ranking per hop, in order of the hops.

    The first hop's best passage stays first. The others are ordered by reciprocal rank, and by
    being named: a passage whose title a well-ranked passage mentions is worth more.
    """
    found = {passage.id: passage for passage in chain.from_iterable(hops)}
    worth = dict.fromkeys(found, 0.0)
    for hop in hops:
        for place, passage in enumerate(hop):
            worth[passage.id] += 1 / (1 + place)
    if len([hop for hop in hops if hop]) < 2:
        return list(found.values())
    best = next(passage for hop in hops for passage in hop)
    total = {id_: worth[id_] + _named_by(found[id_], found.values(), worth, best) for id_ in found}
    ranked = sorted(found, key=lambda id_: (id_ != best.id, -total[id_]))
    return [found[id_] for id_ in ranked]


def _named_by(
    passage: Passage, others: Iterable[Passage], worth: Mapping[str, float], best: Passage
) -> float:
    """Return what a passage gains from the others that mention its title, or whose it mentions."""
    gain = 0.0
    for other in others:
        share = worth[other.id] * (BEST if other.id == best.id else 1.0)
        if title(other) != title(passage):
            gain += NAMED_BY * share * mentions(other, passage)
            gain += NAMES * share * mentions(passage, other)
    return gain
