"""What the client adds to vLLM in this process, in CPU time per call.

    .venv-vllm/bin/python -m benchmarks.in_process MODEL

MODEL is a local folder or hub id; the promise is about a tiny one. The same prompts are asked of
one engine in turn: bare (template, tokens and AsyncLLM, as anyone would write it), and through the
client, which adds keys, journal, prices and checks. CPU time of this process, user and system; the
engine's own work is done in others. Prints JSON lines like `benchmarks.overhead`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from nemoflows.calls import Part, Request, Sampling, user
from nemoflows.engines.registry import Engines
from nemoflows.engines.vllm import Vllm
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Success
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

RUNS = 5
N_CALLS = 512
N_TOKENS = 64
N_WORDS = 40
ARGUMENTS: dict[str, Any] = {
    "dtype": "bfloat16",
    "enforce_eager": True,
    "max_model_len": 2048,
    "max_num_seqs": 64,
}


SCHEMA: dict[str, Any] = {"enum": ["word for word, " * 9]}
"""One text of about N_TOKENS tokens: every reply is as long as every other."""


async def measure(engine: Vllm, model: ModelRef, folder: str) -> None:
    """Ask in turn, bare and through the client, and print what each costs."""
    llm = _client(engine, folder)
    await _client_s(llm, _requests(model, "warm-up"))
    running = next(iter(engine._slots.values())).running  # noqa: SLF001  (to ask it bare)
    rows: dict[str, list[float]] = {"bare": [], "llm": []}
    for run in range(RUNS):
        rows["bare"].append(await _bare_s(running, _requests(model, f"bare {run}")))
        rows["llm"].append(await _client_s(llm, _requests(model, f"llm {run}")))
    added = [d - b for b, d in zip(rows["bare"], rows["llm"], strict=True)]
    _print("bare_cpu_ms_per_call", rows["bare"], "what vLLM asks of anyone")
    _print("client_cpu_ms_per_call", rows["llm"], "the client, with vLLM")
    _print("added_cpu_ms_per_call", added, "<= 0.5")
    tokens = [spent.usage.output_tokens for spent in llm.spent]
    _print("output_tokens_per_call", [float(n) for n in tokens], f"about {N_TOKENS}")


def _requests(model: ModelRef, run: str) -> list[Request]:
    """Return a run's requests: no two of the benchmark are the same."""
    words = "word " * N_WORDS
    return [
        Request(
            model=model,
            messages=[user([Part(text=f"{run}, call {number}: {words}")])],
            json_schema=SCHEMA,
            max_output_tokens=16 * N_TOKENS,
            sampling=Sampling(temperature=0),
        )
        for number in range(N_CALLS)
    ]


def _client(engine: Vllm, folder: str) -> LLMClient:
    settings = Settings(run="benchmark")
    journal = Journal(str(Path(folder) / "journal"), run="b")
    return LLMClient(Engines(settings, given={"vllm": engine}), journal, settings=settings)


async def _client_s(llm: LLMClient, requests: Sequence[Request]) -> float:
    asks = [CallSpec(request, lambda reply, _: str(json.loads(reply.text))) for request in requests]
    started_s = time.process_time()
    results = await llm.batch(asks)
    seconds = time.process_time() - started_s
    assert all(isinstance(result, Success) for result in results), results[:3]
    return seconds / len(asks) * 1e3


async def _bare_s(running: Any, requests: Sequence[Request]) -> float:
    started_s = time.process_time()
    await asyncio.gather(*(_bare(running, one, f"bare-{n}") for n, one in enumerate(requests)))
    return (time.process_time() - started_s) / len(requests) * 1e3


async def _bare(running: Any, request: Request, name: str) -> str:
    """Ask as a program without nemoflows would."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    prompt = running.tokeniser.apply_chat_template(
        [{"role": "user", "content": request.messages[0].parts[0].text}],
        add_generation_prompt=True,
        return_dict=False,
        enable_thinking=False,
    )
    sampling = SamplingParams(
        max_tokens=request.max_output_tokens,
        temperature=0,
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=StructuredOutputsParams(json=SCHEMA),
    )
    text = ""
    async for output in running.engine.generate({"prompt_token_ids": prompt}, sampling, name):
        text = output.outputs[0].text
    return str(json.loads(text))


def _print(measure: str, values: list[float], promised: str) -> None:
    row = {"measure": measure, "median": median(values), "low": min(values), "high": max(values)}
    print(json.dumps({**row, "promised": promised}), flush=True)


async def main(model: str) -> None:
    """Start one engine and measure on it."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    engine = Vllm(ARGUMENTS, deadline_s=600)
    with tempfile.TemporaryDirectory() as folder:
        try:
            await measure(engine, ModelRef.model_validate(f"vllm:{model}"), folder)
        finally:
            await engine.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
