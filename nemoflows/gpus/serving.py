"""How a model is served by vLLM's own server, beside a task or on its own."""

from __future__ import annotations

import json
from typing import Any

from nemoflows.gpus.needs import GIB
from nemoflows.gpus.planning import Plan
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

VLLM_IMAGE = "vllm/vllm-openai:v0.32.0"
"""The release that the library was tested with, on its CPU build."""

PORT = 8000

PERIOD_S = 10

START_S = 900
"""Time that a server has to start, besides loading its weights.

Source: chosen. Compiling kernels takes minutes at the first start; a probe that gives up too early
starts it all over again.
"""

LOAD_GIB_PER_S = 0.1
"""Slowest download of weights that is waited for. Source: chosen, a gigabit per second."""


BEGIN_S = 90.0
"""Time from an empty GPU to the first reply, besides reading weights.

Source: an estimate; no GPU was there to measure it.
"""

READ_GIB_PER_S = 1.0
"""Weights read from a mounted volume. Source: an estimate, as above."""


def load_s(plan: Plan) -> float:
    """Return the time that a task which runs the model itself loads it, estimated."""
    return BEGIN_S + plan.model.weights_bytes / GIB / READ_GIB_PER_S


def start_s(plan: Plan) -> float:
    """Return the time that a server may take until it can be asked."""
    return START_S + plan.model.weights_bytes / GIB / LOAD_GIB_PER_S


def vllm_command() -> list[str]:
    """Return the command of vLLM's own server."""
    return ["python3", "-m", "vllm.entrypoints.openai.api_server"]


def vllm_flags(model: ModelRef, plan: Plan, settings: Settings) -> list[str]:
    """Return the arguments of vLLM's own server, with the engine arguments of the plan."""
    row = plan.model.model
    arguments: dict[str, Any] = plan.engine_arguments() | settings.hardware.engine_arguments
    if model.revision:
        arguments |= {"revision": model.revision}
    if row and (parser := row.reasoning_parsers.get("vllm")):
        arguments |= {"reasoning_parser": parser}
    if row and (parser := row.tool_parsers.get("vllm")):
        arguments |= {"enable_auto_tool_choice": True, "tool_call_parser": parser}
    arguments |= {
        "served_model_name": model.name,
        "scheduling_policy": "priority",
        "enable_prompt_tokens_details": True,
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
    }
    if settings.hardware.weights.startswith(("s3://", "gs://")):
        arguments.setdefault("load_format", "runai_streamer")
    # A probe of the kubelet's comes from outside the pod.
    flags = ["--host", "0.0.0.0", "--model", settings.hardware.weights or model.name]  # noqa: S104
    for name, value in arguments.items():
        flags += _flag(name, value)
    return flags


def _flag(name: str, value: Any) -> list[str]:
    spelled = f"--{name.replace('_', '-')}"
    if value is True:
        return [spelled]
    if value is False:
        return [f"--no-{spelled[2:]}"]
    return [spelled, json.dumps(value) if isinstance(value, dict | list) else str(value)]
