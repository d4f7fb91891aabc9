"""Routes: who is asked when a gate fails, which step thinks and how much, who packs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from nemoflows.calls import Purpose, Request, Thinking
from nemoflows.errors import BadInput, BadModel
from nemoflows.models import Endpoint, cannot_stop_thinking
from nemoflows.text import estimate_tokens
from nemoflows.types import (
    Finding,
    ModelRef,
    NotFound,
    ResearchPlan,
    ThinkingPolicy,
    Tiers,
    Value,
)

THINKING: dict[Purpose, Thinking] = {
    "plan": Thinking(mode="budget", budget_tokens=1024),
    "extract": Thinking(mode="off"),
    "rewrite": Thinking(mode="off"),
    "summarise": Thinking(mode="off"),
    "fields": Thinking(mode="off"),
    "synthesise": Thinking(mode="budget", budget_tokens=2048),
    "plan_change": Thinking(mode="budget", budget_tokens=2048),
    "propose": Thinking(mode="budget", budget_tokens=2048),
    "repair": Thinking(mode="budget", budget_tokens=4096),
    "review": Thinking(mode="budget", budget_tokens=1024),
}
"""How much each step thinks under the policy `auto`.

Copying sentences, naming a query and shortening quotes are checked by code and asked many times;
splitting a question and weighing findings are asked once per run, and everything rests on them.
A change is reasoned about before it is written, most of all one that has failed already.

Source: chosen by reading, not calibrated; a profile can set others.
"""


RUNG = Thinking(mode="budget", budget_tokens=1024)
"""How much a step thinks that failed a gate without: the rung below the next tier.

Source: chosen by reading, not calibrated.
"""


def thoughtful(request: Request, policy: ThinkingPolicy, *, deeper: bool = False) -> Request:
    """Return the request with the thinking that its purpose gets under a policy.

    Args:
        deeper: The step failed a gate and is asked again a rung higher.
    """
    wish = Thinking(mode=policy) if policy != "auto" else THINKING.get(request.purpose)
    if deeper and wish is not None and wish.mode == "off":
        wish = RUNG
    return request.model_copy(update={"thinking": wish}) if wish else request


def refuse_unknown(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that an input does not take: Flyte's command line lets any text through.

    Raises:
        BadInput: It is not among the known ones.
    """
    if value not in known:
        raise BadInput(
            f"The input {name} is {value!r}; it takes {', '.join(known)}. No call was made."
        )


def refuse_thinking(model: ModelRef, endpoint: Endpoint, policy: ThinkingPolicy) -> None:
    """Refuse an explicit wish that a model has no way to follow; `auto` is a preference.

    Raises:
        BadModel: Thinking is to be off, and the model always thinks.
    """
    refuse_unknown("thinking", policy, get_args(ThinkingPolicy))
    if policy == "off" and cannot_stop_thinking(endpoint.dialect, model.name):
        raise BadModel(
            f"{str(model)!r} always thinks, and the input thinking is 'off'. Leave it at 'auto', "
            "or name another model; no call was made."
        )


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
    missed; on the embedded tier, which reads for nothing and ranks what it reads, it searches.

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
    cheap = fits and pack_tokens <= retrieve_tokens and model.endpoint != "embedded"
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


def handed_on(findings: Sequence[Finding]) -> list[NotFound]:
    """Return what the next tier must look at: what was not found, and what a gate doubts."""
    return [
        NotFound(
            question=finding.question,
            reason=finding.doubt,
            gate="coverage",
            queries=finding.queries,
            calls=finding.calls,
        )
        if finding.not_found is None
        else finding.not_found
        for finding in findings
        if finding.not_found is not None or finding.doubt
    ]


def merged(findings: Sequence[Finding], escalated: Sequence[Finding]) -> list[Finding]:
    """Return one finding per question: the next tier's where it has one, else what there was.

    What the embedded tier found in a model's place replaces nothing that was found before. What
    was tried in vain was paid for too: its calls stay with the question.
    """
    best: dict[str, Finding] = {}
    for found in [*findings, *escalated]:
        before = best.get(found.question)
        if before is None:
            best[found.question] = found
            continue
        better = _found(found) and not (found.stopped and _found(before))
        kept = found if better else before
        calls = list(dict.fromkeys([*before.calls, *found.calls]))
        best[found.question] = kept.model_copy(update={"calls": calls})
    return list(best.values())


def _found(finding: Finding) -> bool:
    return finding.not_found is None


def next_model(tiers: Tiers) -> ModelRef | None:
    """Return the model that failed questions go to; None where it is the one that failed."""
    return None if tiers.frontier == tiers.efficient else tiers.frontier


_PRIORITIES: dict[Purpose, int] = {
    "synthesise": 0,
    "summarise": 1,
    "extract": 2,
    "rewrite": 2,
    "fields": 2,
    "plan": 3,
    "review": 0,
    "repair": 1,
    "propose": 2,
    "plan_change": 3,
}


def priority(purpose: Purpose) -> int:
    """Return the turn of a call where an engine has more than it can run; lower is first.

    Steps that end an agent come first, so that agents that were started finish before new ones
    start: each one that finishes gives back its place and its memory, and a run that is killed
    leaves whole findings and not many halves. What is not a step of an agent comes last.
    """
    return _PRIORITIES.get(purpose, max(_PRIORITIES.values()))
