"""The plan that the environment asks for."""

from __future__ import annotations

from nemoflows.gpus.planning import Plan, plan
from nemoflows.models.weights import weights_of
from nemoflows.settings import Settings
from nemoflows.types import ModelRef


def planned(settings: Settings, model: ModelRef) -> Plan | None:
    """Return the plan for a model with the settings' wishes; None where its shape is unknown.

    Raises:
        BadInput: No such GPU.
        BadModel: It does not fit.
    """
    known = weights_of(model.name, settings.hardware.precision or None)
    if known is None:
        return None
    return plan(
        known,
        context_tokens=settings.hardware.context_tokens,
        concurrent=settings.hardware.concurrent,
        gpu=settings.gpu,
        prefix_caching=bool(settings.hardware.engine_arguments.get("enable_prefix_caching", False)),
    )
