"""How a model is served by vLLM, SGLang or NIM, beside a task or on its own.

The arguments are a plan's, which are vLLM's; what another server has no counterpart for is told.

Source of SGLang's: its docs/advanced_features/server_arguments.md at 004813e and http_server.py; of
NIM's: docs.nvidia.com/nim/large-language-models, 2.0 and 2.1, pages on environment variables, on
advanced configuration and on model-free NIM; read in November 2026. Neither was run here.
"""

from __future__ import annotations

import json
import shlex
from typing import Any, Literal, NamedTuple

from nemoflows.gpus.needs import GIB
from nemoflows.gpus.planning import Plan
from nemoflows.models import Dialect
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

VLLM_IMAGE = "vllm/vllm-openai:v0.32.0"
"""The release that the library was tested with, on its CPU build."""

ServerKind = Literal["vllm", "sglang", "nim"]


class Server(NamedTuple):
    """What a cluster has to know of a server."""

    dialect: Dialect
    image: str
    command: tuple[str, ...]
    """Empty for the image's own."""
    port: int
    ready: str
    """Path that answers 200 once it can be asked, never while it loads."""
    cache: str
    """Where its image keeps weights and compiled kernels."""


SERVERS: dict[ServerKind, Server] = {
    "vllm": Server(
        "vllm-server",
        VLLM_IMAGE,
        ("python3", "-m", "vllm.entrypoints.openai.api_server"),
        8000,
        "/health",
        "/root/.cache",
    ),
    "sglang": Server(
        "sglang",
        "lmsysorg/sglang:v0.5.18",
        ("python3", "-m", "sglang.launch_server"),
        30_000,
        "/health",
        "/root/.cache",
    ),
    "nim": Server(
        "nim",
        "nvcr.io/nim/nvidia/model-free-nim:2.0.2",  # serves what NIM_MODEL_PATH names, by vLLM
        (),
        8000,
        "/v1/health/ready",
        "/opt/nim/.cache",
    ),
}

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


class Start(NamedTuple):
    """How a server is started for a plan."""

    args: list[str]
    env: dict[str, str]
    notes: list[str]
    """Arguments of the plan or the settings that it does not get, and why."""


def start(kind: ServerKind, model: ModelRef, plan: Plan, settings: Settings) -> Start:
    """Return how a server of a kind is started."""
    if kind == "vllm":
        env = {"VLLM_NO_USAGE_STATS": "1", **plan.environment()}
        return Start(vllm_flags(model, plan, settings), env, [])
    return (_sglang if kind == "sglang" else _nim)(model, plan, settings)


def vllm_flags(model: ModelRef, plan: Plan, settings: Settings) -> list[str]:
    """Return the arguments of vLLM's own server, with the engine arguments of the plan."""
    # A probe of the kubelet's comes from outside the pod.
    first = {"host": "0.0.0.0", "model": settings.hardware.weights or model.name}  # noqa: S104
    return _flags(first | _arguments("vllm", model, plan, settings))


def nim_variables(model: ModelRef, plan: Plan, cache: str) -> dict[str, str]:
    """Return the variables that every NIM takes, whichever engine is in it."""
    return {
        "NIM_SERVED_MODEL_NAME": model.name,
        "NIM_MAX_MODEL_LEN": str(plan.context_tokens),
        "NIM_TENSOR_PARALLEL_SIZE": str(plan.count),
        "NIM_CACHE_PATH": cache,
    }


def _arguments(kind: ServerKind, model: ModelRef, plan: Plan, settings: Settings) -> dict[str, Any]:
    """Return what a server is to do in vLLM's names, and the parsers in its own."""
    row, engine = plan.model.model, "sglang" if kind == "sglang" else "vllm"
    arguments: dict[str, Any] = plan.engine_arguments() | settings.hardware.engine_arguments
    if model.revision:
        arguments |= {"revision": model.revision}
    if row and (parser := row.reasoning_parsers.get(engine)):
        arguments |= {"reasoning_parser": parser}
    if row and (parser := row.tool_parsers.get(kind) or row.tool_parsers.get(engine)):
        arguments |= {"enable_auto_tool_choice": True, "tool_call_parser": parser}
    arguments |= {
        "served_model_name": model.name,
        "scheduling_policy": "priority",
        "enable_prompt_tokens_details": True,
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
    }
    if settings.hardware.weights.startswith(("s3://", "gs://")):
        arguments.setdefault("load_format", "runai_streamer")
    return arguments


_SGLANG_NAMES = {
    "max_model_len": "context_length", "max_num_seqs": "max_running_requests",
    "max_num_batched_tokens": "chunked_prefill_size", "seed": "random_seed",
    **{name: name for name in (
        "tensor_parallel_size", "dtype", "revision", "load_format", "served_model_name",
        "reasoning_parser", "tool_call_parser", "trust_remote_code",
    )},
}  # fmt: skip
"""SGLang's name of an argument that takes the same values."""
_SGLANG_FOR: dict[tuple[str, Any], dict[str, Any]] = {
    ("enable_prefix_caching", False): {"disable_radix_cache": True},
    ("enable_prefix_caching", True): {},
    ("enable_auto_tool_choice", True): {},
    ("kv_cache_dtype", "fp8"): {"kv_cache_dtype": "fp8_e4m3"},
    ("scheduling_policy", "priority"): {
        "enable_priority_scheduling": True, "schedule_low_priority_values_first": True,
    },
    ("enable_prompt_tokens_details", True): {"enable_cache_report": True},
}  # fmt: skip
"""SGLang's arguments for one of vLLM's with a value; none where it does so by itself."""


def _sglang(model: ModelRef, plan: Plan, settings: Settings) -> Start:
    own = SERVERS["sglang"]
    given: dict[str, Any] = {
        "host": "0.0.0.0",  # noqa: S104  (as above)
        "port": own.port,
        "model_path": settings.hardware.weights or model.name,
    }
    notes = []
    for name, value in _arguments("sglang", model, plan, settings).items():
        if name == "gpu_memory_utilization":
            given |= {"mem_fraction_static": _static_share(plan, value)}
        elif name == "structured_outputs_config" and isinstance(value, dict):
            given |= {
                "grammar_backend": "llguidance",  # as vLLM's `guidance`
                "constrained_json_disable_any_whitespace": True,
            }
        elif name in _SGLANG_NAMES:
            given |= {_SGLANG_NAMES[name]: value}
        elif isinstance(value, str | bool) and (name, value) in _SGLANG_FOR:
            given |= _SGLANG_FOR[name, value]
        else:
            notes.append(f"SGLang has no counterpart that is known here: {name}={value!r}")
    longer = bool(plan.environment())
    env = {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"} if longer else {}
    return Start(_flags({k: v for k, v in given.items() if v is not False}), env, notes)


def _static_share(plan: Plan, utilisation: float) -> float:
    """Return the share of a GPU's memory for weights and cache alone, as SGLang counts it."""
    memory = plan.memory
    static = memory.weights + memory.cache
    return int(1000 * utilisation * static / (static + memory.activations + memory.cuda)) / 1000


def _nim(model: ModelRef, plan: Plan, settings: Settings) -> Start:
    """Return how a NIM is started: by variables, and by vLLM's arguments in one of them."""
    own = SERVERS["nim"]
    arguments = _arguments("nim", model, plan, settings)
    named = ("max_model_len", "served_model_name", "tensor_parallel_size", "revision")
    passed = {name: value for name, value in arguments.items() if name not in named}
    weights = settings.hardware.weights
    revision = f":{model.revision}" if model.revision else ""
    env = nim_variables(model, plan, own.cache) | {
        "NIM_MODEL_PATH": weights or f"hf://{model.name}{revision}",
        "NIM_SERVER_PORT": str(own.port),
        "NIM_PASSTHROUGH_ARGS": shlex.join(_flags(passed)),
        **plan.environment(),
    }
    notes = [
        "NIM_PASSTHROUGH_ARGS are vLLM's: a NIM with SGLang in it takes others",
        "a NIM of one model brings its own: with such an image take NIM_MODEL_PATH out",
    ]
    return Start([], env, notes)


def _flags(arguments: dict[str, Any]) -> list[str]:
    return [word for name, value in arguments.items() for word in _flag(name, value)]


def _flag(name: str, value: Any) -> list[str]:
    spelled = f"--{name.replace('_', '-')}"
    if value is True:
        return [spelled]
    if value is False:
        return [f"--no-{spelled[2:]}"]
    return [spelled, json.dumps(value) if isinstance(value, dict | list) else str(value)]
