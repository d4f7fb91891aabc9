"""What is asked of the client, and what comes back: a value, or a failure as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from nemoflows.calls import Answered, Outcome, Reply, Request, Unanswered, Unusable, recover, wire
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
INVALID = "invalid"
"""Reason of a reply that came and that its check refused."""
OVER_BUDGET = "over_budget"
"""Reason of a call that was not made because it no longer fitted the budget."""
NOTHING_BETTER = frozenset({"rejected", "too_long"})
"""Ends of a second ask that say nothing better than the first one's: that was paid and counts."""
NO_ACCOUNT = Account()
Check = Callable[[Reply, bool], T]
"""Reads a reply into a value; the flag says that this is the last try. Raises BadReply."""


UNREADABLE = (MemoryError, RecursionError, OverflowError, UnicodeError)
"""What a reply can make its reading raise, at every reading anew; other errors are the reader's."""


@dataclass(frozen=True, slots=True)
class CallSpec(Generic[T]):
    """A request and how to read its reply."""

    request: Request
    check: Check[T]
    max_resamples: int = 0
    """Further samples to ask for where a reply could not be used; recorded failures are free."""
    account: Account = NO_ACCOUNT
    """Who asks, and within which budget."""

    def sample(self, number: int) -> Request:
        """Return the request for a further sample; number 0 is the request itself."""
        if not number:
            return self.request
        update: dict[str, object] = {"sample": self.request.sample + number}
        if self.request.sampling and self.request.sampling.is_greedy:
            update["sampling"] = None  # the same draw again would be the same reply
        return self.request.model_copy(update=update)


@dataclass(frozen=True, slots=True)
class Success(Generic[T]):
    """A value, and the keys of the recorded calls behind it."""

    value: T
    calls: list[str] = field(default_factory=list)
    budget_note: str = ""
    """Why the tier without a model stood in for one; empty where it did not."""
    stand_in: str = ""
    """What was wrong with the model's replies, where that tier's stands for them; else empty."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that gave no value, as data: one bad item does not end a batch."""

    reason: str
    detail: str
    transient: bool
    calls: list[str] = field(default_factory=list)

    def error(self) -> NemoflowsError:
        """Return the failure as an error to raise."""
        kinds: dict[str, type[NemoflowsError]] = {
            "rate_limited": RateLimited,
            OVER_BUDGET: OverBudget,
            "rejected": TerminalError,
        }
        fallback: type[NemoflowsError] = EndpointDown if self.transient else BadReply
        return kinds.get(self.reason, fallback)(self.detail)


def unwrap(result: Success[T] | Failure) -> Success[T]:
    """Return a `Success`, or raise the failure's error."""
    if isinstance(result, Failure):
        raise result.error()
    return result


def refuse_too_many(failed: Sequence[Failure], n: int, max_failed: float) -> None:
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


def read_outcome(spec: CallSpec[T], outcome: Outcome, *, final: bool) -> Success[T] | Failure:
    """Return what the spec's check makes of an outcome.

    A reply that it refuses is looked at once more, for what was asked for inside it.

    Args:
        final: This is the last try: a check may keep what holds and drop the rest.
    """
    if isinstance(outcome, Unanswered):
        return Failure(outcome.reason, outcome.detail, outcome.transient)
    if isinstance(outcome, Unusable):
        return Failure(outcome.reason, outcome.detail, transient=False)
    try:
        if spec.request.json_schema is not None:
            return Success(spec.check(outcome.reply, final))
        problem = "The reply holds thoughts alone."
    except BadReply as error:
        problem = error.message
    except UNREADABLE as error:
        problem = f"Reading the reply ends with {type(error).__name__}."
    if (reply := recover.recovered(outcome.reply, spec.request.json_schema)) is not None:
        try:
            return Success(spec.check(reply, final))
        except BadReply as error:
            problem = error.message
        except UNREADABLE as error:
            problem = f"Reading the reply ends with {type(error).__name__}."
    return Failure(INVALID, problem, transient=False)


def second_ask(request: Request, outcome: Outcome, read: object) -> Request | None:
    """Return what to ask after a failure: the error shown, or twice the room; None to give up."""
    if not isinstance(read, Failure):
        return None
    if isinstance(outcome, Answered):
        return wire.ask_again(request, reply_text=outcome.reply.text, error=read.detail)
    if read.reason == "truncated":
        return request.model_copy(update={"max_output_tokens": 2 * request.max_output_tokens})
    if read.reason == "paused" and isinstance(outcome, Unusable):
        return wire.go_on(request, outcome.reply)
    return None


def better(first: Success[T] | Failure, second: Success[T] | Failure) -> Success[T] | Failure:
    """Return the second ask's result, unless it only says that it was refused."""
    refused = isinstance(second, Failure) and second.reason in NOTHING_BETTER
    return first if refused else second
