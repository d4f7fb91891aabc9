"""The values of the question flow, from plan to answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nemoflows.errors import one_line, printable
from nemoflows.types import Evidence, Finding, NotFound, Passage, Value

NAME_A_MODEL = """--policy '{"efficient": "ENDPOINT:MODEL", "frontier": "ENDPOINT:MODEL"}'"""

ContextPolicy = Literal["retrieve", "pack", "auto"]
"""Whether an agent searches, reads the whole corpus, or whichever takes fewer tokens."""

CONTEXT_TOKENS = 131_072
"""Context that a packed corpus may fill unless the user says otherwise."""


class ResearchPlan(Value):
    """The sub-questions that together cover a question; one agent each."""

    question: str
    questions: list[str]
    k: int = Field(default=8, ge=1)
    """Passages in an agent's context."""
    hops: int = Field(default=2, ge=1)
    """Searches that an agent may make."""
    context_policy: ContextPolicy = "retrieve"
    """What an agent reads: what it finds, or the whole corpus."""
    context_tokens: int = Field(default=CONTEXT_TOKENS, ge=1)
    """Most tokens, by our estimate, that a packed corpus may take."""
    budget_note: str = ""
    """Why the builtin tier stood in for a model, with the budget's numbers; empty otherwise."""
    stand_in: str = ""
    """Why the question itself is the plan; empty where a model or its rules made one."""
    calls: list[str] = Field(default_factory=list)


class Passages(Value):
    """What the search found for a question, best first."""

    question: str
    passages: list[Passage] = Field(default_factory=list)


class Quotes(Value):
    """The verbatim quotes that help to answer a question, the most useful first."""

    question: str
    evidence: list[Evidence] = Field(default_factory=list)
    budget_note: str = ""
    """Why the builtin tier stood in for a model, with the budget's numbers; empty otherwise."""
    stand_in: str = ""
    """What of a model's could not be used, so that the builtin tier's stands; empty otherwise."""
    calls: list[str] = Field(default_factory=list)


class Research(Value):
    """What the agents found, question by question, what was not found included."""

    plan: ResearchPlan
    findings: list[Finding] = Field(default_factory=list)

    @property
    def calls(self) -> list[str]:
        """Return the keys of every call so far, in one order whatever ended first."""
        every = {key for finding in self.findings for key in finding.calls}
        return sorted({*self.plan.calls, *every})


class Citation(Value):
    """What a `[number]` in an answer points to, resolved by code and not by a model."""

    number: int
    document: str
    start: int
    end: int
    quote: str
    heading: str = ""


class Answer(Value):
    """An answer whose sentences carry `[number]` marks that resolve to citations."""

    question: str
    text: str
    citations: list[Citation] = Field(default_factory=list)
    unsupported: list[str] = Field(default_factory=list)
    """Sentences of the text that carry no citation."""
    dropped: list[str] = Field(default_factory=list)
    """Citations that the model wrote and that resolve to nothing it was shown."""
    not_found: list[NotFound] = Field(default_factory=list)
    """Parts of the question that nothing covers."""
    budget_note: str = ""
    """Why the builtin tier stood in for a model, with the budget's numbers; empty otherwise."""
    stand_in: str = ""
    """What of a model's could not be used, so that the builtin tier's stands; empty otherwise."""
    calls: list[str] = Field(default_factory=list)
    """Keys of every model call behind the answer, those that were of no use included."""
    findings: list[Finding] = Field(default_factory=list)
    """What it was written from."""
    plan: ResearchPlan | None = None
    """What the findings were looked for by; None where somebody gave findings of their own."""

    def __str__(self) -> str:
        """Return the answer as a person reads it in a terminal."""
        lines = [self.text, ""] if self.text else []
        about = [*self.doubts, *(f"no quote supports: {text}" for text in self.unsupported)]
        about += [f"citation of nothing that was retrieved: {text}" for text in self.dropped]
        about += [f"stopped early: {self.budget_note}"] if self.budget_note else []
        lines += [f"  ({one_line(text)})" for text in about]
        shown: list[tuple[str, Citation | Evidence]] = [
            *((f"[{each.number}]", each) for each in self.citations),
            *(("nearest:", each) for each in self.nearest),
        ]
        for mark, each in shown:
            lines.append(f"  {mark} {one_line(each.document)}:{each.start}-{each.end}")
            lines.append(f"      “{' '.join(each.quote.split())}”")
        lines += [f"  next: {self.next_step}"] if self.next_step else []
        return printable("\n".join(lines))

    @property
    def doubts(self) -> list[str]:
        """Return why the answer is less sure than it reads."""
        several = len(self.findings) > 1
        doubts = [
            f"low confidence{f' on {f.question!r}' if several else ''}: {f.low_confidence}"
            for f in self.findings
            if f.low_confidence
        ]
        plan = [self.plan.stand_in] if self.plan and self.plan.stand_in else []
        return [*plan, *([self.stand_in] if self.stand_in else []), *doubts]

    @property
    def nearest(self) -> list[Evidence]:
        """Return what comes nearest to the question, where nothing answers it."""
        missing = [] if self.citations else self.not_found
        return [piece for each in missing for piece in each.nearest]

    @property
    def next_step(self) -> str:
        """Return what to do where nothing was found, or what was found is in doubt."""
        if self.calls or not (self.not_found or self.doubts):
            return ""
        return f"no model was asked; name one: {NAME_A_MODEL}"

    def __repr__(self) -> str:
        """Return one short line: flytekit prints a workflow's outputs by their repr."""
        return f"Answer({self.question[:60]!r}, {len(self.citations)} citations)"
