"""A run within a budget, killed at random: `python -m tests.budgeted URL FOLDER CAP KILLS`.

A hundred agents make two calls each at the server at URL. Every attempt of the run is a forked
child of one process that has the libraries loaded. Prints one JSON line: what the last attempt,
which nobody kills, found and counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from nemoflows import rag
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.models import Endpoint
from nemoflows.money.budgets import Account
from nemoflows.money.ledger import fold
from nemoflows.settings import Settings
from nemoflows.storage.store import Records
from nemoflows.types import Index, ModelRef
from tests.journals import opened

QUESTIONS = ["How long is the Elbe" + "?" * number for number in range(100)]
USD_PER_MTOK = (1.0, 2.0)
CONCURRENCY = 8
LATENCY_S = 0.02


def attempt(url: str, index: Index, folder: Path, cap_usd: float) -> dict[str, object]:
    """Run all agents within the budget, and return what they found and what it cost."""
    near = Endpoint(dialect="openai", base_url=url, usd_per_mtok=USD_PER_MTOK)
    settings = Settings(run="budgeted", endpoints={"near": near}, concurrency=CONCURRENCY)
    llm = LLMClient(
        Engines(settings), Journal(str(folder / "j"), run="budgeted"), settings=settings
    )
    budget = llm.history.open_budget(cap_usd, scope="s", call_keys=[])
    account = Account(task="research", tier="efficient", budget=budget, scope="s")
    client = BoundClient(llm, ModelRef.model_validate("near:tiny"), account=account)
    found = asyncio.run(rag.research(QUESTIONS, index=index, client=client, k=3, hops=1))
    in_doubt = llm.in_doubt()
    told = "".join(finding.model_dump_json() for finding in found)
    return {
        "found": hashlib.sha256(told.encode()).hexdigest(),
        "budget_note": sum(bool(finding.budget_note) for finding in found),
        "answered": sum(finding.not_found is None for finding in found),
        "ledger_usd": fold(llm.calls(client.call_keys)).usd,
        "n_in_doubt": len(in_doubt),
        "used_usd": budget.used_usd,
    }


def n_begun(store: Records) -> int:
    """Return how many attempts all processes so far have announced."""
    names = store.names("intents")
    return sum((store.read(name) or b"").count(b'"begun"') for name in names)


def wait_for_attempts(store: Records, n: int, pid: int) -> None:
    """Wait until so many attempts were announced: a run may stop earlier."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while n_begun(store) < n and os.waitid(os.P_PID, pid, ended) is None:
        time.sleep(0.002)


def main() -> None:
    """Kill as often as is asked, then run to the end."""
    import openai  # noqa: F401 - loaded once, for all children
    from openai import AsyncOpenAI  # noqa: F401

    url, folder, cap_usd, n_kills = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    index = Index.model_validate_json((folder / "index.json").read_text("utf-8"))
    draws, result, store = random.Random(7), folder / "result.json", opened(folder / "j")
    for number in range(int(n_kills) + 1):
        pid = os.fork()
        if pid == 0:
            try:
                result.write_text(json.dumps(attempt(url, index, folder, cap_usd)), "utf-8")
            finally:
                os._exit(0)
        if number < int(n_kills):
            wait_for_attempts(store, n_begun(store) + draws.randint(1, 2 * CONCURRENCY), pid)
            time.sleep(draws.uniform(0.0, LATENCY_S))
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(result.read_text("utf-8"))


if __name__ == "__main__":
    main()
