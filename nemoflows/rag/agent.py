"""One research agent: retrieve, extract, enough?, retrieve again, summarise.

The single steps of `nemoflows.rag` are made of the same pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from nemoflows.calls.contract import MAX_QUOTES, evidence
from nemoflows.engines import builtin
from nemoflows.language.sentences import sentences
from nemoflows.language.terms import terms
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.results import UNUSABLE, Failure, Success
from nemoflows.rag import gates, prompts
from nemoflows.rag.quoting import quoting
from nemoflows.rag.retrieval import find
from nemoflows.search.fusion import merge_hops
from nemoflows.types import Evidence, Finding, Index, ModelRef, NotFound, Passage

T = TypeVar("T")

MAX_NEAREST = 3
"""Passages shown where nothing in them answers."""


@dataclass(slots=True)
class AgentState:
    """What one agent did so far."""

    question: str
    queries: list[str]
    hops: list[list[Passage]] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    own: list[Evidence] = field(default_factory=list)
    """What the builtin tier, which reads along, chose beside a model."""
    calls: list[str] = field(default_factory=list)
    budget_note: str = ""
    """Why the builtin tier stood in for a model."""
    stand_in: str = ""
    """What of a model's could not be used, so that the builtin tier's stands."""

    def take(self, result: Success[T] | Failure) -> None:
        """Note what a result tells of its calls."""
        self.calls += result.calls
        if isinstance(result, Success):
            self.budget_note = self.budget_note or result.budget_note
            self.stand_in = self.stand_in or result.stand_in

    def passages(self, k: int) -> list[Passage]:
        """Return the best `k` passages over all hops."""
        return merge_hops(self.hops)[:k]

    @property
    def quotes(self) -> list[Evidence]:
        """Return the model's choice, and after it what the builtin tier alone chose."""
        chosen = [
            quote.model_copy(update={"builtin": any(map(quote.overlaps, self.own))})
            for quote in self.evidence
        ]
        alone = [piece for piece in self.own if not any(map(piece.overlaps, self.evidence))]
        more = [piece.model_copy(update={"builtin": True}) for piece in alone]
        return [*chosen, *more] if self.own else self.evidence

    def not_found(self, reason: str) -> NotFound:
        """Return that this agent's question is not covered."""
        return NotFound(
            question=self.question,
            reason=reason,
            queries=self.queries,
            nearest=_nearest(self.question, merge_hops(self.hops)),
            calls=self.calls,
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
        if state.stand_in or hop + 1 == hops:
            break
        if gates.is_enough(question, state.evidence, state.own):
            break
        if not (query := await _next_query(state, client, k)):
            break
        state.queries.append(query)
    return await _conclude(state, client, state.passages(k))


async def read_whole(
    question: str, passages: Sequence[Passage], client: BoundClient, near: Sequence[Passage]
) -> Finding | Failure:
    """Do what one agent does that has the whole corpus before it: quote, then summarise.

    Args:
        near: What a search finds: the builtin tier ranks passages, and reads along in these.
    """
    state = AgentState(question, [], [list(near)])
    if failed := await _quote(state, passages, client, shared=True):
        return failed
    return await _conclude(state, client, passages, shared=True)


async def _conclude(
    state: AgentState, client: BoundClient, passages: Sequence[Passage], *, shared: bool = False
) -> Finding | Failure:
    """Write the finding; where a gate fails, once more a rung higher; say what is left in doubt."""
    found = _gated(await write_finding(state, client), state, passages, client)
    deeper = client.deeper()
    if deeper is None or not passages or not _failed_a_gate(found):
        return found
    again = AgentState(state.question, state.queries, state.hops, calls=list(state.calls))
    failed = await _quote(again, passages, deeper, shared=shared)
    if failed is not None or again.budget_note or again.stand_in:
        return _with_calls(found, again.calls)
    better = _gated(await write_finding(again, deeper), again, passages, client)
    if isinstance(better, Finding) and not (better.budget_note or _failed_a_gate(better)):
        return _with_calls(better, found.calls)
    return _with_calls(found, better.calls)


def _gated(
    result: Finding | Failure,
    state: AgentState,
    passages: Sequence[Passage],
    client: BoundClient,
) -> Finding | Failure:
    """Return a finding with what the gates say of it."""
    if isinstance(result, Failure) or result.not_found is not None:
        return result
    told = result.stand_in or gates.low_confidence(
        result.question, state.evidence, passages, client.model, state.own
    )
    return result.model_copy(update={"low_confidence": told}) if told else result


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
    request, read = quoting(state.question, passages, shared=shared)
    result = await client.ask(request, read, stands_in=not state.evidence)
    state.take(result)
    if isinstance(result, Failure):
        return Failure(result.reason, result.detail, result.transient, state.calls)
    if result.stand_in and not result.value:  # nothing to stand for what failed
        return Failure("invalid", result.stand_in, transient=False, calls=state.calls)
    is_own = client.model.is_builtin or bool(result.budget_note or result.stand_in)
    if not is_own:
        near = state.hops[0] if shared else passages
        state.own = builtin.extract(state.question, near, k=MAX_QUOTES)
    if result.value or not state.evidence:
        stands_in = is_own and not client.model.is_builtin
        told = {"calls": [] if is_own else result.calls, "builtin": stands_in}
        state.evidence = [q.model_copy(update=told) for q in result.value]
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
    quotes = state.quotes
    if not quotes:
        missing = state.not_found("No passage that was found covers the question.")
        return not_found_finding(missing).model_copy(update={"budget_note": state.budget_note})
    request = prompts.summarise(state.question, quotes)
    asked = replace(client, model=ModelRef()) if state.stand_in else client
    result = await asked.ask(request, lambda reply, _: prompts.read_summary(reply), stands_in=True)
    state.take(result)
    calls = list(dict.fromkeys(state.calls))
    if isinstance(result, Failure):
        return Failure(result.reason, result.detail, result.transient, calls)
    return Finding(
        question=state.question,
        summary=result.value,
        evidence=quotes,
        queries=state.queries,
        budget_note=state.budget_note,
        stand_in=state.stand_in,
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


def _nearest(question: str, passages: Sequence[Passage]) -> list[Evidence]:
    """Return of each of the best passages the sentence that has most of the question's terms."""
    wanted, found = set(terms(question)), []
    for passage in passages[:MAX_NEAREST]:
        each = [(len(wanted & set(terms(s.text))), -s.start, s) for s in sentences(passage.text)]
        shared, _, best = max(each, default=(0, 0, None), key=lambda one: one[:2])
        if shared and best is not None:
            found.append(evidence(passage, best.start, best.end))
    return found
