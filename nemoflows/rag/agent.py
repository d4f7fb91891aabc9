"""One research agent: retrieve, extract, enough?, retrieve again, summarise.

The single steps of `nemoflows.rag` are made of the same pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nemoflows.engines.embedded import merge_hops
from nemoflows.llm.bound import Desk
from nemoflows.llm.results import UNUSABLE, Done, Failed
from nemoflows.rag import gates, prompts, replies
from nemoflows.rag.retrieval import find
from nemoflows.types import (
    Evidence,
    Finding,
    Index,
    NotFound,
    Passage,
)

T = TypeVar("T")


@dataclass(slots=True)
class Trail:
    """What one agent did so far."""

    question: str
    queries: list[str]
    hops: list[list[Passage]] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    stopped: str = ""
    """Why the embedded tier stood in for a model."""

    def take(self, result: Done[T] | Failed) -> None:
        """Note what a result tells of its calls."""
        self.calls += result.calls
        self.stopped = self.stopped or (result.stopped if isinstance(result, Done) else "")

    def passages(self, k: int) -> list[Passage]:
        """Return the best `k` passages over all hops."""
        return merge_hops(self.hops)[:k]

    def not_found(self, reason: str) -> NotFound:
        """Return that this agent's question is not covered."""
        return NotFound(
            question=self.question, reason=reason, queries=self.queries, calls=self.calls
        )


async def investigate(
    question: str, index: Index, desk: Desk, k: int, hops: int
) -> Finding | Failed:
    """Do what one agent does: search at most `hops` times, quote, stop when it is enough."""
    trail = Trail(question, [question])
    for hop in range(hops):
        query = trail.queries[-1]
        trail.hops.append(await find(query, index=index, k=k, door=desk.door))
        if failed := await _read(trail, desk, k):
            if not trail.evidence:
                return failed
            break  # what earlier hops found is paid and checked: keep it
        if hop + 1 == hops or gates.is_enough(question, trail.evidence):
            break
        if not (query := await _next_query(trail, desk, k)):
            break
        trail.queries.append(query)
    return await _conclude(trail, desk, trail.passages(k))


async def read_whole(question: str, passages: Sequence[Passage], desk: Desk) -> Finding | Failed:
    """Do what one agent does that has the whole corpus before it: quote, then summarise."""
    trail = Trail(question, [])
    if failed := await _quote(trail, passages, desk, shared=True):
        return failed
    return await _conclude(trail, desk, passages, shared=True)


async def _conclude(
    trail: Trail, desk: Desk, passages: Sequence[Passage], *, shared: bool = False
) -> Finding | Failed:
    """Write the finding; where a gate fails, once more a rung higher; say what is left in doubt."""
    found = _doubted(await write_finding(trail, desk), passages, desk)
    deeper = desk.deeper()
    if deeper is None or not passages or not _failed_a_gate(found):
        return found
    again = Trail(trail.question, trail.queries, trail.hops, calls=list(trail.calls))
    failed = await _quote(again, passages, deeper, shared=shared)
    if failed is not None or again.stopped:
        return _with_calls(found, again.calls)
    better = _doubted(await write_finding(again, deeper), passages, desk)
    if isinstance(better, Finding) and not (better.stopped or _failed_a_gate(better)):
        return _with_calls(better, found.calls)
    return _with_calls(found, better.calls)


def _doubted(result: Finding | Failed, passages: Sequence[Passage], desk: Desk) -> Finding | Failed:
    """Return a finding with what the coverage gate says of it."""
    if isinstance(result, Failed) or result.not_found is not None:
        return result
    doubt = gates.doubt(result.question, result.evidence, passages, desk.model)
    return result.model_copy(update={"doubt": doubt}) if doubt else result


def _failed_a_gate(result: Finding | Failed) -> bool:
    if isinstance(result, Failed):
        return result.reason in UNUSABLE
    return not result.stopped and (result.not_found is not None or bool(result.doubt))


def _with_calls(result: Finding | Failed, calls: Sequence[str]) -> Finding | Failed:
    """Return a result whose calls include those of a try that was no better."""
    every = list(dict.fromkeys([*result.calls, *calls]))
    if isinstance(result, Failed):
        return replace(result, calls=every)
    missing = result.not_found
    told = missing.model_copy(update={"calls": every}) if missing else None
    return result.model_copy(update={"calls": every, "not_found": told})


async def _read(trail: Trail, desk: Desk, k: int) -> Failed | None:
    passages = trail.passages(k)
    return await _quote(trail, passages, desk) if passages else None


async def _quote(
    trail: Trail, passages: Sequence[Passage], desk: Desk, *, shared: bool = False
) -> Failed | None:
    """Add the quotes that passages give to the trail; return what failed."""
    result = await find_quotes(trail.question, passages, desk, shared=shared)
    trail.take(result)
    if isinstance(result, Failed):
        return Failed(result.reason, result.detail, result.transient, trail.calls)
    if result.value or not trail.evidence:
        trail.evidence = [q.model_copy(update={"calls": result.calls}) for q in result.value]
    return None


async def _next_query(trail: Trail, desk: Desk, k: int) -> str:
    """Return another query; a failed call here only means that the agent stops searching."""
    request = prompts.rewrite(
        trail.question, trail.passages(k), trail.queries, model=desk.model, salt=desk.salt
    )
    result = await desk.ask(request, lambda reply, _: replies.read_query(reply))
    trail.take(result)
    query = result.value if isinstance(result, Done) else ""
    return "" if query in trail.queries else query


async def find_quotes(
    question: str, passages: Sequence[Passage], desk: Desk, *, shared: bool = False
) -> Done[list[Evidence]] | Failed:
    """Ask for quotes from passages, each checked to be verbatim.

    Args:
        shared: Other agents read the very same passages.
    """
    request = prompts.extract(question, passages, model=desk.model, salt=desk.salt, shared=shared)
    return await desk.ask(
        request, lambda reply, final: replies.read_quotes(reply, passages, final=final)
    )


async def write_finding(trail: Trail, desk: Desk) -> Finding | Failed:
    """Ask for a summary of the quotes; without quotes nothing is asked."""
    if not trail.evidence:
        missing = trail.not_found("No passage that was found covers the question.")
        return lost(missing).model_copy(update={"stopped": trail.stopped})
    request = prompts.summarise(trail.question, trail.evidence, model=desk.model, salt=desk.salt)
    result = await desk.ask(request, lambda reply, _: replies.read_summary(reply))
    trail.take(result)
    calls = list(dict.fromkeys(trail.calls))
    if isinstance(result, Failed):
        return Failed(result.reason, result.detail, result.transient, calls)
    return Finding(
        question=trail.question,
        summary=result.value,
        evidence=trail.evidence,
        queries=trail.queries,
        stopped=trail.stopped,
        calls=calls,
    )


def lost(missing: NotFound) -> Finding:
    """Return the finding that says what was not found."""
    return Finding(
        question=missing.question,
        queries=missing.queries,
        not_found=missing,
        calls=missing.calls,
    )
