"""A client as one step uses it: with its model, its cache salt, its account."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from nemoflows.calls import Request, Sampling, Thinking
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import OVER_BUDGET, UNUSABLE, CallSpec, Check, Failure, Success
from nemoflows.money.budgets import Account
from nemoflows.types import ModelRef, Policy, ThinkingPolicy, Tier

T = TypeVar("T")

DEEPER = Thinking(mode="budget", budget_tokens=1024)
"""How much a step thinks that failed a gate without: the rung below the next tier.

Source: chosen by reading, not calibrated.
"""


def thoughtful(request: Request, policy: ThinkingPolicy, *, deeper: bool = False) -> Request:
    """Return the request with the thinking that it gets under a policy.

    Args:
        deeper: The step failed a gate and is asked again a rung higher.
    """
    wish = Thinking(mode=policy) if policy != "auto" else request.thinking
    if deeper and (wish is None or wish.mode == "off"):
        wish = DEEPER
    thinks = wish is not None and wish.mode != "off"
    update = {"thinking": wish, "sampling": _warm(request) if thinks else request.sampling}
    return request.model_copy(update=update)


def _warm(request: Request) -> Sampling | None:
    """Return a request's sampling where it has any chance; models do not reason well without."""
    return None if request.sampling and request.sampling.is_greedy else request.sampling


@dataclass(frozen=True, slots=True)
class BoundClient:
    """What a step asks with."""

    llm: LLMClient
    model: ModelRef
    cache_salt: str = ""
    """Another salt, another key: everything is asked anew."""
    thinking: ThinkingPolicy = "auto"
    max_resamples: int = 0
    """Further samples to ask for where a reply could not be used."""
    account: Account = field(default_factory=Account)
    """On whose account it asks, and within which budget."""
    is_deeper: bool = False
    """A gate failed, and its steps are asked again with more thinking."""
    call_keys: list[str] = field(default_factory=list)
    """Keys of the calls that were made with it so far."""

    @classmethod
    def under(cls, policy: Policy, tier: Tier, llm: LLMClient, account: Account) -> BoundClient:
        """Return the client of one tier as a policy has it asked."""
        return cls(
            llm=llm,
            model=policy.model(tier),
            cache_salt=policy.cache_salt,
            thinking=policy.thinking,
            max_resamples=policy.max_resamples,
            account=account,
        )

    def ready(self, request: Request) -> Request:
        """Return a request as it is asked here: of which model, with which salt and thinking."""
        update = {"model": self.model, "cache_salt": self.cache_salt}
        request = request.model_copy(update=update)
        return thoughtful(request, self.thinking, deeper=self.is_deeper)

    def spec(self, request: Request, check: Check[T]) -> CallSpec[T]:
        """Return a request with all that is bound here, as the client takes it."""
        return CallSpec(self.ready(request), check, self.max_resamples, self.account)

    async def ask(
        self, request: Request, check: Check[T], *, stands_in: bool = False
    ) -> Success[T] | Failure:
        """Ask the client; what no longer fits the budget is done without a model.

        Args:
            stands_in: Where the replies cannot be used, so is this: it costs nothing, and a model
                may not make worse what is to be had without one.
        """
        result = await self.llm.complete(self.spec(request, check))
        self.call_keys.extend(result.calls)
        if isinstance(result, Failure):
            if result.reason == OVER_BUDGET:
                return await self._without_model(request, check, result)
            if stands_in and result.reason in UNUSABLE and not self.model.is_builtin:
                return await self._without_model(request, check, result)
        return result

    def deeper(self) -> BoundClient | None:
        """Return the client that thinks more; None where the model cannot."""
        if self.is_deeper or self.thinking != "auto" or not self.llm.can_think(self.model):
            return None
        return replace(self, is_deeper=True)

    async def _without_model(
        self, request: Request, check: Check[T], refused: Failure
    ) -> Success[T] | Failure:
        """Go on without a model: it costs nothing, so the step still gives its best."""
        free = request.model_copy(update={"model": ModelRef()})
        found = await self.llm.complete(CallSpec(free, check))
        if isinstance(found, Failure):
            return refused
        if refused.reason == OVER_BUDGET:
            return Success(found.value, refused.calls, budget_note=refused.detail)
        what = f"{self.model} gave nothing usable ({refused.reason}: {refused.detail.rstrip('.')})"
        told = f"{what}; what stands is the builtin tier's."
        return Success(found.value, refused.calls, stand_in=told)
