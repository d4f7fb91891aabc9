"""The sentences that answer a question, verbatim."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from nemoflows.engines.builtin.candidates import Candidate, candidates
from nemoflows.engines.builtin.weights import Asked, Bag, ask, coverage, loose_coverage
from nemoflows.language.answer_types import AnswerType, answers
from nemoflows.language.boxes import asks_for_ticked
from nemoflows.language.terms import shares, terms
from nemoflows.language.titles import subjects
from nemoflows.types import Evidence, Passage

COVERED = 0.45
"""Least share of what the question needs that the best sentence's passage must hold."""
COVERED_BRIEF = {1: 0.9, 2: 0.6}
"""The same for questions of one or two terms, where half of it would be another subject."""
NAMED = 0.5
"""Least share of the question's names, numbers and identifiers that it must hold."""
SAID = 0.2
"""Least share of what the question needs that the best sentence itself must say."""
HEADED = 0.8
"""The same of the heading above a sentence that need not say any of it itself."""
CODE_SAYS = 0.6
"""Least share that code must say to be quoted by itself."""
SUPPORTS = 0.3
"""Least share of what the question needs that the passage of a further sentence must hold."""
AMONG = 4
"""How many of the best sentences may be the one that covers the question."""

_WEIGHTS = {
    "covers": 4.0, "passage": 2.8, "rank": 2.5, "focus": 2.2, "grams": 2.0, "before": 1.8,
    "carried": 3.0, "answers": 1.6, "pairs": 1.3,
}  # fmt: skip
"""Rounded weights of a conditional logit over the sentences that a search brought.

Source: fitted on xquad_en's open part; each half's fit, tried on the other half, puts a sentence
with the answer first for 74 % and 77 % of the questions.
"""
_PROCEDURE = re.compile(
    r"\bhow (?:do|can|to|should|must|would)\b|\b(?:steps?|procedure|instructions?|recipe)\b",
    re.IGNORECASE,
)
STEPS = 2.0
"""What a whole list gains where a procedure is asked for."""
_PRONOUN = re.compile(r"\W*(?:It|He|She|They|This|These|Its|His|Her|Their)\b")
"""A sentence's first word that stands for what the sentence before it speaks of."""
TORN, LEADS_ON, ASKS = 1.5, 1.0, 8.0
"""What a sentence loses that the passage's edge cuts, that promises what is not quoted, or that
asks itself."""
EXACT = 3.0
"""What a sentence gains that holds the names with signs as they are asked for: 1.10 is not 10.1."""
BOXED = 4.0
"""What a box gains whose label the question holds whole."""
_OF_MAIL = re.compile(
    r"\b(?:e-?mails?|mails?|messages?|sen[dt]s?|senders?|wr[io]tes?|written|subjects?|recipients?|"
    r"receives?|received|cc|to whom)\b",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:not|never|cannot|nobody|nothing|none|without)\b|n['\u2019]t\b", re.IGNORECASE
)
DENIES, DENIED = 1.5, 0.05
"""What a sentence that denies gains where the question does, and loses where it does not."""
SUBJECT, OPENS = 1.5, 1.0
"""What a sentence gains whose document the question names, and what its first one does where the
question is what that is."""


def extract(question: str, passages: Sequence[Passage], *, k: int = 4) -> list[Evidence]:
    """Return the `k` best sentences over all passages, best first; `[]` when none covers it.

    Covered means: the passage of one of the best sentences, with its headings, holds `COVERED` of
    what the question needs and `NAMED` of its names, and the sentence itself says `SAID` of it.
    Where the question names a document, only what speaks of it is served. A mail's head, what it
    quotes of another, and code, by whole blocks, are quoted only where nothing else covers the
    question. What stands on every page of a site is
    quoted only where nothing else answers, and it holds what kind of answer is asked for.

    Args:
        question: What is asked.
        passages: As the search ranked them.
        k: Sentences at most.
    """
    procedure = _PROCEDURE.search(question) is not None
    found = [each for each in candidates(passages) if procedure or each.step != "list"]
    if any(each.ticked is not None for each in found):
        asked_for = {None, asks_for_ticked(question)}
        found = [each for each in found if each.ticked in asked_for]
    said = [each.bag.terms for each in found if each.sentence.kind != "code"]
    asked = ask(question, said, subjects=_named(question, passages))
    ordered = sorted(found, key=lambda each: -_score(asked, each))
    scored = [each for each in ordered if not each.furniture]
    for among in _among(asked, scored):
        ranked = [each for each in among if _about(asked, each)]
        if asked.measure:
            ranked = sorted(ranked, key=lambda each: not _measured(asked, each))
        if any(_covers(asked, each) for each in ranked[:AMONG]):
            kept = _kept(asked, ranked, k)
            return [_evidence(each) for each in (_in_order(kept) if procedure else kept)]
    return [_evidence(each) for each in ordered if _is_sites_own(asked, each)][:1]


def _among(asked: Asked, scored: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Yield what may answer: where no mail is asked about, first what the mail itself says."""
    prose = [each for each in scored if each.sentence.kind != "code"]
    if _OF_MAIL.search(asked.text) is None:
        yield [each for each in prose if not each.around_mail]
    yield prose
    if asked.kind != "definition":
        yield [each for each in scored if each.sentence.kind == "code"]


def _is_sites_own(asked: Asked, each: Candidate) -> bool:
    """Tell whether what stands on every page says what is asked itself, as an address does."""
    kinds: list[AnswerType] = ["place", "name"] if asked.kind == "place" else [asked.kind]
    if not each.furniture or not any(answers(k, asked.text, each.sentence.text) for k in kinds):
        return False
    enough = COVERED_BRIEF.get(asked.n_words(asked.needs), COVERED)
    return _covers(asked, each) and coverage(asked.needs, each.bag) >= enough


def _in_order(kept: Sequence[Candidate]) -> list[Candidate]:
    """Put the steps of one passage in the passage's order, where the best of them stands."""
    steps = [each for each in kept if each.step and each.passage.id == kept[0].passage.id]
    ordered = iter(sorted(steps, key=lambda each: each.sentence.start))
    return [next(ordered) if each in steps else each for each in kept]


def _named(question: str, passages: Sequence[Passage]) -> set[str]:
    """Return the question's terms that are the outermost name of a passage's document."""
    asked = set(terms(question))
    outermost = (names[0] for each in passages if (names := subjects(each.document)))
    return {term for name in outermost if name <= asked for term in name}


def _is_subject(asked: Asked, each: Candidate) -> bool:
    """Tell whether the document's path names what is asked about."""
    return any(name <= asked.needs.keys() for name in subjects(each.passage.document)[:1])


def _about(asked: Asked, each: Candidate) -> bool:
    """Tell whether it stands where a document that the question names is spoken of."""
    if each.sentence.kind == "code" and coverage(asked.needs, each.bag) < CODE_SAYS:
        return False
    return not asked.subjects or not asked.subjects.isdisjoint(each.around.terms)


def _measured(asked: Asked, each: Candidate) -> bool:
    """Tell whether a sentence has the measure that is asked for, of what is asked about."""
    text = each.sentence.text
    has_one = answers(asked.kind, asked.text, text) and not asked.other(text)
    return has_one and _covers(asked, each)


def _covers(asked: Asked, each: Candidate) -> bool:
    """Tell whether the sentence, where it stands, is about what is asked.

    Where the question names a document, what it asks about that document counts by itself.
    """
    measured = any(each.around.near(term) for term in asked.measure)
    if asked.measure and not measured and not answers(asked.kind, asked.text, each.sentence.text):
        return False
    if _is_asked_box(asked, each) and coverage(asked.needs, each.around) >= SUPPORTS:
        return True
    beyond = _of(asked.needs, asked.needs.keys() - asked.subjects)
    names = _of(asked.needs, asked.names - asked.subjects)
    if not beyond:
        return each.opens or coverage(asked.needs, each.bag) >= SAID
    return (
        loose_coverage(beyond, each.around, each.bag)
        >= COVERED_BRIEF.get(asked.n_words(beyond), COVERED)
        and (not names or coverage(names, each.around, each.bag) >= NAMED)
        and (coverage(beyond, each.bag) >= SAID or _is_headed(asked, each, beyond))
    )


def _is_headed(asked: Asked, each: Candidate, needs: Mapping[str, float]) -> bool:
    """Tell whether its heading says what is asked, and it may be what is answered there."""
    heading = each.passage.heading
    if coverage(needs, Bag(heading)) < HEADED:
        return False
    asks = heading.rstrip().endswith("?") or asked.kind in {"", "definition"}
    return asks or answers(asked.kind, asked.text, each.sentence.text)


def _is_asked_box(asked: Asked, each: Candidate) -> bool:
    """Tell whether a box is one of those that the question names by what they are about."""
    label = each.before.terms if each.ticked is not None else frozenset()
    return bool(label) and all(map(Bag(asked.text).near, label))


def _of(weights: Mapping[str, float], kept: set[str] | frozenset[str]) -> dict[str, float]:
    return {term: weight for term, weight in weights.items() if term in kept}


def _kept(asked: Asked, ranked: Sequence[Candidate], k: int) -> list[Candidate]:
    """Return the best of what supports the answer, nothing twice."""
    kept: dict[str, Candidate] = {}
    subject = _is_subject(asked, ranked[0])
    if ranked[0].ticked is not None:
        label = ranked[0].before.order
        same = [each for each in ranked if each.ticked is not None and each.before.order == label]
        ranked = sorted(same, key=lambda each: (each.passage.id, each.sentence.start))
    for each in ranked:
        if (subject and not _is_subject(asked, each)) or (kept and each.torn):
            continue
        if any(_holds(other, each) for other in kept.values()):
            continue
        if coverage(asked.needs, each.around) >= SUPPORTS:
            kept.setdefault(" ".join(each.bag.order), each)
    return list(kept.values())[:k]


def _holds(other: Candidate, each: Candidate) -> bool:
    """Tell whether a stretch that is quoted already contains this one."""
    a, b = other.sentence, each.sentence
    return other.passage.id == each.passage.id and a.start <= b.start and b.end <= a.end


def features(asked: Asked, each: Candidate) -> dict[str, float]:
    """Return what tells how well one sentence answers, each 0 to 1."""
    covered = coverage(asked.weights, each.bag)
    before = coverage(asked.weights, each.bag, each.before) - covered
    return {
        "covers": covered,
        "grams": _grams(asked, each.bag),
        "rank": 1 / (1 + each.rank),
        "passage": coverage(asked.weights, each.around),
        "before": before,
        "carried": before * bool(_PRONOUN.match(each.sentence.text)),
        "answers": float(answers(asked.kind, asked.text, each.sentence.text)),
        "pairs": _pairs(asked, each.bag.order),
        "focus": len(each.bag.terms & asked.weights.keys()) / len(each.bag.terms),
    }


def _score(asked: Asked, each: Candidate) -> float:
    """Return how well one sentence answers; only the order means something."""
    worth = sum(_WEIGHTS[name] * value for name, value in features(asked, each).items())
    subject = _is_subject(asked, each)
    worth += SUBJECT * subject + OPENS * (subject and each.opens and asked.kind == "definition")
    if asked.exact:
        held = [(n in each.bag.terms) + (n in each.around.terms) for n in asked.exact]
        worth += EXACT * sum(held) / len(held) / 2
    boxed = _is_asked_box(asked, each) or (each.ticked is not None and asked.state)
    worth += STEPS * (each.step == "list") + BOXED * boxed
    if _DENIES.search(asked.text) is None:
        worth -= DENIED * (_DENIES.search(each.sentence.text) is not None)
    else:
        worth += DENIES * (_DENIES.search(each.sentence.text) is not None)
    said = each.sentence.text.rstrip("*_\"'`) ")
    leads_on = said.endswith(":") or each.sentence.kind == "heading"
    return worth - LEADS_ON * leads_on - ASKS * said.endswith("?") - TORN * each.torn


def _grams(asked: Asked, bag: Bag) -> float:
    """Return the share of the question's four-letter stretches: they forgive endings and typing."""
    if shares(asked.text):  # its terms are grams themselves
        return coverage(asked.weights, bag)
    wanted, held = (
        Counter(line[n : n + 4] for n in range(len(line) - 3))
        for line in (" ".join(asked.weights), " ".join(bag.order))
    )
    return sum((wanted & held).values()) / max(1, sum(wanted.values()))


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
