"""Tasks of the efficient tier: on a GPU where its model runs in process, on a CPU otherwise."""

from __future__ import annotations

import logging
from typing import NamedTuple

from nemoflows import rag
from nemoflows.progress import progress
from nemoflows.rag.escalation import to_escalate
from nemoflows.rag.types import Passages, Quotes, Research, ResearchPlan
from nemoflows.tasks.client import client
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.session import run
from nemoflows.types import Finding, Index, Policy

log = logging.getLogger("nemoflows")


class Researched(NamedTuple):
    """What the agents found, and whether anything of it is for the next tier to look at."""

    research: Research
    failed: bool
    """Beside the value, for a `conditional` compares nothing else."""


@task(efficient=True)
def extract(passages: Passages, policy: Policy = POLICY) -> Quotes:
    """Return verbatim quotes that help to answer a question, the most useful first.

    Every quote was found by code, letter by letter, at its offsets in its document.

    Args:
        passages: What `retrieve` returned.
        policy: How models are asked; the efficient one is.

    Returns:
        The question, and quotes with document and offsets; none where nothing helps.

    Raises:
        BadReply: The model's reply was unusable twice; it is recorded.
    """
    about = [passages.question, *(passage.id for passage in passages.passages)]
    return run(
        rag.extract(passages, client=client(policy, "efficient", task="extract", about=about))
    )


@task(efficient=True)
def summarise(quotes: Quotes, policy: Policy = POLICY) -> Finding:
    """Answer a question from quotes alone.

    Args:
        quotes: What `extract` returned.
        policy: How models are asked; the efficient one is.

    Returns:
        A finding; without quotes one that says what was not found, and no model is asked.

    Raises:
        BadReply: The model's reply was unusable twice; it is recorded.
    """
    about = [quotes.question, *(quote.quote for quote in quotes.evidence)]
    own = client(policy, "efficient", task="summarise", spent=quotes.calls, about=about)
    return run(rag.summarise(quotes, client=own))


@task(efficient=True, index=True)
def research(plan: ResearchPlan, index: Index, policy: Policy = POLICY) -> Researched:
    """Send out one agent per sub-question, all at once on one engine.

    Each agent retrieves, extracts quotes, searches again with another query while they do not
    cover its question, and summarises. Where the plan packs, each reads the whole corpus instead.

    Args:
        plan: What `plan_research` returned: the questions, and what each agent reads.
        index: What `build_index` returned.
        policy: How models are asked; the efficient one is.

    Returns:
        One finding per sub-question, and whether any failed a gate: was not found, or is doubted.

    Raises:
        BadInput: The corpus is to be packed and does not fit.
        TooManyFailures: The calls of more than half of the agents were refused for good.
    """
    about = [*plan.questions, index.corpus_hash]
    own = client(policy, "efficient", task="research", spent=plan.calls, about=about)
    context = rag.chosen_context(plan, index, policy.efficient)
    if plan.context_policy != "retrieve":
        log.info("%s", context)
    with progress("research") as tell:
        found = run(
            rag.research(
                plan.questions,
                index=index,
                client=own,
                k=plan.k,
                hops=plan.hops,
                corpus=rag.packed(index) if context.packs else None,
                progress=tell,
            )
        )
    failed = bool(to_escalate(found, policy))
    return Researched(Research(plan=plan, findings=found), failed=failed)
