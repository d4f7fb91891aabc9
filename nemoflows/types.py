"""The values that flow between steps and cross Flyte's edges.

All are frozen pydantic models. Offsets are in characters of the document's
decoded text (for HTML and PDF: of the text that was extracted from it, which
the index keeps), start inclusive and end exclusive.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

M = TypeVar("M", bound=BaseModel)
"""A user's own model."""


class Value(BaseModel):
    """A frozen value; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def model_json_schema(cls, *given: Any, **named: Any) -> dict[str, Any]:
        """Return the schema: Flyte asks for it wherever a value stands in a task's interface."""
        if given or named:
            return super().model_json_schema(*given, **named)
        schema: dict[str, Any] = json.loads(_schema(cls))
        return schema


@cache
def _schema(of: type[Value]) -> str:
    return json.dumps(super(Value, of).model_json_schema())


class Skipped(Value):
    """A file of the corpus, or a line of one, that was not indexed, and why."""

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
    notes: list[Skipped] = Field(default_factory=list)
    """At most 100 lines of files that were left out, and what had to be guessed to read a file."""


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
    also: list[str] = Field(default_factory=list)
    """At most 20 other places of the same text, as `document:start-end`."""


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
    """Keys of the model calls that found it; empty where the builtin tier alone did."""
    builtin: bool = False
    """Whether the builtin tier, which reads along, chose it beside a model or in its place."""

    def overlaps(self, other: Evidence) -> bool:
        """Return whether both hold some of the same text."""
        here = self.document == other.document
        return here and self.start < other.end and other.start < self.end


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
    nearest: list[Evidence] = Field(default_factory=list)
    """What comes nearest to the question in what was searched, and does not answer it."""
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
    low_confidence: str = ""
    """Why the next tier should look again; empty where every gate was passed."""
    budget_note: str = ""
    """Why the builtin tier stood in for a model, with the budget's numbers; empty otherwise."""
    stand_in: str = ""
    """What of a model's could not be used, so that the builtin tier's stands; empty otherwise."""
    not_found: NotFound | None = None
    """Set where the question is not covered; summary and evidence are then empty."""
    calls: list[str] = Field(default_factory=list)


ThinkingPolicy = Literal["auto", "off", "on"]
"""Whether models think: where a step gains by it, nowhere, or everywhere."""

_SPELLING = re.compile(
    r"(?P<endpoint>[a-z0-9][a-z0-9_-]*)"
    r"(?::(?P<name>[^@+#\s](?:[^@+#\r\n\t]*[^@+#\s])?)(?:@(?P<revision>[^+#\s]+))?"
    r"(?:\+(?P<lora>[^#\s](?:[^#\r\n\t]*[^#\s])?))?"
    r"(?:#(?P<label>\S+))?)?"
)

BUILTIN = "builtin"
"""The endpoint whose tier has no model."""


class ModelRef(Value):
    """A model at a named endpoint, spelled `endpoint:name[@revision][+lora][#label]`.

    It is written as its spelling and read from it. `builtin` alone is the tier without a model.
    """

    endpoint: str = BUILTIN
    name: str = ""
    """Hub id, served name or local path."""
    revision: str = ""
    lora: str = ""
    """LoRA adapter: name or path."""
    label: str = ""
    """Tells apart deployments behind one served name (precision, say); part of the identity."""

    @model_validator(mode="before")
    @classmethod
    def _from_spelling(cls, value: Any) -> Any:
        if isinstance(value, dict) and "adapter" in value:  # journals of versions below 0.2
            value = dict(value)
            value["lora"] = value.pop("adapter")
        if not isinstance(value, str):
            return value
        found = _SPELLING.fullmatch(value.strip())
        if found is None or (not found["name"] and found["endpoint"] != BUILTIN):
            raise ValueError(
                f"{value!r} is no model: write endpoint:name[@revision][+lora][#label], "
                "for example openai:gpt-6-luna or vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
            )
        return {key: text or "" for key, text in found.groupdict().items()}

    @property
    def is_builtin(self) -> bool:
        """Return whether this is the tier without a model: rules of the library's own answer."""
        return self.endpoint == BUILTIN

    @model_serializer
    def __str__(self) -> str:
        """Return the spelling."""
        marks = (("@", self.revision), ("+", self.lora), ("#", self.label))
        tail = "".join(mark + text for mark, text in marks if text)
        return f"{self.endpoint}:{self.name}{tail}" if self.name else self.endpoint


Tier = Literal["", "builtin", "efficient", "frontier"]
"""Who is asked: a run's two models, or none; empty is nobody."""


class Route(Value):
    """Which tier a step goes to; validates from the tier's name alone too."""

    tier: Literal["efficient", "cascade", "frontier"] = "cascade"
    """Only the efficient one, it and then the frontier for what fails a gate, or the frontier."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Confidence below which a cascade goes on; None takes the step's own."""

    @model_validator(mode="before")
    @classmethod
    def _from_tier(cls, value: Any) -> Any:
        return {"tier": value} if isinstance(value, str) else value


class Setting(Value):
    """Settings that travel through Flyte as text, which every way to start a workflow takes."""

    def __str__(self) -> str:
        """Return the shortest JSON that says the same."""
        return self.model_dump_json(exclude_defaults=True)


class Policy(Setting):
    """How a run asks models: one value that every task which asks takes.

    As text it is JSON or YAML, or the name of such a file where a command is typed. What a text
    leaves out is as NEMOFLOWS_POLICY, NEMOFLOWS_EFFICIENT and NEMOFLOWS_FRONTIER have it.
    """

    efficient: ModelRef = ModelRef()
    """The model that work starts on, as `endpoint:name`."""
    frontier: ModelRef = ModelRef()
    """The model of the steps that need it."""
    embedder: ModelRef | None = None
    """Model of vectors beside the lexical search, as `dense:model`; None leaves it lexical."""
    thinking: ThinkingPolicy = "auto"
    budget_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Most that the run's calls may cost; leave it out for no bound. What no longer fits is done
    without a model, or in a step of your own left with its reason; such a step has it whole."""
    cache_salt: str = ""
    """Another value asks again what is recorded."""
    max_resamples: int = Field(default=0, ge=0, le=100)
    """New draws where a reply could not be used; 0 replays the failure."""
    shadow_share: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """Share of the efficient tier's calls that the frontier is asked too: it measures the saving
    and what quality is given up."""
    routes: dict[str, Route] = Field(default_factory=dict)
    """Tier by step, for steps of your own; a cascade where none is named."""

    @field_validator("thinking", "cache_salt", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        """Read what YAML makes of `off` and of a number as what was written."""
        if isinstance(value, bool):
            return "on" if value else "off"
        return str(value) if isinstance(value, int) else value

    def __str__(self) -> str:
        """Return JSON that says the same anywhere: whole, for what is left out has a default."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False)

    def model(self, tier: Tier) -> ModelRef:
        """Return a tier's model."""
        return self.frontier if tier == "frontier" else self.efficient

    @property
    def next_model(self) -> ModelRef | None:
        """Return the model that failed work goes to; None where it is the one that failed."""
        return None if self.frontier == self.efficient else self.frontier

    def route(self, step: str) -> Route:
        """Return a step's route."""
        return self.routes.get(step, Route())
