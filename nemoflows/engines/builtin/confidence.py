"""How far the first quote can be trusted: what this tier has instead of a model's judgement."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

from nemoflows.engines.builtin.candidates import PAIR
from nemoflows.engines.builtin.weights import Bag, ask, coverage
from nemoflows.language.answer_types import answers, may_answer
from nemoflows.language.sentences import sentences
from nemoflows.language.terms import terms
from nemoflows.types import Evidence, Passage

SURE = 0.64
"""Confidence below which a finding of the builtin tier is doubted.

Source: xquad_en's open part, where 23 % of the questions lie below it and 58 % of the wrong ones.
"""
RECORD_SAYS = 0.8
"""Share of what the question needs that a record must hold with the names around it: a row that
lacks a word of it may have no such field at all.

Source: chosen by reading, not calibrated.
"""
TOPIC_SAYS = 0.5
"""Share of the question's topic that a quote must hold with the names around it: what holds less
may be said of another thing.

Source: chosen on 243 questions of small documents, written for it, and on xquad_en's open part: of
sure quotes that hold less, 9 of 12 were wrong.
"""
_ROWS = {"record", "table"}
_YES_OR_NO = re.compile(
    r"\W*(?:is|are|was|were|do|does|did|can|could|may|must|has|have|will|should)\b", re.IGNORECASE
)
"""What is asked so is answered by what speaks of all of it."""
_BIAS = -0.16
_WEIGHTS = (2.6, 1.5, 0.5, 1.3)


def confidence(question: str, evidence: Sequence[Evidence], passages: Sequence[Passage]) -> float:
    """Return how likely the first quote holds the answer, 0 to 1.

    Source: a logistic regression on xquad_en's open part, 565 answered questions, rounded;
    `benchmarks.gates` measures it on folds that a fit has not seen.
    """
    if not evidence:
        return 0.0
    weighed = zip(_WEIGHTS, leads(question, evidence, passages), strict=True)
    found = 1 / (1 + math.exp(-(_BIAS + sum(weight * lead for weight, lead in weighed))))
    return found if may_say(question, evidence[0], passages) else min(found, SURE - 0.01)


def may_say(question: str, quote: Evidence, passages: Sequence[Passage]) -> bool:
    """Tell whether a quote may say what is asked: it has signs of that, and names what is meant."""
    asked = ask(question, [terms(passage.text) for passage in passages])
    bag = Bag(quote.quote, quote.heading, quote.document)
    lacks = asked.measure and not answers(asked.kind, asked.text, quote.quote)
    lacks = lacks or not may_answer(asked.kind, asked.text, quote.quote)
    topic = {term: need for term, need in asked.needs.items() if need >= 1}
    deed = {term: need for term, need in topic.items() if term not in asked.names}
    lacks = lacks or (asked.kind == "date" and bool(deed) and not coverage(deed, bag))
    if lacks or asked.other(quote.quote) or (topic and coverage(topic, bag) < TOPIC_SAYS):
        return False
    kinds = {"record" if PAIR.match(each.text) else each.kind for each in sentences(quote.quote)}
    if kinds.isdisjoint(_ROWS) and _YES_OR_NO.match(asked.text) is None:
        return True
    return coverage(asked.needs, bag) >= RECORD_SAYS


def leads(
    question: str, evidence: Sequence[Evidence], passages: Sequence[Passage]
) -> tuple[float, float, float, float]:
    """Return how far the first quote leads the second: in terms, in pairs of them, in type.

    Last, by what share of itself the first passage's score leads the second one's.
    """
    asked = ask(question, [terms(passage.text) for passage in passages])
    wanted = set(pairwise(terms(question)))

    def signs(quote: str) -> tuple[float, float, float]:
        bag = Bag(quote)
        paired = len(wanted & set(pairwise(bag.order))) / max(1, len(wanted))
        typed = answers(asked.kind, question, quote)
        return coverage(asked.weights, bag), paired, float(typed)

    first, second = (signs(piece.quote) for piece in [*evidence, _NOTHING, _NOTHING][:2])
    scores = [passage.score for passage in passages[:2]]
    alone = len(scores) < 2 or scores[0] <= 0
    in_rank = 1.0 if alone else (scores[0] - scores[1]) / scores[0]
    return first[0] - second[0], first[1] - second[1], first[2] - second[2], in_rank


_NOTHING = Evidence(quote="", document="", start=0, end=0)
