"""One research agent: retrieve, extract, enough?, retrieve again, summarise.

The single steps of `nemoflows.rag` are made of the same pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from nemoflows import prompts, replies, routing, search
from nemoflows.asks import Ask, Check, Done, Failed
from nemoflows.calls import Request
from nemoflows.engines.embedded import merge_hops
from nemoflows.errors import BadInput
from nemoflows.llm import Door
from nemoflows.types import (
    Evidence,
    Finding,
    Index,
    ModelRef,
    NotFound,
    Passage,
    ThinkingPolicy,
)

T = TypeVar("T")
MAX_QUESTION_CHARACTERS = 8_000


@dataclass(frozen=True, slots=True)
class Desk:
    """What a step works with: the door, the model it may ask, and the run's salt."""

    door: Door
    model: ModelRef
    salt: str = ""
    thinking: ThinkingPolicy = "auto"
    retry_unusable: int = 0
    """Further draws to ask for where a reply could not be used."""

    def ready(self, request: Request) -> Request:
        """Return a request as this desk asks it: with the thinking that its purpose gets."""
        return routing.thoughtful(request, self.thinking)

    async def ask(self, request: Request, check: Check[T]) -> Done[T] | Failed:
        """Ask the door."""
        return await self.door.ask(self.asking(request, check))

    def asking(self, request: Request, check: Check[T]) -> Ask[T]:
        """Return an ask as this desk makes it."""
        return Ask(self.ready(request), check, self.retry_unusable)


@dataclass(slots=True)
class Trail:
    """What one agent did so far."""

    question: str
    queries: list[str]
    hops: list[list[Passage]] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def passages(self, k: int) -> list[Passage]:
        """Return the best `k` passages over all hops."""
        return merge_hops(self.hops)[:k]

    def not_found(self, reason: str) -> NotFound:
        """Return that this agent's question is not covered."""
        return NotFound(
            question=self.question, reason=reason, queries=self.queries, calls=self.calls
        )


def checked_question(question: str) -> str:
    """Return the question without surrounding space.

    Raises:
        BadInput: It is empty or too long; no call was made.
    """
    stripped = question.strip()
    if not stripped:
        raise BadInput("The question is empty. Ask something; no call was made.")
    if len(stripped) > MAX_QUESTION_CHARACTERS:
        raise BadInput(
            f"The question has {len(stripped)} characters, more than {MAX_QUESTION_CHARACTERS}. "
            "Put long material into the corpus; no call was made."
        )
    return stripped


@lru_cache(maxsize=8)
def opened(uri: str) -> search.SearchIndex:
    """Return an index, opened once per process."""
    return search.open_index(uri)


async def find(query: str, *, index: Index, k: int, door: Door) -> list[Passage]:
    """Return the `k` best passages, with vectors where the index has them."""
    vector = None
    if index.embedder:
        model = ModelRef.model_validate(index.embedder)
        vector = (await door.embed(model, [query], query=True))[0]
    return opened(index.uri).search(query, k, vector=vector)


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
        if hop + 1 == hops or routing.is_enough(question, trail.evidence):
            break
        if not (query := await _next_query(trail, desk, k)):
            break
        trail.queries.append(query)
    return await write_finding(trail, desk)


async def read_whole(question: str, passages: Sequence[Passage], desk: Desk) -> Finding | Failed:
    """Do what one agent does that has the whole corpus before it: quote, then summarise."""
    trail = Trail(question, [])
    result = await find_quotes(question, passages, desk, shared=True)
    trail.calls += result.calls
    if isinstance(result, Failed):
        return result
    trail.evidence = [q.model_copy(update={"calls": result.calls}) for q in result.value]
    return await write_finding(trail, desk)


async def _read(trail: Trail, desk: Desk, k: int) -> Failed | None:
    passages = trail.passages(k)
    if not passages:
        return None
    result = await find_quotes(trail.question, passages, desk)
    trail.calls += result.calls
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
    trail.calls += result.calls
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
        return lost(missing)
    request = prompts.summarise(trail.question, trail.evidence, model=desk.model, salt=desk.salt)
    result = await desk.ask(request, lambda reply, _: replies.read_summary(reply))
    calls = list(dict.fromkeys(trail.calls + result.calls))
    if isinstance(result, Failed):
        return Failed(result.reason, result.detail, result.transient, calls)
    return Finding(
        question=trail.question,
        summary=result.value,
        evidence=trail.evidence,
        queries=trail.queries,
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
