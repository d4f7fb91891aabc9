"""An answer composed of cited sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from nemoflows.engines.embedded.prose import alike, readable
from nemoflows.engines.embedded.weights import Asked, Bag, ask, coverage
from nemoflows.language.answer_types import answers
from nemoflows.language.sentences import sentences
from nemoflows.types import Evidence, Finding

_DOTTED = re.compile(r"[\w+-]+(?:\.[\w+-]+)+")
"""The heading of a definition in source code."""
PER_FINDING = 3
"""Sentences that one finding gives: the answer and two in its support."""
SUPPORT = 0.6
"""A supporting sentence covers at least this share of what the finding's best one covers."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence and the numbers of the evidence that says it."""

    text: str
    bag: Bag
    numbers: list[int] = field(default_factory=list)
    name: str = ""
    """The definition in source code that it documents."""


def synthesise(question: str, findings: Sequence[Finding]) -> str:
    """Return a readable answer whose sentences carry `[n]` marks; "" when nothing was found.

    `n` is the position, from 1, of the evidence in all findings' evidence in order; the same
    stretch of the same document keeps its first number.
    """
    paragraphs = compose(question, findings)
    return "\n\n".join(" ".join(map(_marked, statements)) for statements in paragraphs)


def compose(question: str, findings: Sequence[Finding]) -> list[list[Statement]]:
    """Return the answer's paragraphs, one per finding in their order, its best sentence first.

    A sentence that another one says already is dropped, and its number goes to that one.
    """
    numbers = _numbers([piece for finding in findings for piece in finding.evidence])
    said: list[Statement] = []
    paragraphs = []
    for finding in findings:
        bags = [Bag(piece.quote) for piece in finding.evidence]
        asked = ask(finding.question or question, [bag.terms for bag in bags])
        paragraphs.append(_paragraph(asked, finding.evidence, bags, numbers, said))
    return [paragraph for paragraph in paragraphs if paragraph]


def _numbers(evidence: Sequence[Evidence]) -> dict[tuple[str, int, int], int]:
    found: dict[tuple[str, int, int], int] = {}
    for number, piece in enumerate(evidence, 1):
        found.setdefault(_place(piece), number)
    return found


def _place(piece: Evidence) -> tuple[str, int, int]:
    return piece.document, piece.start, piece.end


def _nearest(asked: Asked, bags: Sequence[Bag]) -> float:
    return max((coverage(asked.needs, bag) for bag in bags), default=0.0)


def _paragraph(
    asked: Asked,
    evidence: Sequence[Evidence],
    bags: Sequence[Bag],
    numbers: dict[tuple[str, int, int], int],
    said: list[Statement],
) -> list[Statement]:
    """Return a finding's statements; what `said` holds already only adds its number there."""
    least = SUPPORT * _nearest(asked, bags)
    paragraph: list[Statement] = []
    for rank, (piece, bag) in enumerate(zip(evidence, bags, strict=True)):
        number = numbers[_place(piece)]
        name = _definition(piece)
        same = next((o for o in said if o.name == name and alike(o.bag, bag)), None)
        if same is not None:
            same.numbers.extend([number] if number not in same.numbers else [])
        elif rank == 0 or (
            len(paragraph) < PER_FINDING
            and coverage(asked.needs, bag) >= max(least, 0.01)
            and _adds(asked, piece, evidence[0])
        ):
            statement = Statement(_named(piece, paragraph), bag, [number], name)
            said.append(statement)
            paragraph.append(statement)
    return paragraph


def _adds(asked: Asked, piece: Evidence, best: Evidence) -> bool:
    """Tell whether a further quote is worth its place: code only beside nothing else."""
    if asked.kind == "definition" and answers(asked.kind, asked.text, piece.quote) < 1:
        return False
    found, first = sentences(piece.quote), sentences(best.quote)
    return not (found and found[0].kind == "code") and not (first and first[0].kind == "code")


def _named(piece: Evidence, paragraph: Sequence[Statement]) -> str:
    """Return a quote as it reads, after the name of the definition that it documents."""
    text, name = readable(piece.quote), _definition(piece)
    said = name in text or any(f"`{name}`" in statement.text for statement in paragraph)
    return text if said or text.startswith("`") else f"`{name}`: {text}"


def _definition(piece: Evidence) -> str:
    """Return the name of the definition in source code that a quote stands in; "" for none."""
    if not _DOTTED.fullmatch(piece.heading) or piece.document.endswith(piece.heading):
        return ""
    names = [name for name in piece.heading.split(".") if not name.startswith("_")]
    return names[-1] if names else ""


def _marked(statement: Statement) -> str:
    return f"{statement.text} {''.join(f'[{number}]' for number in statement.numbers)}"
