"""The values that flow between steps and cross Flyte's edges.

All are frozen pydantic models. Offsets are in characters of the document's
decoded text (for HTML and PDF: of the text that was extracted from it, which
the index keeps), start inclusive and end exclusive.
"""

from __future__ import annotations

import re
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

M = TypeVar("M", bound=BaseModel)
"""A user's own model."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that reorder what follows them."""


def printable(text: str) -> str:
    """Return `text` as a terminal can show it without obeying it."""
    return _CONTROLS.sub("\ufffd", text)


class Value(BaseModel):
    """A frozen value; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Skipped(Value):
    """A file of the corpus that was not indexed, and why."""

    document: str
    reason: str


class Index(Value):
    """Where an index lies and what is in it: a few hundred bytes, whatever the corpus."""

    uri: str
    """Folder or object-store prefix that `nemoflows.search.open_index` takes."""
    corpus: str
    """The corpus as the user named it."""
    corpus_hash: str
    """SHA-256 over every document's name and content, and the indexing settings."""
    embedder: str = ""
    """Spelling of the model behind the vectors; empty where there is no dense leg."""
    n_documents: int
    n_passages: int
    n_indexed: int = 0
    """Documents that this build had to read anew; the others were there already."""
    skipped: list[Skipped] = Field(default_factory=list)
    """At most 100 of the files that could not be indexed."""
    n_skipped: int = 0


class Passage(Value):
    """A stretch of a document, as the search returns it."""

    id: str
    """`document:start-end`, unique within an index."""
    document: str
    """Path relative to the corpus; a table's row is `path#row`, rows from 0."""
    start: int
    end: int
    text: str
    heading: str = ""
    """Title and section headings above the passage, joined by ` > `."""
    score: float = 0.0
    """Relevance given by the search; only its order within one result means something."""


class Evidence(Value):
    """A verbatim quote: `text[start:end]` of the document is `quote`."""

    quote: str
    document: str
    start: int
    end: int
    passage: str = ""
    """Id of the passage it was found in."""
    heading: str = ""
    calls: list[str] = Field(default_factory=list)
    """Keys of the model calls that found it; empty on the embedded tier."""


class Span(Value):
    """Where a value of a record stands: `text[start:end]` of the document is `quote`."""

    field: str
    """Path of the value in the record, such as `lines[0].amount`."""
    quote: str
    document: str
    start: int
    end: int


class Extraction(Value, Generic[M]):
    """What one passage says about a record of a user's own model."""

    document: str
    passage: str
    """Id of the passage that was read."""
    value: M | None = None
    """None where the passage does not give a whole record; `problem` then says why."""
    spans: list[Span] = Field(default_factory=list)
    """One per value that was found; code has found each quote, letter by letter."""
    problem: str = ""
    """What went wrong, as data: empty where all went well."""
    calls: list[str] = Field(default_factory=list)
    """Keys of the model calls behind it; empty on the embedded tier."""


class NotFound(Value):
    """Nothing in the corpus covers the question; distinct from an error."""

    question: str
    reason: str
    queries: list[str] = Field(default_factory=list)
    """What was searched for, in order."""
    error: str = ""
    """Why calls failed, where that is the reason; empty where the corpus does not say."""
    gate: Literal["nothing", "coverage", "integrity"] = "nothing"
    """What was not passed: nothing was found, what was found covers too little, or replies that
    could not be used."""
    calls: list[str] = Field(default_factory=list)


class Finding(Value):
    """What one agent found about one question."""

    question: str
    summary: str = ""
    evidence: list[Evidence] = Field(default_factory=list)
    queries: list[str] = Field(default_factory=list)
    """What was searched for, in order; one per hop."""
    tier: Literal["efficient", "frontier"] = "efficient"
    """The tier that was to find it."""
    doubt: str = ""
    """Why the next tier should look again; empty where every gate was passed."""
    stopped: str = ""
    """Why the embedded tier stood in for a model, with the budget's numbers; empty otherwise."""
    not_found: NotFound | None = None
    """Set where the question is not covered; summary and evidence are then empty."""
    calls: list[str] = Field(default_factory=list)


ContextPolicy = Literal["retrieve", "pack", "auto"]
"""Whether an agent searches, reads the whole corpus, or whichever takes fewer tokens."""

ThinkingPolicy = Literal["auto", "off", "on"]
"""Whether models think: where a step gains by it, nowhere, or everywhere."""

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
    stopped: str = ""
    """Why the embedded tier stood in for a model, with the budget's numbers; empty otherwise."""
    calls: list[str] = Field(default_factory=list)


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
    stopped: str = ""
    """Why the embedded tier stood in for a model, with the budget's numbers; empty otherwise."""
    calls: list[str] = Field(default_factory=list)
    """Keys of every model call behind the answer, findings included."""

    def __str__(self) -> str:
        """Return the answer as a person reads it in a terminal."""
        lines = [self.text, ""] if self.text else []
        lines += [f"  (no quote supports: {text})" for text in self.unsupported]
        lines += [f"  (citation of nothing that was retrieved: {text})" for text in self.dropped]
        lines += [f"  (stopped early: {self.stopped})"] if self.stopped else []
        lines += [
            f"  [{c.number}] {c.document}:{c.start}-{c.end}\n      “{' '.join(c.quote.split())}”"
            for c in self.citations
        ]
        return printable("\n".join(lines))

    def __repr__(self) -> str:
        """Return one short line: flytekit prints a workflow's outputs by their repr."""
        return f"Answer({self.question[:60]!r}, {len(self.citations)} citations)"


_SPELLING = re.compile(
    r"(?P<endpoint>[a-z0-9][a-z0-9_-]*)"
    r"(?::(?P<name>[^@+#\s](?:[^@+#\r\n\t]*[^@+#\s])?)(?:@(?P<revision>[^+#\s]+))?"
    r"(?:\+(?P<adapter>[^#\s](?:[^#\r\n\t]*[^#\s])?))?"
    r"(?:#(?P<label>\S+))?)?"
)


class ModelRef(Value):
    """A model at a named endpoint, spelled `endpoint:name[@revision][+adapter][#label]`.

    Validates from its spelling too, so that `{"efficient": "vllm:org/model"}` works wherever
    JSON is taken. `embedded` alone is the tier without a model.
    """

    endpoint: str = "embedded"
    name: str = ""
    """Hub id, served name or local path."""
    revision: str = ""
    adapter: str = ""
    """LoRA adapter: name or path."""
    label: str = ""
    """Tells apart deployments behind one served name (precision, say); part of the identity."""

    @model_validator(mode="before")
    @classmethod
    def _from_spelling(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = _SPELLING.fullmatch(value.strip())
        if found is None or (not found["name"] and found["endpoint"] != "embedded"):
            raise ValueError(
                f"{value!r} is no model: write endpoint:name[@revision][+adapter][#label], "
                "for example openai:gpt-6-luna or vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
            )
        return {key: text or "" for key, text in found.groupdict().items()}

    def __str__(self) -> str:
        """Return the spelling."""
        marks = (("@", self.revision), ("+", self.adapter), ("#", self.label))
        tail = "".join(mark + text for mark, text in marks if text)
        return f"{self.endpoint}:{self.name}{tail}" if self.name else self.endpoint


class Tiers(Value):
    """The two models of a run: work starts on the efficient one."""

    efficient: ModelRef = ModelRef()
    frontier: ModelRef = ModelRef()
