"""What a step asks through: a client bound to a model, an account and the run's settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from nemoflows.calls import Request, thinking
from nemoflows.llm.client import Door
from nemoflows.llm.results import OVER, Ask, Check, Done, Failed
from nemoflows.money.budgets import Account
from nemoflows.types import (
    ModelRef,
    ThinkingPolicy,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """What a step works with: the door, the model it may ask, and the run's salt."""

    door: Door
    model: ModelRef
    salt: str = ""
    thinking: ThinkingPolicy = "auto"
    retry_unusable: int = 0
    """Further draws to ask for where a reply could not be used."""
    account: Account = field(default_factory=Account)
    """On whose account it asks, and within which budget."""
    is_deeper: bool = False
    """A gate failed, and its steps are asked again with more thinking."""
    spent: list[str] = field(default_factory=list)
    """Keys of the calls that were made here so far."""

    def ready(self, request: Request) -> Request:
        """Return a request as this desk asks it: with the thinking that its purpose gets."""
        return thinking.thoughtful(request, self.thinking, deeper=self.is_deeper)

    async def ask(self, request: Request, check: Check[T]) -> Done[T] | Failed:
        """Ask the door; what no longer fits the budget is done without a model."""
        result = await self.door.ask(self.asking(request, check))
        self.spent.extend(result.calls)
        if isinstance(result, Failed) and result.reason == OVER:
            return await self._without_model(request, check, result)
        return result

    def asking(self, request: Request, check: Check[T]) -> Ask[T]:
        """Return an ask as this desk makes it."""
        return Ask(self.ready(request), check, self.retry_unusable, self.account)

    def deeper(self) -> Desk | None:
        """Return the desk a rung higher; None where the model cannot think more than it did."""
        if self.is_deeper or self.thinking != "auto" or not self.door.can_think(self.model):
            return None
        return replace(self, is_deeper=True)

    async def _without_model(
        self, request: Request, check: Check[T], refused: Failed
    ) -> Done[T] | Failed:
        """Go on with the embedded tier: it costs nothing, so the step still gives its best."""
        free = request.model_copy(update={"model": ModelRef()})
        found = await self.door.ask(Ask(free, check))
        if isinstance(found, Failed):
            return refused
        return Done(found.value, refused.calls, stopped=refused.detail)
