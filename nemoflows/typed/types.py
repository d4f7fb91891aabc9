"""What a step of a user's own says about one row: a value of the user's type, or a problem."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import Field

from nemoflows.types import Tier, Value

V = TypeVar("V")
"""A user's own type: a pydantic model, text, or a label."""


class Span(Value):
    """Where a value of a record stands: `text[start:end]` of the document is `quote`."""

    field: str
    """Path of the value in the record, such as `lines[0].amount`."""
    quote: str
    document: str
    start: int
    end: int


class Result(Value, Generic[V]):
    """What a step says about one row."""

    value: V | None = None
    """None where there is no usable reply; `problem` then says why."""
    problem: str = ""
    """What went wrong, as data: empty where all went well."""
    low_confidence: str = ""
    """Why the next tier should look again: what the user's check or our gate says."""
    confidence: float | None = None
    """Share of the samples that agree with a label, 0 to 1; None where nothing measures it."""
    tier: Tier = ""
    """The tier that the value is from."""
    calls: list[str] = Field(default_factory=list)
    """Keys of the model calls behind it; empty on the builtin tier."""

    @property
    def failed(self) -> bool:
        """Return whether the next tier should look."""
        return self.value is None or bool(self.low_confidence)


class Extraction(Result[V], Generic[V]):
    """What one passage says about a record of a user's own model."""

    document: str = ""
    passage: str = ""
    """Id of the passage that was read; both are empty before the first tier has looked."""
    spans: list[Span] = Field(default_factory=list)
    """One per value that was found; code has found each quote, letter by letter."""


def better(first: Result[Any], second: Result[Any]) -> Result[Any]:
    """Return the next tier's result where it has one, else the first; with the calls of both.

    A model may never make things worse: what a tier found stays where the next one finds nothing,
    or has no model.
    """
    update: dict[str, Any] = {"calls": list(dict.fromkeys([*first.calls, *second.calls]))}
    was_asked = first.value is not None or bool(first.problem)
    is_guess = second.tier == "builtin" and first.value is not None
    if (second.value is not None and not is_guess) or not was_asked:
        return second.model_copy(update=update)
    if second.problem != first.problem:
        told = [first.problem, f"the next tier: {second.problem}"]
        update["problem"] = "; ".join(filter(None, told))
    return first.model_copy(update=update)
