"""The question flow as steps: async functions over typed values, no workflow engine in sight.

    build_index(corpus) → plan_research(question) → research(questions, index)
      → escalate(research, index) → synthesise(question, findings)

`research` is the swarm: many agents at once on one engine, each retrieve → extract → enough? →
retrieve again with another query → summarise. The single steps are the same code, one by one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

from nemoflows import search
from nemoflows.calls import thinking
from nemoflows.calls.contract import checked_question
from nemoflows.engines.base import Vectors
from nemoflows.errors import BadInput
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.llm.concurrency import together
from nemoflows.llm.results import UNUSABLE, Failure, Success, refuse_too_many, unwrap
from nemoflows.progress import Progress
from nemoflows.rag import escalation, prompts
from nemoflows.rag.agent import (
    AgentState,
    investigate,
    not_found_finding,
    read_whole,
    write_finding,
)
from nemoflows.rag.retrieval import find, opened
from nemoflows.rag.types import (
    CONTEXT_TOKENS,
    Answer,
    ContextPolicy,
    Passages,
    Quotes,
    ResearchPlan,
)
from nemoflows.types import Finding, Index, ModelRef, NotFound, Passage

StageProgress = Callable[[str, int, int], None]
"""Told the stage, and how many of how many are done in it."""


async def build_index(
    corpus: str,
    *,
    root: str,
    llm: LLMClient,
    embedder: ModelRef | None = None,
    progress: StageProgress | None = None,
) -> Index:
    """Index a corpus; only documents that changed are read anew.

    Raises:
        CorpusError: The corpus is missing, empty or unreadable.
        BadModel: The embedder cannot be asked.
    """
    loop = asyncio.get_running_loop()
    if embedder is None:
        return await _in_thread(partial(search.build_index, corpus, root), progress)
    await llm.preflight(embedder)

    def embed(texts: list[str]) -> Vectors:
        asked = llm.embed(embedder, texts, query=False)
        return asyncio.run_coroutine_threadsafe(asked, loop).result()

    return await _in_thread(
        partial(search.build_index, corpus, root, embed=embed, embedder=str(embedder)), progress
    )


async def _in_thread(build: Callable[..., Index], progress: StageProgress | None) -> Index:
    """Build in a thread that ends soon after the step is cancelled, as by Ctrl-C."""
    stopped = threading.Event()

    def tell(stage: str, done: int, total: int) -> None:
        if stopped.is_set():
            raise BadInput("The build was interrupted; what it read is kept for the next one.")
        if progress:
            progress(stage, done, total)

    try:
        return await asyncio.to_thread(build, progress=tell)
    except BaseException:
        stopped.set()
        raise


async def plan_research(
    question: str,
    *,
    client: BoundClient,
    n: int,
    k: int = 8,
    hops: int = 2,
    context_policy: ContextPolicy = "retrieve",
    context_tokens: int = CONTEXT_TOKENS,
    others: Sequence[ModelRef] = (),
) -> ResearchPlan:
    """Split a question into sub-questions: at most `n` with the question itself, always the first.

    Args:
        k: Passages in an agent's context.
        hops: Searches that an agent may make.
        context_policy: What an agent reads: what it finds, the whole corpus, or whichever takes
            fewer tokens.
        context_tokens: Most tokens that a packed corpus may take.
        others: Models that later steps will ask: checked before the first call of the run, and
            not where that call is recorded, so that a recorded run needs no server.

    Raises:
        BadInput: The question is empty or too long, or a number is below 1.
        BadModel: A model cannot be asked.
        EndpointDown: A model's endpoint does not answer.
    """
    question = checked_question(question)
    thinking.refuse_unknown("context_policy", context_policy, get_args(ContextPolicy))
    if min(n, k, hops, context_tokens) < 1:
        raise BadInput(
            f"{n} agents, {k} passages, {hops} hops and {context_tokens} tokens of context: each "
            "must be at least 1. No call was made."
        )
    plan = ResearchPlan(
        question=question,
        questions=[question],
        k=k,
        hops=hops,
        context_policy=context_policy,
        context_tokens=context_tokens,
    )
    if n == 1:  # there is nothing to decide
        return plan
    request = prompts.plan(question, n=n - 1)
    if client.llm.engines.of(client.model).paid and not client.llm.is_recorded(
        client.ready(request)
    ):
        await client.llm.preflight(client.model)
        for model in others:
            escalation.refuse_small_context(plan, model, await client.llm.context_tokens(model))
    asked = await client.ask(request, lambda reply, _: prompts.read_plan(reply, n=n - 1))
    if isinstance(asked, Failure) and asked.reason in UNUSABLE:
        told = f"{client.model} gave no usable plan ({asked.reason}: {asked.detail.rstrip('.')})"
        asked = Success([], asked.calls, stand_in=f"{told}; the question itself is researched.")
    done = unwrap(asked)
    return plan.model_copy(
        update={
            "questions": prompts.distinct([question, *done.value]),
            "calls": done.calls,
            "budget_note": done.budget_note,
            "stand_in": done.stand_in,
        }
    )


async def retrieve(question: str, *, index: Index, k: int, llm: LLMClient) -> Passages:
    """Return the `k` passages of the index that fit the question best.

    Raises:
        BadInput: The question is empty, or `k` is below 1.
    """
    question = checked_question(question)
    if k < 1:
        raise BadInput(f"k={k} passages cannot be retrieved: ask for at least 1.")
    found = await find(question, index=index, k=k, llm=llm)
    return Passages(question=question, passages=found)


async def summarise(quotes: Quotes, *, client: BoundClient) -> Finding:
    """Answer a question from quotes alone; without quotes, say that nothing was found."""
    state = AgentState(checked_question(quotes.question), [], evidence=quotes.evidence)
    state.calls, state.stand_in = list(quotes.calls), quotes.stand_in
    state.budget_note = quotes.budget_note
    result = await write_finding(state, client)
    if isinstance(result, Failure):
        raise result.error()
    return result


async def research(
    questions: Sequence[str],
    *,
    index: Index,
    client: BoundClient,
    k: int,
    hops: int,
    corpus: Sequence[Passage] | None = None,
    tier: Literal["efficient", "frontier"] = "efficient",
    max_failed: float = 0.5,
    progress: Progress | None = None,
) -> list[Finding]:
    """Send one agent per question, all at once; one finding per question, in order.

    Args:
        corpus: All passages, where every agent is to read them all; None lets agents search.
        k: Passages in an agent's context, over all its hops.
        hops: Searches an agent may make, at least 1.
        tier: Recorded in the findings.
        max_failed: Share of agents whose calls may stay unanswered before the step fails. Agents
            whose replies were unusable do not count: their questions go to the next tier.

    Raises:
        EndpointDown: More agents failed than allowed, each for a passing reason.
        TooManyFailures: More agents failed than allowed.
    """
    if hops < 1 or k < 1:
        raise BadInput(f"hops={hops} and k={k}: each agent needs at least 1 search and 1 passage.")
    asked = [checked_question(question) for question in questions]
    n_done = 0

    async def agent(question: str) -> Finding | Failure:
        nonlocal n_done
        if corpus is None:
            result = await investigate(question, index=index, client=client, k=k, hops=hops)
        else:
            near = opened(index.uri).search(question, k)
            result = await read_whole(question, corpus, client, near)
        n_done += 1
        if progress:
            progress(n_done, len(questions))
        return result

    results = await together([agent(question) for question in asked])
    # An unusable reply is a failed gate, which the next tier looks at; only calls that nobody
    # answered say that the step itself cannot work.
    lost = [r for r in results if isinstance(r, Failure) and r.reason not in UNUSABLE]
    refuse_too_many(lost, len(questions), max_failed)
    findings = map(_as_finding, asked, results)
    return [finding.model_copy(update={"tier": tier}) for finding in findings]


def chosen_context(plan: ResearchPlan, index: Index, model: ModelRef) -> escalation.Context:
    """Return whether agents search or read the whole corpus, with what either would take.

    Raises:
        BadInput: The corpus is to be packed and does not fit.
    """
    n_bytes = opened(index.uri).n_bytes
    return escalation.context(plan, model, n_bytes=n_bytes, n_passages=index.n_passages)


def packed(index: Index) -> list[Passage]:
    """Return every passage of an index, in the order of the documents."""
    return opened(index.uri).passages()


async def escalate(
    failed: Sequence[NotFound], *, index: Index, client: BoundClient | None, k: int, hops: int
) -> list[Finding]:
    """Research again, on the frontier, what the efficient tier could not find.

    Args:
        failed: What was not found; an empty list costs nothing.
        client: The frontier; None where it is the tier that failed already.

    Raises:
        EndpointDown: Most calls were not answered, each for a passing reason.
        TooManyFailures: Most calls were refused for good.
    """
    if client is None:
        return [not_found_finding(missing) for missing in failed]
    if not failed:
        return []
    questions = [missing.question for missing in failed]
    found = await research(questions, index=index, client=client, k=k, hops=hops, tier="frontier")
    return [
        finding.model_copy(update={"calls": missing.calls + finding.calls})
        for missing, finding in zip(failed, found, strict=True)
    ]


async def synthesise(question: str, findings: Sequence[Finding], *, client: BoundClient) -> Answer:
    """Write the answer; every sentence cites quotes, and code resolves every citation.

    Args:
        question: What was asked at first; empty is the question of the only finding.

    Raises:
        BadInput: There are several findings, and nobody says what was asked.
    """
    question = checked_question(question or _question_of(findings))
    found = [finding for finding in findings if finding.not_found is None]
    missing = escalation.failed(findings)
    budget_note = next((finding.budget_note for finding in findings if finding.budget_note), "")
    before = list(dict.fromkeys(key for finding in findings for key in finding.calls))
    if not any(finding.evidence for finding in found):
        errors = [each.error for each in missing if each.error]
        text = "Nothing in the corpus answers this question."
        if errors:
            text = f"This question could not be researched: {errors[0]}"
        return Answer(
            question=question,
            text=text,
            not_found=missing,
            budget_note=budget_note,
            calls=before,
            findings=list(findings),
        )
    request = prompts.synthesise(question, found)
    done = unwrap(
        await client.ask(
            request,
            lambda reply, final: prompts.read_answer(reply, found, final=final),
            stands_in=True,
        )
    )
    written = done.value
    return Answer(
        question=question,
        text=written.text,
        citations=written.citations,
        unsupported=written.unsupported,
        dropped=written.dropped,
        not_found=missing,
        budget_note=done.budget_note or budget_note,
        stand_in=done.stand_in,
        calls=list(dict.fromkeys(before + done.calls)),
        findings=list(findings),
    )


def _question_of(findings: Sequence[Finding]) -> str:
    questions = list(dict.fromkeys(finding.question for finding in findings))
    if len(questions) != 1:
        raise BadInput(
            f"There are findings on {len(questions)} questions, and `question` is empty: say what "
            "was asked. No call was made."
        )
    return questions[0]


def _as_finding(question: str, result: Finding | Failure) -> Finding:
    if isinstance(result, Finding):
        return result
    missing = NotFound(
        question=question.strip(),
        reason="The model gave nothing usable.",
        gate="integrity",
        error=f"{result.reason}: {result.detail}",
        calls=result.calls,
    )
    return not_found_finding(missing)
