"""The sentences that answer a question, verbatim."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from nemoflows.engines.embedded.candidates import Candidate, candidates, named_by_path
from nemoflows.engines.embedded.titles import subjects
from nemoflows.engines.embedded.weights import Asked, Bag, ask, coverage, grams
from nemoflows.language.answer_types import answers
from nemoflows.language.terms import terms
from nemoflows.types import Evidence, Passage

COVERED = 0.45
"""Least share of what the question needs that the best sentence's passage must hold."""
COVERED_BRIEF = {1: 0.9, 2: 0.6}
"""The same for questions of one or two terms, where half of it would be another subject."""
COVERED_NAMELESS = {**COVERED_BRIEF, 3: 0.7, 4: 0.6}
"""The same where no name stands out among documents that have names: the word that is missing may
be another document's. On rows of tables, as in xquad_en, it would cost one answer in fifty."""
NAMED = 0.5
"""Least share of the question's names, numbers and identifiers that it must hold."""
SAID = 0.2
"""Least share of what the question needs that the best sentence itself must say."""
SAID_BEYOND = 0.3
"""The same of what it needs beyond the name of a document."""
CODE_SAYS = 0.6
"""Least share that code must say, with the names it stands under, to be quoted by itself."""
SUPPORTS = 0.3
"""Least share of what the question needs that the passage of a further sentence must hold."""

LEADS_ON = 1.0
"""What a sentence loses that ends in a colon: it promises what is not quoted with it."""
TORN = 1.5
"""What a sentence loses that the passage's edge cuts."""
ENTRY = 1.5
"""What an argument's entry loses where the question does not name it."""
OPENS = 0.4
"""How far a document's first sentence says what it is about."""
CALLED = 1.0
"""What a definition's documentation gains whose name is made of the question's words."""
SUBJECT = 1.5
"""What a sentence gains whose document's path names what is asked about."""
DEFINES = 2.5
"""What a sentence gains that says what the question's subject is, where that is asked."""

AMONG = 3
"""How many of the best sentences may be the one that covers the question."""

# Source of COVERED, NAMED, SAID, SUPPORTS and AMONG: xquad_en's open part. Of 578 questions 98 %
# stay answered; with their whole article out of the corpus 23 % are served all the same, and of
# 200 questions from two other sets 3. The rest: chosen by reading answers about packages.

_WEIGHTS = {
    "covers": 4.0,
    "passage": 2.8,
    "rank": 2.5,
    "focus": 2.2,
    "grams": 2.0,
    "before": 1.8,
    "carried": 3.0,
    "answers": 1.6,
    "pairs": 1.3,
    "heading": 0.9,
}
"""Rounded weights of a conditional logit over the sentences that a search brought.

Source: fitted on xquad_en's open part; each half's fit, tried on the other half, puts a sentence
with the answer first for 76 % and 81 % of the questions. `carried` was set by reading, between
1.5 and 3 the set sees no difference.
"""


_ENTRY = re.compile(r"\*{0,2}([a-z_]\w*)(?: ?\([^()]*\))? ?:\s")
_HOW = re.compile(r"\bhow (\w+)", re.IGNORECASE)
_PRONOUN = re.compile(r"\W*(?:It|He|She|They|This|These|Its|His|Her|Their)\b")


def extract(question: str, passages: Sequence[Passage], *, k: int = 4) -> list[Evidence]:
    """Return the `k` best sentences over all passages, best first; `[]` when none covers it.

    Covered means: the passage of one of the best sentences, with its headings and the passages it
    is linked to by title, holds `COVERED` of what the question needs and `NAMED` of its names,
    and the sentence itself says `SAID` of it. What is about another subject is not served. Code
    is quoted, by whole blocks, only where no sentence covers the question.

    Args:
        question: What is asked.
        passages: As the search ranked them.
        k: Sentences at most.
    """
    found = candidates(passages)
    said = [each.bag.terms for each in found if each.sentence.kind != "code"]
    asked = ask(question, said, subjects=named_by_path(terms(question), passages))
    scored = sorted(found, key=lambda each: -_score(asked, each))
    for code in (False, True) if asked.kind != "definition" else (False,):
        ranked = [each for each in scored if (each.sentence.kind == "code") is code]
        ranked = [each for each in ranked if _about(asked, each)]
        if any(_covers(asked, each) for each in ranked[:AMONG]):
            return _kept(asked, ranked, k)
    return []


def _about(asked: Asked, each: Candidate) -> bool:
    """Tell whether it stands where a document that the question names is spoken of."""
    place = (each.bag, each.around, each.heading, each.path)
    if each.sentence.kind == "code" and coverage(asked.needs, *place[:1], *place[2:]) < CODE_SAYS:
        return False
    return not asked.subjects or any(bag.near(t) == 1 for bag in place for t in asked.subjects)


def _kept(asked: Asked, ranked: Sequence[Candidate], k: int) -> list[Evidence]:
    kept: dict[str, Candidate] = {}
    subject = bool(ranked) and _is_subject(asked, ranked[0])
    for each in ranked:
        if subject and not _is_subject(asked, each):
            continue
        if any(_holds(other, each) for other in kept.values()) or (kept and each.torn):
            continue
        if coverage(asked.needs, each.around, each.heading, each.path, each.linked) >= SUPPORTS:
            kept.setdefault(" ".join(each.bag.order), each)
    return [_evidence(each) for each in list(kept.values())[:k]]


def _holds(other: Candidate, each: Candidate) -> bool:
    """Tell whether a stretch that is quoted already contains this one."""
    a, b = other.sentence, each.sentence
    same = other.passage.id == each.passage.id
    return same and a.start <= b.start and b.end <= a.end and len(a.text) > len(b.text)


def _score(asked: Asked, each: Candidate) -> float:
    """Return how well one sentence answers; only the order means something."""
    covered = coverage(asked.weights, each.bag)
    features = {
        "covers": covered,
        "grams": _grams(asked, each.bag),
        "rank": 1 / (1 + each.rank),
        "passage": coverage(asked.weights, each.around),
        "before": coverage(asked.weights, each.bag, each.before) - covered,
        "carried": _carried(asked, each) - covered,
        "answers": answers(asked.kind, asked.text, each.sentence.text),
        "pairs": _pairs(asked, each.bag.order),
        "heading": coverage(asked.weights, each.bag, each.heading) - covered,
        "focus": len(each.bag.terms & asked.weights.keys()) / len(each.bag.terms),
    }
    worth = sum(_WEIGHTS[name] * value for name, value in features.items())
    subject = _is_subject(asked, each)
    worth += CALLED * _is_called(asked, each)
    worth += SUBJECT * subject - ENTRY * _is_entry_of_another(asked, each)
    if asked.kind == "definition":
        opens = OPENS * (subject and each.opens)
        worth += DEFINES * max(opens, features["answers"] - 0.4, 0.0)
    return worth - LEADS_ON * each.sentence.text.endswith(":") - TORN * each.torn


def _is_entry_of_another(asked: Asked, each: Candidate) -> bool:
    """Tell whether it documents an argument whose name the question does not say."""
    found = _ENTRY.match(each.sentence.text)
    return found is not None and asked.needs.keys().isdisjoint(terms(found[1]))


def _is_called(asked: Asked, each: Candidate) -> bool:
    """Tell whether the definition that it documents has a name of the question's words."""
    name = frozenset(terms(each.passage.heading.rpartition(".")[2]))
    dotted = "." in each.passage.heading and " " not in each.passage.heading
    return dotted and len(name) > 1 and name <= asked.needs.keys()


def _is_subject(asked: Asked, each: Candidate) -> bool:
    """Tell whether the document's path names what is asked about."""
    return any(name <= asked.needs.keys() for name in subjects(each.passage.document)[:1])


def _carried(asked: Asked, each: Candidate) -> float:
    """Return the coverage with what a sentence's first word, a pronoun, stands for."""
    if not _PRONOUN.match(each.sentence.text):
        return coverage(asked.weights, each.bag)
    return coverage(asked.weights, each.bag, each.before, each.heading)


def _covers(asked: Asked, each: Candidate) -> bool:
    """Tell whether the sentence, where it stands, is about what is asked.

    Where the question names a document, what it asks about that document counts by itself.
    """
    told = asked.subjects.union(*(terms(word) for word in _HOW.findall(asked.text)))
    beyond = {term: asked.needs[term] for term in asked.needs if term not in told}
    defines = asked.kind == "definition" and each.opens and _is_subject(asked, each)
    if asked.subjects and beyond and not defines:
        around = coverage(beyond, each.around, each.heading, each.path)
        said = coverage(beyond, each.bag)
        if around < COVERED_BRIEF.get(len(beyond), COVERED) or said < SAID_BEYOND:
            return False
    place = (each.around, each.heading, each.path, each.linked)
    names = {term: asked.needs[term] for term in asked.needs if term in asked.names}
    least = (COVERED_NAMELESS if each.path.terms and not names else COVERED_BRIEF).get(
        len(asked.needs), COVERED
    )
    return (
        coverage(asked.needs, *place) >= least
        and (not names or coverage(names, *place) >= NAMED)
        and coverage(asked.needs, each.bag, *([each.path] if defines else [])) >= SAID
    )


def _grams(asked: Asked, bag: Bag) -> float:
    wanted = grams(list(asked.weights))
    return sum((wanted & grams(bag.order)).values()) / max(1, sum(wanted.values()))


def _pairs(asked: Asked, order: Sequence[str]) -> float:
    """Return the weighted share of the question's neighbouring terms that are neighbours here."""
    wanted = {(a, b): asked.weights[a] + asked.weights[b] for a, b in pairwise(asked.weights)}
    close = set(pairwise(order)) | set(zip(order, order[2:], strict=False))
    return sum(wanted[pair] for pair in wanted if pair in close) / (sum(wanted.values()) or 1.0)


def _evidence(each: Candidate) -> Evidence:
    return Evidence(
        quote=each.sentence.text,
        document=each.passage.document,
        start=each.passage.start + each.sentence.start,
        end=each.passage.start + each.sentence.end,
        passage=each.passage.id,
        heading=each.passage.heading,
    )
