"""What the next tier looks at, what it changes, and what an agent reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nemoflows.calls.wire import estimate_tokens
from nemoflows.errors import BadInput, BadModel
from nemoflows.rag import gates
from nemoflows.rag.types import ResearchPlan
from nemoflows.types import Finding, ModelRef, NotFound, Policy, Value


class Context(Value):
    """What an agent reads, and what either way would take."""

    packs: bool
    """Whether the whole corpus goes into the context."""
    pack_tokens: int
    """About how many tokens the whole corpus is, once per agent."""
    retrieve_tokens: int
    """About how many tokens of passages an agent reads at most when it searches."""

    def __str__(self) -> str:
        """Return both costs and what was decided."""
        return (
            f"context: the whole corpus is about {self.pack_tokens:,} tokens per agent, searching "
            f"at most about {self.retrieve_tokens:,}; "
            f"{'the corpus is packed' if self.packs else 'agents search'}"
        )


def context(plan: ResearchPlan, model: ModelRef, *, n_bytes: int, n_passages: int) -> Context:
    """Decide whether agents search or read the whole corpus, from sizes alone.

    `auto` packs where that takes no more tokens than searching would, for then nothing can be
    missed; on the builtin tier, which reads for nothing and ranks what it reads, it searches.

    Args:
        n_bytes: Length of all documents' texts.
        n_passages: How many passages they are cut into.

    Raises:
        BadInput: The corpus is to be packed and does not fit.
    """
    pack_tokens = estimate_tokens(n_bytes)
    per_hop = min(plan.k, n_passages) * (pack_tokens // max(1, n_passages) + 1)
    retrieve_tokens = plan.hops * per_hop
    fits = pack_tokens <= plan.context_tokens
    if plan.context_policy == "pack" and not fits:
        raise BadInput(
            f"The corpus is about {pack_tokens:,} tokens and context_tokens is "
            f"{plan.context_tokens:,}, so it cannot be packed. Raise context_tokens, if the model "
            "takes that many, or let the agents search: context_policy=retrieve. No agent was "
            "sent out."
        )
    cheap = fits and pack_tokens <= retrieve_tokens and not model.is_builtin
    packs = plan.context_policy == "pack" or (plan.context_policy == "auto" and cheap)
    return Context(packs=packs, pack_tokens=pack_tokens, retrieve_tokens=retrieve_tokens)


def refuse_small_context(plan: ResearchPlan, model: ModelRef, served_tokens: int | None) -> None:
    """Refuse a context that a server does not have, before the first call.

    Raises:
        BadModel: The server says that its context is smaller than what may be packed.
    """
    if plan.context_policy == "retrieve" or served_tokens is None:
        return
    if plan.context_tokens > served_tokens:
        raise BadModel(
            f"{str(model)!r} is served with a context of {served_tokens:,} tokens, and up to "
            f"{plan.context_tokens:,} may be packed. Lower context_tokens, or serve it with more; "
            "no call was made."
        )


def failed(findings: Sequence[Finding]) -> list[NotFound]:
    """Return the questions without a finding."""
    return [finding.not_found for finding in findings if finding.not_found is not None]


def to_escalate(findings: Sequence[Finding], policy: Policy) -> list[NotFound]:
    """Return what the next tier must look at: what was not found, and what a gate doubts.

    Args:
        policy: Its models; a tier without one replaces nothing that a model found.
    """
    only_guesses = policy.frontier.is_builtin and not policy.efficient.is_builtin
    return [
        NotFound(
            question=finding.question,
            reason=finding.low_confidence,
            gate="integrity" if finding.stand_in else "coverage",
            queries=finding.queries,
            calls=finding.calls,
        )
        if finding.not_found is None
        else finding.not_found
        for finding in findings
        if finding.not_found is not None or (finding.low_confidence and not only_guesses)
    ]


def merged(findings: Sequence[Finding], escalated: Sequence[Finding]) -> list[Finding]:
    """Return one finding per question: the next tier's where it has one, else what there was.

    What the builtin tier found in a model's place, or beside one that found nothing, replaces
    nothing that was found before. A quote that both tiers put first is no longer in doubt. What
    was tried in vain was paid for too: its calls stay with the question.
    """
    best: dict[str, Finding] = {}
    for found in [*findings, *escalated]:
        before = best.get(found.question)
        if before is None:
            best[found.question] = found
            continue
        only_builtins = bool(found.evidence) and _paid(before) and not _paid(found)
        is_builtins = bool(found.budget_note or found.stand_in) or only_builtins
        better = _found(found) and not (is_builtins and _found(before))
        kept = found if better else before
        told: dict[str, Any] = {"calls": list(dict.fromkeys([*before.calls, *found.calls]))}
        if better and _paid(before) and gates.agree(found.evidence, before.evidence):
            told["low_confidence"] = ""
        best[found.question] = kept.model_copy(update=told)
    return list(best.values())


def _paid(finding: Finding) -> bool:
    """Return whether a model found some of the quotes; these stand before the builtin tier's."""
    return any(quote.calls for quote in finding.evidence)


def _found(finding: Finding) -> bool:
    return finding.not_found is None
