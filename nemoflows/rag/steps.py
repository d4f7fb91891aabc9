"""The question flow as steps: async functions over typed values, no workflow engine in sight.

    build_index(corpus) → plan_research(question) → research(questions, index)
      → escalate(failed, index) → synthesise(question, findings)

`research` is the swarm: many agents at once on one engine, each retrieve → extract → enough? →
retrieve again with another query → summarise. The single steps are the same code, one by one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

from nemoflows import page, search
from nemoflows.calls import thinking
from nemoflows.engines.protocol import Vectors
from nemoflows.errors import BadInput
from nemoflows.llm.bound import Desk
from nemoflows.llm.client import Door, Progress
from nemoflows.llm.concurrency import together
from nemoflows.llm.results import UNUSABLE, Failed, refuse_too_many, unwrap
from nemoflows.money.savings import ShadowSample
from nemoflows.rag import escalation, prompts, replies
from nemoflows.rag.agent import Trail, find_quotes, investigate, lost, read_whole, write_finding
from nemoflows.rag.retrieval import checked_question, find, opened
from nemoflows.types import (
    CONTEXT_TOKENS,
    Answer,
    ContextPolicy,
    Evidence,
    Finding,
    Index,
    ModelRef,
    NotFound,
    Passage,
    ResearchPlan,
    Tiers,
)

StageProgress = Callable[[str, int, int], None]
"""Told the stage, and how many of how many are done in it."""


async def build_index(
    corpus: str,
    *,
    root: str,
    door: Door,
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
    await door.preflight(embedder)

    def embed(texts: list[str]) -> Vectors:
        asked = door.embed(embedder, texts, query=False)
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
    desk: Desk,
    n: int,
    k: int = 8,
    hops: int = 2,
    context_policy: ContextPolicy = "retrieve",
    context_tokens: int = CONTEXT_TOKENS,
    others: Sequence[ModelRef] = (),
) -> ResearchPlan:
    """Split a question into at most `n` sub-questions.

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
        questions=[],
        k=k,
        hops=hops,
        context_policy=context_policy,
        context_tokens=context_tokens,
    )
    request = prompts.plan(question, n=n, model=desk.model, salt=desk.salt)
    if desk.door.engines.of(desk.model).paid and not desk.door.is_recorded(desk.ready(request)):
        await desk.door.preflight(desk.model)
        for model in others:
            escalation.refuse_small_context(plan, model, await desk.door.context_tokens(model))
    done = unwrap(await desk.ask(request, lambda reply, _: replies.read_plan(reply, n=n)))
    told = {"questions": done.value, "calls": done.calls, "stopped": done.stopped}
    return plan.model_copy(update=told)


async def retrieve(question: str, *, index: Index, k: int, door: Door) -> list[Passage]:
    """Return the `k` passages of the index that fit the question best.

    Raises:
        BadInput: The question is empty, or `k` is below 1.
    """
    question = checked_question(question)
    if k < 1:
        raise BadInput(f"k={k} passages cannot be retrieved: ask for at least 1.")
    return await find(question, index=index, k=k, door=door)


async def extract(question: str, passages: Sequence[Passage], *, desk: Desk) -> list[Evidence]:
    """Return verbatim quotes that help to answer the question, the most useful first."""
    question = checked_question(question)
    if not passages:
        return []
    done = unwrap(await find_quotes(question, passages, desk))
    return [quote.model_copy(update={"calls": done.calls}) for quote in done.value]


async def summarise(question: str, evidence: Sequence[Evidence], *, desk: Desk) -> Finding:
    """Answer a question from quotes alone; without quotes, say that nothing was found."""
    question = checked_question(question)
    trail = Trail(question, [], evidence=list(evidence))
    trail.calls = list(dict.fromkeys(key for quote in evidence for key in quote.calls))
    result = await write_finding(trail, desk)
    if isinstance(result, Failed):
        raise result.error()
    return result


async def research(
    questions: Sequence[str],
    *,
    index: Index,
    desk: Desk,
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

    async def agent(question: str) -> Finding | Failed:
        nonlocal n_done
        if corpus is None:
            result = await investigate(question, index=index, desk=desk, k=k, hops=hops)
        else:
            result = await read_whole(question, corpus, desk)
        n_done += 1
        if progress:
            progress(n_done, len(questions))
        return result

    results = await together([agent(question) for question in asked])
    # An unusable reply is a failed gate, which the next tier looks at; only calls that nobody
    # answered say that the step itself cannot work.
    lost = [r for r in results if isinstance(r, Failed) and r.reason not in UNUSABLE]
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
    failed: Sequence[NotFound], *, index: Index, desk: Desk | None, k: int, hops: int
) -> list[Finding]:
    """Research again, on the frontier, what the efficient tier could not find.

    Args:
        failed: What was not found; an empty list costs nothing.
        desk: The frontier; None where it is the tier that failed already.

    Raises:
        EndpointDown: Most calls were not answered, each for a passing reason.
        TooManyFailures: Most calls were refused for good.
    """
    if desk is None:
        return [lost(missing) for missing in failed]
    if not failed:
        return []
    questions = [missing.question for missing in failed]
    found = await research(questions, index=index, desk=desk, k=k, hops=hops, tier="frontier")
    return [
        finding.model_copy(update={"calls": missing.calls + finding.calls})
        for missing, finding in zip(failed, found, strict=True)
    ]


async def synthesise(question: str, findings: Sequence[Finding], *, desk: Desk) -> Answer:
    """Write the answer; every sentence cites quotes, and code resolves every citation."""
    question = checked_question(question)
    found = [finding for finding in findings if finding.not_found is None]
    missing = escalation.failed(findings)
    stopped = next((finding.stopped for finding in findings if finding.stopped), "")
    before = list(dict.fromkeys(key for finding in findings for key in finding.calls))
    if not any(finding.evidence for finding in found):
        errors = [each.error for each in missing if each.error]
        text = "Nothing in the corpus answers this question."
        if errors:
            text = f"This question could not be researched: {errors[0]}"
        return Answer(
            question=question, text=text, not_found=missing, stopped=stopped, calls=before
        )
    request = prompts.synthesise(question, found, model=desk.model, salt=desk.salt)
    done = unwrap(
        await desk.ask(request, lambda reply, final: replies.read_answer(reply, found, final=final))
    )
    written = done.value
    return Answer(
        question=question,
        text=written.text,
        citations=written.citations,
        unsupported=written.unsupported,
        dropped=written.dropped,
        not_found=missing,
        stopped=done.stopped or stopped,
        calls=list(dict.fromkeys(before + done.calls)),
    )


def story(
    answer: Answer,
    findings: Sequence[Finding],
    *,
    plan: ResearchPlan | None = None,
    index: Index,
    tiers: Tiers,
    spent: Sequence[str] = (),
    shadow: ShadowSample | None = None,
    budget_usd: float | None = None,
) -> page.Story:
    """Return what a run's report shows beside its calls.

    Args:
        spent: Keys of calls that the other values may not name, for their replies were no good.
    """
    open_index = opened(index.uri)
    contexts = [
        page.context(citation, open_index.document_text(citation.document))
        for citation in answer.citations
    ]
    return page.Story(
        answer=answer,
        findings=list(findings),
        contexts=contexts,
        index=index,
        tiers={"efficient": str(tiers.efficient), "frontier": str(tiers.frontier)},
        reading=str(chosen_context(plan, index, tiers.efficient)) if plan else "",
        budget_usd=budget_usd,
        shadow=shadow or ShadowSample(),
        call_keys=list(dict.fromkeys([*(plan.calls if plan else []), *spent, *answer.calls])),
    )


def _as_finding(question: str, result: Finding | Failed) -> Finding:
    if isinstance(result, Finding):
        return result
    missing = NotFound(
        question=question.strip(),
        reason="The model gave nothing usable.",
        gate="integrity",
        error=f"{result.reason}: {result.detail}",
        calls=result.calls,
    )
    return lost(missing)
