"""What the journal holds: records of calls, and lines about attempts and replays."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, Field

from nemoflows.calls import Answered, Attempt, Request, Unusable, Usage
from nemoflows.types import Value

_REFUSED = re.compile(r".* (4(?!08|99)\d\d|500|503|529)")
"""Statuses with which a provider itself refuses; a gateway's 502 or 504 may come while it works."""


class Recorded(Value):
    """A paid call as a replay and the ledger need it; what else a record holds is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    purpose: str
    model: str
    """The model as it was asked for, in its spelling."""
    outcome: Answered | Unusable = Field(discriminator="kind")
    usd: float | None
    """Price at the time of the call; None where nobody knows."""
    started_s: float
    ended_s: float
    run: str = ""
    """The run that paid for it."""
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

    def line(self) -> bytes:
        """Return the record as one JSON object with one line break in it.

        What stands before the break, closed, is an object too: all that a replay parses. A line
        break cannot stand inside a JSON string, so the first one is always this one.
        """
        more = set(type(self).model_fields) - set(Recorded.model_fields)
        try:
            head = self.model_dump_json(exclude=more)[:-1]
        except ValueError:  # blocks nested too deep for JSON: better without them than not at all
            return _without_blocks(self).line()
        tail = self.model_dump_json(include=more, exclude_defaults=True, by_alias=True)[1:]
        return f"{head}\n,{tail}".encode()


def _without_blocks(record: Record) -> Record:
    reply = record.outcome.reply
    if not reply.blocks:
        raise ValueError(f"the record {record.key} cannot be written as JSON")
    bare = reply.model_copy(update={"blocks": []})
    return record.model_copy(update={"outcome": record.outcome.model_copy(update={"reply": bare})})


@dataclass(frozen=True, slots=True)
class Receipt:
    """A line of what a process used; the rest of it is in the record."""

    key: str
    replayed: bool
    at_s: float
    """Unix time."""
    step: str = ""
    """Key of the first request of the step that the call belongs to."""
    words: str = ""
    """Members of a JSON object that name the account: its task and tier."""

    def line(self) -> bytes:
        """Return the line as JSON; keys are hexadecimal, so nothing needs escaping."""
        replayed = "true" if self.replayed else "false"
        line = f'{{"key":"{self.key}","replayed":{replayed},"at_s":{self.at_s!r}'
        line += f',"step":"{self.step}"' if self.step else ""
        return f"{line},{self.words}}}\n".encode() if self.words else f"{line}}}\n".encode()


@dataclass(frozen=True, slots=True)
class Intent:
    """A line about one attempt: that it is about to be made, or how it ended."""

    kind: Literal["begun", "ended"]
    key: str
    number: int
    """Of the attempt within its process's call, from 1."""
    at_s: float
    """Unix time."""
    purpose: str = ""
    model: str = ""
    status: str = ""
    """Of an attempt that ended: `ok` once its reply is recorded, else the error and its code."""
    scope: str = ""
    """What tells the work that it belongs to from other work of the run."""
    reserved_usd: float | None = None
    """The most that the attempt can cost; None where nobody knows."""

    def line(self) -> bytes:
        """Return the line as JSON."""
        told = {name: getattr(self, name) for name in self.__slots__}  # asdict copies, at a price
        return (json.dumps(told, ensure_ascii=False) + "\n").encode()


class Uncertain(Value):
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


def is_certain(status: str) -> bool:
    """Return whether it is known what became of an attempt: recorded, refused or never sent.

    A refusal carries a status code; a connection that broke, a body that cannot be read and a
    deadline carry none, and a provider may bill for what it wrote meanwhile.
    """
    return status in {"ok", "unsent"} or _REFUSED.fullmatch(status) is not None


def uncertain(writer: str, lines: list[dict[str, Any]], answered: set[str]) -> list[Uncertain]:
    """Return the attempts of one process that may have been billed without a record.

    Args:
        writer: The process.
        lines: Its intents, in the order in which they were written.
        answered: Keys whose record this very process wrote: their last attempt is accounted for.
    """
    begun: dict[tuple[str, int], dict[str, Any]] = {}
    last: dict[str, int] = {}
    for line in lines:
        place = (line["key"], line["number"])
        if line["kind"] == "begun":
            begun[place] = line | {"status": "killed"}
            last[line["key"]] = line["number"]
        elif is_certain(line["status"]):
            begun.pop(place, None)
        elif place in begun:
            begun[place] |= {"status": line["status"]}
    return [
        Uncertain(
            key=key,
            number=number,
            purpose=line["purpose"],
            model=line["model"],
            writer=writer,
            at_s=line["at_s"],
            why=line["status"],
            scope=line.get("scope", ""),
            reserved_usd=line.get("reserved_usd"),
        )
        for (key, number), line in begun.items()
        if not (key in answered and number == last[key])
    ]
