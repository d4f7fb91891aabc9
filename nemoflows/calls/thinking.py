"""How much a call thinks: its step's default, the policy, and a rung deeper after a failed gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from nemoflows.calls.values import Request, Thinking
from nemoflows.errors import BadInput, BadModel
from nemoflows.models import Endpoint, cannot_stop_thinking
from nemoflows.types import (
    ModelRef,
    ThinkingPolicy,
)

RUNG = Thinking(mode="budget", budget_tokens=1024)
"""How much a step thinks that failed a gate without: the rung below the next tier.

Source: chosen by reading, not calibrated.
"""


def thoughtful(request: Request, policy: ThinkingPolicy, *, deeper: bool = False) -> Request:
    """Return the request with the thinking that it gets under a policy.

    Args:
        deeper: The step failed a gate and is asked again a rung higher.
    """
    wish = Thinking(mode=policy) if policy != "auto" else request.thinking
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
