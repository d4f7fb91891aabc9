"""What is asked of the door, and what comes back: a value, or a failure as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nemoflows.calls import Outcome, Reply, Request, Unanswered, Unusable
from nemoflows.errors import (
    BadReply,
    EndpointDown,
    NemoflowsError,
    OverBudget,
    RateLimited,
    TerminalError,
    TooManyFailures,
)
from nemoflows.money.budgets import Account

T = TypeVar("T")


UNUSABLE = frozenset({"invalid", "refused", "truncated", "context", "paused", "too_long"})
"""Reasons of failures that lie in the one request and not in the endpoint."""


OVER = "over_budget"
"""Reason of a call that was not made because it no longer fitted the budget."""


NOBODYS = Account()


Check = Callable[[Reply, bool], T]
"""Reads a reply into a value; the flag says that this is the last try. Raises BadReply."""


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """A request and how to read its reply."""

    request: Request
    check: Check[T]
    retry_unusable: int = 0
    """Further draws to ask for where a reply could not be used; recorded failures are free."""
    account: Account = NOBODYS
    """Who asks, and within which budget."""


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A value, and the keys of the recorded calls behind it."""

    value: T
    calls: list[str] = field(default_factory=list)
    stopped: str = ""
    """Why the embedded tier stood in for a model; empty where it did not."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A call that gave no value, as data: one bad item does not end a batch."""

    reason: str
    detail: str
    transient: bool
    calls: list[str] = field(default_factory=list)

    def error(self) -> NemoflowsError:
        """Return the failure as an error to raise."""
        kinds: dict[str, type[NemoflowsError]] = {
            "rate_limited": RateLimited,
            OVER: OverBudget,
            "rejected": TerminalError,
        }
        fallback: type[NemoflowsError] = EndpointDown if self.transient else BadReply
        return kinds.get(self.reason, fallback)(self.detail)


def unwrap(result: Done[T] | Failed) -> Done[T]:
    """Return a `Done`, or raise the failure's error."""
    if isinstance(result, Failed):
        raise result.error()
    return result


def refuse_too_many(failed: Sequence[Failed], n: int, max_failed: float) -> None:
    """Raise where more than a share of `n` items failed.

    Raises:
        EndpointDown: All failures are transient: another attempt of the pod may do.
        TooManyFailures: Some would come back.
    """
    if len(failed) <= max_failed * n:
        return
    kind = EndpointDown if all(f.transient for f in failed) else TooManyFailures
    raise kind(
        f"{len(failed)} of {n} items failed, more than {max_failed:.0%} allowed; the others are "
        f"recorded and will not be paid again. First failure: {failed[0].detail}"
    )


def read_outcome(check: Check[T], outcome: Outcome, *, final: bool) -> Done[T] | Failed:
    """Return what `check` makes of an outcome.

    Args:
        final: This is the last try: a check may keep what holds and drop the rest.
    """
    if isinstance(outcome, Unanswered):
        return Failed(outcome.reason, outcome.detail, outcome.transient)
    if isinstance(outcome, Unusable):
        return Failed(outcome.reason, outcome.detail, transient=False)
    try:
        return Done(check(outcome.reply, final))
    except BadReply as error:
        return Failed("invalid", error.message, transient=False)
