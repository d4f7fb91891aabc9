"""Refusing a wish about thinking that a model has no way to follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from nemoflows.errors import BadInput, BadModel
from nemoflows.models import Endpoint, cannot_stop_thinking
from nemoflows.types import ModelRef, ThinkingPolicy


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
