"""An answer composed of cited sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from nemoflows.engines.builtin.prose import readable
from nemoflows.engines.builtin.weights import Bag, ask, coverage
from nemoflows.language.answer_types import answers
from nemoflows.language.boxes import BOX
from nemoflows.language.sentences import sentences
from nemoflows.types import Evidence, Finding

PER_FINDING = 3
"""Sentences that one finding gives: the answer and two in its support."""
SUPPORT = 0.6
"""A supporting sentence covers at least this share of what the finding's best one covers."""
ALIKE = 0.7
"""Share of terms in common from which two sentences say the same."""

_DOTTED = re.compile(r"[\w+-]+(?:\.[\w+-]+)+")
"""The heading of a definition in source code."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence and the numbers of the evidence that says it."""

    text: str
    terms: frozenset[str]
    numbers: list[int] = field(default_factory=list)
    name: str = ""
    """The definition in source code that it documents."""

    def says(self, bag: Bag, name: str) -> bool:
        """Tell whether another text of the same definition says the same, by its terms."""
        either = max(1, len(self.terms | bag.terms))
        return self.name == name and len(self.terms & bag.terms) >= ALIKE * either


def synthesise(question: str, findings: Sequence[Finding]) -> str:
    """Return a readable answer whose sentences carry `[n]` marks; "" when nothing was found.

    `n` is the position, from 1, of the evidence in all findings' evidence in order; the same
    stretch of the same document keeps its first number.
    """
    return "\n\n".join(
        " ".join(
            f"{said.text} {''.join(f'[{number}]' for number in said.numbers)}" for said in each
        )
        for each in compose(question, findings)
    )


def compose(question: str, findings: Sequence[Finding]) -> list[list[Statement]]:
    """Return the answer's paragraphs, one per finding in their order, its best sentence first.

    A sentence that another one says already is dropped, and its number goes to that one.
    """
    numbers: dict[tuple[str, int, int], int] = {}
    for number, piece in enumerate((p for finding in findings for p in finding.evidence), 1):
        numbers.setdefault(_place(piece), number)
    said: list[Statement] = []
    paragraphs = [_paragraph(question, finding, numbers, said) for finding in findings]
    return [paragraph for paragraph in paragraphs if paragraph]


def _place(piece: Evidence) -> tuple[str, int, int]:
    return piece.document, piece.start, piece.end


def _paragraph(
    question: str,
    finding: Finding,
    numbers: dict[tuple[str, int, int], int],
    said: list[Statement],
) -> list[Statement]:
    """Return a finding's statements; what `said` holds already only adds its number there."""
    bags = [Bag(piece.quote) for piece in finding.evidence]
    asked = ask(finding.question or question, [bag.terms for bag in bags])
    shares = [coverage(asked.needs, bag) for bag in bags]
    least = max(SUPPORT * max(shares, default=0.0), 0.01)
    paragraph: list[Statement] = []
    for rank, (piece, bag) in enumerate(zip(finding.evidence, bags, strict=True)):
        number, name = numbers[_place(piece)], _definition(piece)
        same = next((other for other in said if other.says(bag, name)), None)
        if same is not None:
            same.numbers.extend([number] if number not in same.numbers else [])
            continue
        enough = len(paragraph) < PER_FINDING and shares[rank] >= least
        enough = enough or BOX.match(piece.quote) is not None  # all that is ticked is the answer
        alone = asked.kind == "definition" and not answers(asked.kind, asked.text, piece.quote)
        if rank == 0 or (enough and not alone and not _has_code(finding.evidence[0], piece)):
            paragraph.append(Statement(_named(piece, name, paragraph), bag.terms, [number], name))
            said.append(paragraph[-1])
    return paragraph


def _has_code(*pieces: Evidence) -> bool:
    """Tell whether any quote begins as code, which stands beside nothing else."""
    begins = (sentences(piece.quote)[:1] for piece in pieces)
    return any(first.kind == "code" for found in begins for first in found)


def _named(piece: Evidence, name: str, paragraph: Sequence[Statement]) -> str:
    """Return a quote as it reads, after the name of the definition that it documents."""
    text = readable(piece.quote)
    told = name in text or any(f"`{name}`" in statement.text for statement in paragraph)
    return text if told or text.startswith("`") else f"`{name}`: {text}"


def _definition(piece: Evidence) -> str:
    """Return the name of the definition in source code that a quote stands in; "" for none."""
    if not _DOTTED.fullmatch(piece.heading) or piece.document.endswith(piece.heading):
        return ""
    names = [name for name in piece.heading.split(".") if not name.startswith("_")]
    return names[-1] if names else ""
