"""One research agent: retrieve, extract, enough?, retrieve again, summarise.

The single steps of `nemoflows.rag` are made of the same pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nemoflows.llm.bound import BoundClient
from nemoflows.llm.results import UNUSABLE, Failure, Success
from nemoflows.rag import gates, prompts
from nemoflows.rag.retrieval import find
from nemoflows.search.fusion import merge_hops
from nemoflows.types import Evidence, Finding, Index, NotFound, Passage

T = TypeVar("T")


@dataclass(slots=True)
class AgentState:
    """What one agent did so far."""

    question: str
    queries: list[str]
    hops: list[list[Passage]] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    budget_note: str = ""
    """Why the builtin tier stood in for a model."""

    def take(self, result: Success[T] | Failure) -> None:
        """Note what a result tells of its calls."""
        self.calls += result.calls
        self.budget_note = self.budget_note or (
            result.budget_note if isinstance(result, Success) else ""
        )

    def passages(self, k: int) -> list[Passage]:
        """Return the best `k` passages over all hops."""
        return merge_hops(self.hops)[:k]

    def not_found(self, reason: str) -> NotFound:
        """Return that this agent's question is not covered."""
        return NotFound(
            question=self.question, reason=reason, queries=self.queries, calls=self.calls
        )


async def investigate(
    question: str, index: Index, client: BoundClient, k: int, hops: int
) -> Finding | Failure:
    """Do what one agent does: search at most `hops` times, quote, stop when it is enough."""
    state = AgentState(question, [question])
    for hop in range(hops):
        query = state.queries[-1]
        state.hops.append(await find(query, index=index, k=k, llm=client.llm))
        if failed := await _read(state, client, k):
            if not state.evidence:
                return failed
            break  # what earlier hops found is paid and checked: keep it
        if hop + 1 == hops or gates.is_enough(question, state.evidence):
            break
        if not (query := await _next_query(state, client, k)):
            break
        state.queries.append(query)
    return await _conclude(state, client, state.passages(k))


async def read_whole(
    question: str, passages: Sequence[Passage], client: BoundClient
) -> Finding | Failure:
    """Do what one agent does that has the whole corpus before it: quote, then summarise."""
    state = AgentState(question, [])
    if failed := await _quote(state, passages, client, shared=True):
        return failed
    return await _conclude(state, client, passages, shared=True)


async def _conclude(
    state: AgentState, client: BoundClient, passages: Sequence[Passage], *, shared: bool = False
) -> Finding | Failure:
    """Write the finding; where a gate fails, once more a rung higher; say what is left in doubt."""
    found = _gated(await write_finding(state, client), passages, client)
    deeper = client.deeper()
    if deeper is None or not passages or not _failed_a_gate(found):
        return found
    again = AgentState(state.question, state.queries, state.hops, calls=list(state.calls))
    failed = await _quote(again, passages, deeper, shared=shared)
    if failed is not None or again.budget_note:
        return _with_calls(found, again.calls)
    better = _gated(await write_finding(again, deeper), passages, client)
    if isinstance(better, Finding) and not (better.budget_note or _failed_a_gate(better)):
        return _with_calls(better, found.calls)
    return _with_calls(found, better.calls)


def _gated(
    result: Finding | Failure, passages: Sequence[Passage], client: BoundClient
) -> Finding | Failure:
    """Return a finding with what the coverage gate says of it."""
    if isinstance(result, Failure) or result.not_found is not None:
        return result
    low_confidence = gates.low_confidence(result.question, result.evidence, passages, client.model)
    return (
        result.model_copy(update={"low_confidence": low_confidence}) if low_confidence else result
    )


def _failed_a_gate(result: Finding | Failure) -> bool:
    if isinstance(result, Failure):
        return result.reason in UNUSABLE
    return not result.budget_note and (result.not_found is not None or bool(result.low_confidence))


def _with_calls(result: Finding | Failure, calls: Sequence[str]) -> Finding | Failure:
    """Return a result whose calls include those of a try that was no better."""
    every = list(dict.fromkeys([*result.calls, *calls]))
    if isinstance(result, Failure):
        return replace(result, calls=every)
    missing = result.not_found
    told = missing.model_copy(update={"calls": every}) if missing else None
    return result.model_copy(update={"calls": every, "not_found": told})


async def _read(state: AgentState, client: BoundClient, k: int) -> Failure | None:
    passages = state.passages(k)
    return await _quote(state, passages, client) if passages else None


async def _quote(
    state: AgentState, passages: Sequence[Passage], client: BoundClient, *, shared: bool = False
) -> Failure | None:
    """Add the quotes that passages give to the state; return what failed."""
    result = await client.ask(*prompts.quoting(state.question, passages, shared=shared))
    state.take(result)
    if isinstance(result, Failure):
        return Failure(result.reason, result.detail, result.transient, state.calls)
    if result.value or not state.evidence:
        state.evidence = [q.model_copy(update={"calls": result.calls}) for q in result.value]
    return None


async def _next_query(state: AgentState, client: BoundClient, k: int) -> str:
    """Return another query; a failed call here only means that the agent stops searching."""
    request = prompts.rewrite(state.question, state.passages(k), state.queries)
    result = await client.ask(request, lambda reply, _: prompts.read_query(reply))
    state.take(result)
    query = result.value if isinstance(result, Success) else ""
    return "" if query in state.queries else query


async def write_finding(state: AgentState, client: BoundClient) -> Finding | Failure:
    """Ask for a summary of the quotes; without quotes nothing is asked."""
    if not state.evidence:
        missing = state.not_found("No passage that was found covers the question.")
        return not_found_finding(missing).model_copy(update={"budget_note": state.budget_note})
    request = prompts.summarise(state.question, state.evidence)
    result = await client.ask(request, lambda reply, _: prompts.read_summary(reply))
    state.take(result)
    calls = list(dict.fromkeys(state.calls))
    if isinstance(result, Failure):
        return Failure(result.reason, result.detail, result.transient, calls)
    return Finding(
        question=state.question,
        summary=result.value,
        evidence=state.evidence,
        queries=state.queries,
        budget_note=state.budget_note,
        calls=calls,
    )


def not_found_finding(missing: NotFound) -> Finding:
    """Return the finding that says what was not found."""
    return Finding(
        question=missing.question,
        queries=missing.queries,
        not_found=missing,
        calls=missing.calls,
    )
