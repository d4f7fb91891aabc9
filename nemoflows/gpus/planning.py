"""From a model, a context and a number of sequences to GPUs, memory and engine arguments.

Pure functions over frozen values: nothing is read, asked or measured here. The layout of the cache
is vLLM's own (`nemoflows.gpus.memory`); the rest is estimated (`nemoflows.gpus.needs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from nemoflows.errors import BadModel
from nemoflows.gpus.devices import FP8_CACHE_FROM, GPUS, Gpu, Support, find, support
from nemoflows.gpus.memory import Layout, layout
from nemoflows.gpus.needs import (
    GIB,
    MAX_SEQUENCES,
    STEP_TOKENS,
    UTILISATION,
    Host,
    Memory,
    host_of,
    memory_of,
)
from nemoflows.models.geometry import Geometry
from nemoflows.models.weights import Weights
from nemoflows.types import Value

CONTEXT_TOKENS = 32_768
"""Context of one sequence unless the user says otherwise."""
CONCURRENT = 32
"""Sequences at once unless the user says otherwise."""
COUNTS = (1, 2, 4, 8)
"""Numbers of GPUs that are tried: those that tensor parallelism splits heads by, in one machine."""
CacheType = Literal["auto", "bf16", "fp8"]
"""Type of keys and values; `auto` is FP8 where the weights are quantised and the GPU computes it,
as vLLM's recipes have it."""


class Requirements(Value):
    """What a plan must hold."""

    context_tokens: int = Field(gt=0)
    concurrent: int = Field(gt=0)
    prefix_caching: bool
    cache: CacheType


class Sequence(Value):
    """What one sequence's context takes on each GPU, in bytes."""

    keys_and_values: int
    state: int
    rounding: int
    """What blocks add that are larger than what they hold."""


class Plan(Value):
    """Where a model runs, and with which engine arguments."""

    model: Weights
    gpu: Gpu
    count: int
    """GPUs of one machine that share the model (tensor parallelism)."""
    support: Support
    note: str = ""
    """What the precision means on this GPU, where it is not native."""
    context_tokens: int
    concurrent: int
    """Sequences that were asked for."""
    fit: int
    """Sequences that fit at once; more wait in the engine's queue."""
    cache: Literal["bf16", "fp8"]
    prefix_caching: bool
    layout: Layout
    memory: Memory
    sequence: Sequence
    host: Host

    def engine_arguments(self) -> dict[str, Any]:
        """Return vLLM's engine arguments."""
        arguments: dict[str, Any] = {
            "max_model_len": self.context_tokens,
            "max_num_seqs": max(1, min(self.concurrent, self.fit, MAX_SEQUENCES)),
            "max_num_batched_tokens": STEP_TOKENS,
            "gpu_memory_utilization": UTILISATION,
            "enable_prefix_caching": self.prefix_caching,
        }
        if self.count > 1:
            arguments["tensor_parallel_size"] = self.count
        if self.cache == "fp8":
            arguments["kv_cache_dtype"] = "fp8"
        if self.model.precision == "bf16" and self.support == "emulated":
            arguments["dtype"] = "half"
        return arguments

    def environment(self) -> dict[str, str]:
        """Return variables that the engine needs beside its arguments."""
        row = self.model.model
        configured = row.configured_tokens if row else 0
        if configured and self.context_tokens > configured:
            return {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
        return {}

    def __str__(self) -> str:
        """Return the plan in a line."""
        waiting = (
            "" if self.fit >= self.concurrent else f" of {self.concurrent:,} (the others wait)"
        )
        return (
            f"{self.model.name} ({self.model.precision}) on {self.count}x {self.gpu.name}: "
            f"{self.fit:,} sequences at {self.context_tokens:,} tokens{waiting}, "
            f"{self.memory.weights / GIB:.1f} GiB of weights and "
            f"{self.memory.cache / GIB:.1f} GiB of cache on each GPU"
        )


def plan(
    model: Weights,
    *,
    context_tokens: int = CONTEXT_TOKENS,
    concurrent: int = CONCURRENT,
    gpu: str = "",
    prefix_caching: bool = False,
    cache: CacheType = "auto",
) -> Plan:
    """Choose the GPUs for a model.

    The smallest number of GPUs that holds all sequences at once; where none does, the smallest that
    holds the model and one sequence. Without `gpu`, the GPU is chosen too: the least memory in all,
    among those that compute in the model's precision.

    Args:
        model: What is known of the weights.
        context_tokens: Tokens of one sequence's context, its reply included.
        concurrent: Sequences at work at the same time.
        gpu: A GPU by name, with its number where it must be that: `h100`, `h100x4`.
        prefix_caching: Whether prefixes are kept for requests that share them. A hybrid's cache
            only hits in whole blocks, of thousands of tokens, and takes three states per agent.
        cache: Type of keys and values.

    Raises:
        BadInput: No such GPU.
        BadModel: It does not fit, or the GPU cannot take the precision; the message has the
            numbers and what would fit.
    """
    known = model.context_tokens
    if known and context_tokens > known:
        raise BadModel(f"{model.name} takes {known:,} tokens at most, not {context_tokens:,}.")
    needed = Requirements(
        context_tokens=context_tokens,
        concurrent=concurrent,
        prefix_caching=prefix_caching,
        cache=cache,
    )
    if gpu:
        return _on(model, *find(gpu), needed)
    offered = [one for one in GPUS if one.offered and support(model.precision, one)[0] == "native"]
    found = _smallest([made for one in offered for made in _plans(model, one, COUNTS, needed)])
    if found is None:
        raise BadModel(
            f"{model.name} ({model.precision}, {model.weights_bytes / GIB:.0f} GiB) with one "
            f"sequence at {context_tokens:,} tokens fits no machine of up to {COUNTS[-1]} GPUs. "
            "Lower the context, or take a smaller precision."
        )
    return found


def splits(geometry: Geometry, n: int) -> str:
    """Return why a model cannot be split among `n` GPUs; empty where it can.

    Source: the divisions that vLLM 0.32 asserts in its attention, Mamba and expert layers.
    """
    attention, recurrence, experts = geometry.attention, geometry.recurrence, geometry.experts
    if attention.heads % n:
        return f"{attention.heads} attention heads"
    if attention.kv_heads % n and n % attention.kv_heads:
        return f"{attention.kv_heads} heads of keys and values"
    if recurrence and (recurrence.heads % n or (recurrence.groups % n and recurrence.groups > 1)):
        return f"{recurrence.heads} recurrent heads in {recurrence.groups} groups"
    if experts and experts.width % n:
        return f"experts {experts.width} wide"
    return ""


def _on(model: Weights, gpu: Gpu, count: int | None, needed: Requirements) -> Plan:
    kind, note = support(model.precision, gpu)
    if kind == "refused":
        raise BadModel(f"{model.name} ({model.precision}) cannot run on {gpu.name}: {note}.")
    counts = (count,) if count else (1,) if gpu.partition else COUNTS
    if gpu.partition and counts != (1,):
        raise BadModel(f"{gpu.name} is a slice of a GPU: slices cannot share a model.")
    if count and (why := splits(model.geometry, count)):
        raise BadModel(f"{model.name} cannot be split among {count} GPUs: it has {why}.")
    found = _smallest(list(_plans(model, gpu, counts, needed)))
    if found is None:
        raise BadModel(_too_small(model, gpu, counts[-1], needed))
    return found


def _too_small(model: Weights, gpu: Gpu, count: int, needed: Requirements) -> str:
    last = _planned(model, gpu, count, needed)
    one = last.sequence.keys_and_values + last.sequence.state + last.sequence.rounding
    try:
        nearest = plan(model, **needed.model_dump())
        remedy = f"The nearest fit is {nearest.gpu.name}x{nearest.count}."
    except BadModel as error:
        remedy = error.message
    return (
        f"{model.name} ({model.precision}) does not fit {count}x {gpu.name}: of "
        f"{gpu.memory_gib:.1f} GiB the engine takes {gpu.memory_gib * UTILISATION:.1f}, weights "
        f"take {last.memory.weights / GIB:.1f}, activations and CUDA "
        f"{(last.memory.activations + last.memory.cuda) / GIB:.1f}, and one sequence at "
        f"{last.context_tokens:,} tokens {one / GIB:.2f}. {remedy}"
    )


def _plans(
    model: Weights, gpu: Gpu, counts: tuple[int, ...], needed: Requirements
) -> Iterator[Plan]:
    """Yield the plans that hold at least one sequence."""
    for count in counts:
        if not splits(model.geometry, count):
            made = _planned(model, gpu, count, needed)
            if made.fit >= 1:
                yield made


def _smallest(found: list[Plan]) -> Plan | None:
    """Return the plan with the least memory that holds all concurrent, else that holds one."""
    whole = [one for one in found if one.fit >= one.concurrent]
    return min(whole or found, key=lambda one: one.count * one.gpu.memory_gib, default=None)


def _planned(model: Weights, gpu: Gpu, count: int, needed: Requirements) -> Plan:
    geometry, context_tokens = model.geometry, needed.context_tokens
    cache = _cache_type(needed.cache, model, gpu)
    shape = layout(
        geometry,
        cache_bytes=1 if cache == "fp8" else 2,
        tensor_parallel=count,
        prefix_caching=needed.prefix_caching,
        in_flight_tokens=2 * STEP_TOKENS,
    )
    memory = memory_of(model, gpu, count, needed.concurrent)
    kind, note = support(model.precision, gpu)
    keys, taken = shape.token_bytes * context_tokens, shape.sequence_bytes(context_tokens)
    return Plan(
        model=model,
        gpu=gpu,
        count=count,
        support=kind,
        note=note,
        context_tokens=context_tokens,
        concurrent=needed.concurrent,
        fit=int(shape.sequences(max(0, memory.cache), context_tokens)),
        cache=cache,
        prefix_caching=needed.prefix_caching,
        layout=shape,
        memory=memory,
        sequence=Sequence(
            keys_and_values=keys,
            state=shape.state_bytes,
            rounding=taken - keys - shape.state_bytes,
        ),
        host=host_of(model, count),
    )


def _cache_type(wanted: CacheType, model: Weights, gpu: Gpu) -> Literal["bf16", "fp8"]:
    if wanted != "auto":
        return wanted
    quantised = model.precision in {"fp8", "nvfp4"}
    return "fp8" if quantised and gpu.capability >= FP8_CACHE_FROM else "bf16"
