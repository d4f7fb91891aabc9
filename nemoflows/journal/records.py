"""What the journal holds: records of calls, and lines about attempts and replays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import AliasChoices, ConfigDict, Field

from nemoflows.calls import Answered, Attempt, Price, Request, Unusable, Usage
from nemoflows.calls.values import REFUSED
from nemoflows.types import Value

NOT_SENT = "unsent"
"""How an attempt ended that was announced and never made."""


class Recorded(Value):
    """A paid call as a replay and the ledger need it; what else a record holds is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    purpose: str
    model: str
    """The model as it was asked for, in its spelling."""
    outcome: Answered | Unusable = Field(discriminator="kind")
    usd: Price
    """Price at the time of the call; None where nobody knows."""
    worst_usd: Price = None
    """The most that it can have cost, where `usd` is None."""
    started_s: float
    ended_s: float
    run: str = ""
    """The run that paid for it."""
    crc: str = Field(default="", exclude=True)
    """Checksum of the rest, written by the journal; left here by who mends a record by hand."""
    prompt_bytes: int = 0
    """Length of what was asked, whatever a tokeniser makes of it; 0 where nobody noted it."""

    @property
    def reason(self) -> str:
        """Return why the reply could not be used; empty where it could."""
        return self.outcome.reason if isinstance(self.outcome, Unusable) else ""

    @property
    def usage(self) -> Usage:
        """Return the tokens that the reply took; zeros where the provider did not say."""
        return self.outcome.reply.usage or Usage()


class Record(Recorded):
    """A paid call, whole: enough to replay it, price it and show it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: Request
    attempts: list[Attempt] = Field(default_factory=list)
    writer: str = ""
    """The process that wrote it."""


def without_blocks(record: Record) -> Record:
    """Return a record without what its provider's blocks hold, which no JSON can be made of."""
    reply = record.outcome.reply
    if not reply.blocks:
        raise ValueError(f"the record {record.key} cannot be written as JSON")
    bare = reply.model_copy(update={"blocks": []})
    return record.model_copy(update={"outcome": record.outcome.model_copy(update={"reply": bare})})


class _Line(Value):
    """A line of JSON; fields that another version wrote are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read a line, written in this version or another.

        Raises:
            ValidationError: It is no such line.
        """
        return cls.model_validate_json(data)


class Receipt(_Line):
    """What a process used a call for; the rest of it is in the record."""

    key: str
    replayed: bool
    at_s: float
    """Unix time."""
    first_key: str = Field(default="", validation_alias=AliasChoices("first_key", "step"))
    """Key of the first request that was asked for the same value; `step` in older lines."""
    task: str = ""
    tier: str = ""
    escalated: bool = False
    """Whether it looked again at what a cheaper tier gave up or was not sure of."""
    reason: str = ""
    """Why its reply could not be used, where only reading it showed that."""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read a line; an older version's has no `escalated`, and one task that meant it."""
        line = super().read(data)
        if "escalated" in line.model_fields_set:
            return line
        return line.model_copy(update={"escalated": line.task == "escalate"})


class Intent(_Line):
    """A line about one attempt: that it is about to be made, or how it ended."""

    kind: Literal["begun", "ended"]
    key: str
    number: int
    """Of the attempt within its call, from 1."""
    at_s: float
    """Unix time."""
    call: int = 0
    """Which of its process's calls: one key may be asked again after it was not answered."""
    purpose: str = ""
    model: str = ""
    status: str = ""
    """Of an attempt that ended: `ok` once its reply is recorded, else the error and its code."""
    scope: str = ""
    """What tells the work that it belongs to from other work of the run."""
    reserved_usd: float | None = None
    """The most that the attempt can cost; None where nobody knows."""


class InDoubt(Value):
    """An attempt that was begun and of which nobody knows whether the provider bills it."""

    key: str
    number: int
    purpose: str
    model: str
    writer: str
    """The process that made it."""
    at_s: float
    """Unix time at which it began."""
    why: str
    """`killed` where the process ended first, else the error that broke the attempt off."""
    scope: str = ""
    reserved_usd: float | None = None
    """The most that it can have cost; None where nobody knows."""


def is_in_doubt(status: str) -> bool:
    """Return whether an attempt that ended so may be billed without a record.

    A refusal carries a status code; a connection that broke, a body that cannot be read and a
    deadline carry none, and a provider may bill for what it wrote meanwhile.
    """
    return status not in {"ok", NOT_SENT} and REFUSED.fullmatch(status) is None


def in_doubt(writer: str, lines: Iterable[Intent], answered: set[str]) -> list[InDoubt]:
    """Return the attempts of one process that may have been billed without a record.

    Args:
        writer: The process.
        lines: Its intents, in the order in which they were written.
        answered: Keys whose record this very process wrote: their last attempt is accounted for.
    """
    begun: dict[tuple[str, int, int], Intent] = {}
    why: dict[tuple[str, int, int], str] = {}
    last: dict[str, tuple[str, int, int]] = {}
    for line in lines:
        place = (line.key, line.call, line.number)
        if line.kind == "begun":
            begun[place], why[place], last[line.key] = line, "killed", place
        elif is_in_doubt(line.status):
            why[place] = line.status
        else:
            begun.pop(place, None)
            why.pop(place, None)
            if last.get(line.key) == place:
                del last[line.key]
    return [
        InDoubt(
            key=line.key,
            number=line.number,
            purpose=line.purpose,
            model=line.model,
            writer=writer,
            at_s=line.at_s,
            why=why[place],
            scope=line.scope,
            reserved_usd=line.reserved_usd,
        )
        for place, line in begun.items()
        if not (line.key in answered and place == last.get(line.key))
    ]
