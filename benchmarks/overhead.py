"""What the library itself costs, in CPU time: import, replay, a batch through the client.

    python -m benchmarks.overhead

Prints one JSON line per measure: the median of several runs, their range, and what is promised.
CPU time of this process, user and system together, so that a busy machine changes little.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from nemoflows.calls import Reply, Request, Usage
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec
from nemoflows.models import BUILT_IN
from nemoflows.money import prices
from nemoflows.money.budgets import Budget
from nemoflows.money.ledger import Spent, fold
from nemoflows.rag import prompts
from nemoflows.settings import Settings
from nemoflows.types import Evidence, ModelRef

RUNS = 5
N_CALLS = 1_000
N_REPLAYS = 5_000
RECORD_BYTES = 2_300
MODEL = ModelRef.model_validate("fake:x")
QUOTES = [
    Evidence(quote="The Elbe is 1,094 kilometres long and ends in the North Sea. " * 3,
             document=f"rivers/{n}.md", start=0, end=180, heading="Rivers > Elbe")
    for n in range(4)
]  # fmt: skip


def import_s() -> float:
    """Return the CPU seconds that a fresh interpreter spends on the import, its own start aside."""
    return _child_s("import nemoflows") - _child_s("pass")


def declare_s() -> float:
    """Return the CPU seconds that our workflows add to flytekit's import, as each pod pays them."""
    ours = "import nemoflows.workflows.rag, nemoflows.workflows.coding"
    return _child_s(ours) - _child_s("import flytekit")


def _child_s(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bare_s_per_write(folder: str) -> float:
    """Return the CPU seconds of a bare atomic write of a record's size: what the disk asks."""
    for name in (f"{n:02x}" for n in range(256)):
        Path(folder, name).mkdir(parents=True)

    def write() -> None:
        for n in range(N_CALLS):
            path = Path(folder, f"{n % 256:02x}", f"{n}.json")
            path.with_suffix(".tmp").write_bytes(b"x" * RECORD_BYTES)
            path.with_suffix(".tmp").replace(path)

    return _cpu_s(write) / N_CALLS


def batch_s_per_call(folder: str) -> float:
    """Return the CPU seconds per call of a batch that is recorded, priced and checked."""
    llm, asks = _client(folder), _asks(N_CALLS)
    return _cpu_s(lambda: asyncio.run(llm.batch(asks))) / N_CALLS


def replays_per_s(folder: str) -> float:
    """Return replays per CPU second: key, read, parse, check, receipt."""
    asyncio.run(_client(folder).batch(_asks(N_REPLAYS)))
    llm, asks = _client(folder), _asks(N_REPLAYS)
    seconds = _cpu_s(lambda: asyncio.run(llm.batch(asks)))
    assert all(spent.replayed for spent in llm.spent)
    return N_REPLAYS / seconds


def money_s_per_call() -> float:
    """Return the CPU seconds per call that budget, price and ledger take together."""
    model = ModelRef.model_validate("anthropic:claude-opus-5-5")
    endpoint, requests = BUILT_IN["anthropic"], [_request(n) for n in range(N_CALLS)]
    used = Usage(input_tokens=900, output_tokens=80)

    async def work() -> None:
        budget, calls = Budget(1e6), []
        for number, request in enumerate(requests):
            n_input, now_s = prices.most_input_tokens(request), time.time()
            worst_usd = prices.worst_usd(
                model, endpoint, n_input=n_input, n_output=request.limit_tokens, at_s=now_s
            )
            held_usd = await budget.reserve(worst_usd)
            usd = prices.price_usd(model, endpoint, used, at_s=now_s)
            budget.count(str(number), usd)
            budget.settle(held_usd)
            calls.append((str(number), usd))
        rows = [_spent(key, usd, used) for key, usd in calls]
        assert fold(rows).n_calls == N_CALLS

    prices.price_usd(model, endpoint, used, at_s=time.time())  # the table is read once
    return _cpu_s(lambda: asyncio.run(work())) / N_CALLS


def _spent(key: str, usd: float | None, used: Usage) -> Spent:
    return Spent(key=key, purpose="summarise", model="m", usage=used, usd=usd, replayed=False)


def _client(folder: str) -> LLMClient:
    settings = Settings(run="benchmark")
    usage = Rule(reply=json.dumps({"summary": "The Elbe is 1,094 kilometres long."}))
    engines = Engines(settings, given={"fake": FakeEngine([usage])})
    return LLMClient(engines, Journal(str(Path(folder) / "journal"), run="b"), settings=settings)


def _asks(n: int) -> list[CallSpec[str]]:
    return [CallSpec(_request(number), _read) for number in range(n)]


def _request(number: int) -> Request:
    asked = prompts.summarise(f"How long is river {number}?", QUOTES)
    return asked.model_copy(update={"model": MODEL})


def _read(reply: Reply, final: bool) -> str:
    del final
    return str(json.loads(reply.text)["summary"])


def _cpu_s(work: Callable[[], object]) -> float:
    started_s = time.process_time()
    work()
    return time.process_time() - started_s


def _print(measure: str, values: list[float], promised: str) -> None:
    row = {"measure": measure, "median": median(values), "low": min(values), "high": max(values)}
    print(json.dumps({**row, "promised": promised}), flush=True)


def main() -> None:
    """Run every measure, all files in one folder.

    It is removed at the end: ext4 passes over inodes that were freed in the last seconds one by
    one, so that creating files right after removing thousands costs several times as much.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = [f"{folder}/{run}" for run in range(RUNS)]
        _print("import_cpu_s", [import_s() for _ in range(RUNS)], "< 0.3")
        _print("declare_cpu_s", [declare_s() for _ in range(RUNS)], "none")
        money = [money_s_per_call() * 1e3 for _ in range(RUNS)]
        _print("budget_price_ledger_cpu_ms_per_call", money, "<= 0.15")
        bare = [bare_s_per_write(f"{place}/bare") * 1e3 for place in places]
        _print("bare_write_cpu_ms", bare, "what the disk asks of anyone")
        batch = [batch_s_per_call(f"{place}/batch") * 1e3 for place in places]
        _print("batch_cpu_ms_per_call", batch, "<= 0.6")
        replays = [replays_per_s(f"{place}/replays") for place in places]
        _print("replays_per_cpu_s", replays, ">= 5000")


if __name__ == "__main__":
    main()
