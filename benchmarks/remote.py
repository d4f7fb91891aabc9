"""What asking an endpoint costs, and how well its capacity is used.

    python -m benchmarks.remote

Prints one JSON line per measure. CPU times are of this process, user and system together; the
endpoint, on loopback, has a process of its own. The two clients are measured in turns. The journal
lies in the home folder, as it does by default: in a temporary folder that has just lost thousands
of files ext4 takes ten times as long to make one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.endpoint import Endpoint
from nemoflows.calls import Reply, Request, wire
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Success
from nemoflows.models import Endpoint as Declared
from nemoflows.rag import prompts
from nemoflows.settings import Settings
from nemoflows.types import Evidence, ModelRef

RUNS = 5
N_CALLS = 1_280
AGENTS = 64
MODEL = ModelRef.model_validate("near:tiny")
LATENCY_S = 0.05
CAP = 20
CAPPED_S = 10.0
BUSY_S = 3.0
QUOTES = [
    Evidence(quote="The Elbe is 1,094 kilometres long and ends in the North Sea. " * 3,
             document=f"rivers/{n}.md", start=0, end=180, heading="Rivers > Elbe")
    for n in range(4)
]  # fmt: skip


def _request(number: int) -> Request:
    asked = prompts.summarise(f"How long is river {number}?", QUOTES)
    return asked.model_copy(update={"model": MODEL})


def _read(reply: Reply, final: bool) -> str:
    del final
    return str(json.loads(reply.text)["summary"])


def llm(url: str, folder: Path) -> LLMClient:
    """Return a client with everything on: journal, prices, limits, checks."""
    near = Declared(
        dialect="openai",
        base_url=url,
        usd_per_mtok=(0.05, 0.2),
        rpm=10_000_000,
        itpm=10_000_000_000,
        otpm=10_000_000_000,
    )
    settings = Settings(run="benchmark", endpoints={"near": near}, concurrency=AGENTS)
    return LLMClient(Engines(settings), Journal(str(folder), run="b"), settings=settings)


async def ours_s(url: str, folder: Path) -> float:
    """Return the CPU seconds per call through the client: recorded, priced, checked."""
    made = llm(url, folder)
    await made.preflight(MODEL)
    asks = [CallSpec(_request(number), _read) for number in range(N_CALLS)]
    started_s = time.process_time()
    results = await made.batch(asks)
    spent_s = time.process_time() - started_s
    assert all(isinstance(result, Success) for result in results)
    await made.aclose()
    return spent_s / N_CALLS


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[Callable[[int], Awaitable[object]]]:
    """Yield what asks by the SDK's default client and parses the reply: 64 calls at once."""
    import openai

    slots = asyncio.Semaphore(AGENTS)
    async with openai.AsyncOpenAI(api_key="none", base_url=url) as client:

        async def one(number: int) -> object:
            request = _request(number)
            text = "\n\n".join(wire.render(part) for part in request.messages[0].parts)
            async with slots:
                done = await client.chat.completions.create(
                    model="tiny",
                    messages=[{"role": "user", "content": text}],
                    max_completion_tokens=512,
                )
            return str(json.loads(done.choices[0].message.content or "")["summary"])

        yield one


async def bare_s(url: str) -> float:
    """Return the CPU seconds per call of the bare client."""
    async with bare(url) as one:
        await one(0)
        started_s = time.process_time()
        await asyncio.gather(*(one(number) for number in range(N_CALLS)))
        return (time.process_time() - started_s) / N_CALLS


def overhead(folder: Path) -> None:
    """Compare the two clients, in turns, and print both and their ratio."""
    ours, others = [], []
    with Endpoint() as endpoint:
        for run in range(RUNS):
            others.append(asyncio.run(bare_s(endpoint.url)) * 1e3)
            ours.append(asyncio.run(ours_s(endpoint.url, folder / str(run))) * 1e3)
    _print("bare_client_cpu_ms_per_call", others, "what the SDK's default client asks")
    _print("client_cpu_ms_per_call", ours, "below the bare client, same run")
    ratios = [one / other for one, other in zip(ours, others, strict=True)]
    _print("client_to_bare_client", ratios, "< 1")


async def _for_a_while(ask: Callable[[int], Awaitable[object]], seconds: float) -> int:
    """Ask without a pause from 64 agents, and return how many calls were answered."""
    end_s, numbers, n_done = time.monotonic() + seconds, itertools.count(), 0

    async def agent() -> None:
        nonlocal n_done
        while time.monotonic() < end_s:
            answered = bool(await ask(next(numbers)))
            n_done += answered  # not in one line: others count during the wait

    await asyncio.gather(*(agent() for _ in range(AGENTS)))
    return n_done


def driven(seconds: float, folder: Path, **endpoint: Any) -> tuple[int, dict[str, Any]]:
    """Drive an endpoint from 64 agents; return what was answered and what the endpoint saw."""

    async def work(url: str) -> int:
        made = llm(url, Path(tempfile.mkdtemp(dir=folder)))
        await made.preflight(MODEL)

        async def one(number: int) -> bool:
            done = await made.complete(CallSpec(_request(number), _read))
            return isinstance(done, Success)

        try:
            return await _for_a_while(one, seconds)
        finally:
            await made.aclose()

    with Endpoint(**endpoint) as running:
        return asyncio.run(work(running.url)), running.stats()


def driven_bare(seconds: float, **endpoint: Any) -> dict[str, Any]:
    """Drive an endpoint from 64 agents by the bare client; return what it saw."""

    async def work(url: str) -> None:
        async with bare(url) as one:
            await _for_a_while(one, seconds)

    with Endpoint(**endpoint) as running:
        asyncio.run(work(running.url))
        return running.stats()


def busy(folder: Path) -> None:
    """Print how much of the time 64 agents keep an endpoint busy that takes 50 ms a call."""
    ours, others = [], []
    for _ in range(RUNS):
        others.append(driven_bare(BUSY_S, latency_s=LATENCY_S))
        ours.append(driven(BUSY_S, folder, latency_s=LATENCY_S)[1])
    for name, told in (("bare_client_", others), ("", ours)):
        shares = [seen["busy_share"] for seen in told]
        _print(f"{name}busy_share_64_agents_50_ms", shares, ">= 0.95 where a core allows")
        rates = [seen["answered"] / BUSY_S for seen in told]
        _print(f"{name}calls_per_s_64_agents_50_ms", rates, "1280 would be all of them")


def capped(folder: Path, latency_s: float, retry_after: str = "") -> None:
    """Print how much of a hidden cap is used, and how many calls it refused."""
    name = f"cap_{CAP}_{latency_s * 1e3:g}_ms" + (retry_after and f"_retry_after_{retry_after}_s")
    _, seen = driven(CAPPED_S, folder, latency_s=latency_s, cap=CAP, retry_after=retry_after)
    ideal = CAP / latency_s * CAPPED_S
    _print(f"{name}_throughput_share", [seen["answered"] / ideal], ">= 0.8")
    refused = seen["refused"] / (seen["answered"] + seen["refused"])
    _print(f"{name}_refused_share", [refused], "<= 0.03")


def _print(measure: str, values: list[float], promised: str) -> None:
    row: dict[str, object] = {"measure": measure, "median": median(values)}
    row |= {"low": min(values), "high": max(values), "promised": promised}
    print(json.dumps(row), flush=True)


def main() -> None:
    """Run every measure."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:
        folder = Path(name)
        overhead(folder)
        busy(folder)
        for latency_s in (0.05, 0.2, 0.5):
            capped(folder, latency_s)
        capped(folder, 0.2, "1")


if __name__ == "__main__":
    main()
