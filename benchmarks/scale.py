"""How CPU and memory grow with documents, records, calls and agents.

    python -m benchmarks.scale                      # what fits some minutes
    python -m benchmarks.scale --measure build --sizes 1000,10000,100000

Prints one JSON line per measure and size: CPU of the process and its children, its peak resident
memory, each in a fresh interpreter; then one line per measure with the exponent between its
smallest and largest size (1 is linear). Sizes of one measure work in one folder each.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = {
    "build": (1_000, 10_000),
    "calls": (1_000, 5_000, 20_000),
    "records": (1_000, 10_000),
    "agents": (1_000, 3_000),
    "trees": (30, 3_000),
}
"""What is measured where nothing else is asked for."""
RUNS = 20
"""Test runs after the first one in a sandbox."""
GROUP = 100
"""Calls whose requests and results a program holds at once: what it holds is not ours."""
WORDS = (
    *("river", "lake", "bridge", "harbour", "tower", "market", "school", "museum", "station"),
    *("garden", "forest", "valley", "coast", "island", "castle", "church", "street", "square"),
    *("village", "railway", "canal", "quarry", "mill", "ferry"),
)


def document(number: int) -> str:
    """Return a small document that no other one is like."""
    one, other = WORDS[number % len(WORDS)], WORDS[number // len(WORDS) % len(WORDS)]
    return (
        f"# The {one} of {other}ton {number}\n\nThe {one} of {other}ton {number} was opened in "
        f"{1500 + number % 500}. It is {number % 997 + 3} metres long, and {number * 7 % 9973} "
        f"people come to see it in a year.\n"
    )


def write_corpus(n: int, corpus: Path) -> None:
    """Write n documents, but for folders of a thousand that are there."""
    for first in range(0, n, 1000):
        part = corpus / f"{first // 1000:04d}"
        if not part.exists():
            part.mkdir(parents=True)
            for number in range(first, min(first + 1000, n)):
                (part / f"{number}.md").write_text(document(number))


def build(n: int, folder: Path) -> dict[str, float]:
    """Index n documents, add one, and ask twenty questions of the index."""
    from nemoflows.search import build_index, open_index

    corpus = folder / "corpus"
    write_corpus(n, corpus)
    time.sleep(2.5)  # a file that changed just now is read again, to be sure
    at_start_s = _cpu_s()
    build_index(str(corpus), str(folder / "index"))
    built_s = _cpu_s() - at_start_s
    (corpus / "one-more.md").write_text(document(n))
    index = build_index(str(corpus), str(folder / "index"))
    added_s = _cpu_s() - at_start_s - built_s
    opened = open_index(index)
    for number in range(20):
        opened.search(f"How long is the {WORDS[number]} of {WORDS[number + 1]}ton?")
    asked_s = _cpu_s() - at_start_s - built_s - added_s
    return {"cpu_s": built_s, "add_one_share": added_s / built_s, "query_cpu_ms": asked_s * 50}


def calls(n: int, folder: Path) -> dict[str, float]:
    """Make n calls, one after another in groups, that are recorded, priced and checked."""
    from benchmarks.overhead import _client, _read, _request
    from nemoflows.llm.results import CallSpec

    llm = _client(str(folder))

    async def work() -> None:
        for first in range(0, n, GROUP):
            await llm.batch([CallSpec(_request(first + k), _read) for k in range(GROUP)])

    at_start_s = _cpu_s()
    asyncio.run(work())
    return {"cpu_s": _cpu_s() - at_start_s}


def records(n: int, folder: Path) -> dict[str, float]:
    """List the runs of a journal with n records, a thousand each, by both commands."""
    from nemoflows.journal import Journal

    environment = os.environ | {"NEMOFLOWS_JOURNAL": str(folder / "journal")}
    _measure("calls", GROUP, folder)
    journal = Journal(str(folder / "journal"))
    made = next(journal.records())
    for number in range(n - GROUP):
        key = hashlib.sha256(str(number).encode()).hexdigest()
        journal.put(made.model_copy(update={"key": key, "run": f"run{number // 1000}"}))
    listed: dict[str, float] = {}
    for command in (["journal", "runs"], ["runs"]):
        told = _run([str(Path(sys.executable).with_name("nemoflows")), *command], environment)
        name = "_".join(command)
        listed |= {f"{name}_{key}": value for key, value in told.items()}
    return {"cpu_s": listed["journal_runs_cpu_s"], **listed}


def agents(n: int, folder: Path) -> dict[str, float]:
    """Let n agents of one process ask a loopback endpoint that answers after 50 ms."""
    from benchmarks.endpoint import Endpoint
    from benchmarks.overhead import _read, _request
    from nemoflows.engines.registry import Engines
    from nemoflows.journal import Journal
    from nemoflows.llm.client import LLMClient
    from nemoflows.llm.results import CallSpec, Success
    from nemoflows.models import Endpoint as Known
    from nemoflows.settings import Settings
    from nemoflows.types import ModelRef

    with Endpoint(latency_s=0.05) as endpoint:
        known = Known(dialect="compatible", base_url=endpoint.url)
        settings = Settings(run="scale", endpoints={"loop": known})
        llm = LLMClient(Engines(settings), Journal(str(folder / "j"), run="s"), settings=settings)
        update = {"model": ModelRef.model_validate("loop:tiny")}
        specs = [CallSpec(_request(k).model_copy(update=update), _read) for k in range(n)]

        async def work() -> int:
            results = await llm.batch(specs)
            await llm.aclose()
            return sum(not isinstance(result, Success) for result in results)

        at_start_s = _cpu_s()
        failed = asyncio.run(work())
        busy = endpoint.stats()["busy_share"]
    return {"cpu_s": _cpu_s() - at_start_s, "failed": failed, "busy_share": busy}


def trees(n: int, folder: Path) -> dict[str, float]:  # noqa: ARG001 - a sandbox has its own
    """Run a command in sandboxes that show n files, of which each run changes one."""
    from nemoflows.sandbox.runs import Job, Sandbox, available
    from nemoflows.sandbox.trees import Tree

    tree = Tree({f"p{k // 100}/m{k}.py": b"x = %d\n" % k for k in range(n)})

    async def work(n_runs: int) -> float:
        at_start_s = _cpu_s()
        levels = await available()
        sandbox = Sandbox(levels[-1], n=1)
        for number in range(n_runs):
            await sandbox.run(Job(tree.changed({"p0/m0.py": f"{number}\n"}), argv=["/bin/true"]))
        await sandbox.aclose()
        return _cpu_s() - at_start_s

    first_s, all_s = (asyncio.run(work(n_runs)) for n_runs in (1, 1 + RUNS))
    return {"cpu_s": (all_s - first_s) / RUNS, "first_cpu_s": first_s}


MEASURES: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "build": build, "calls": calls, "records": records, "agents": agents, "trees": trees,
}  # fmt: skip


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _measure(name: str, n: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", "--one", name, str(n), str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Return CPU and peak memory of a command, by the kernel's own count of that one child."""
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}


def main() -> None:
    """Measure, each size in an interpreter and a folder of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", choices=MEASURES, action="append")
    parser.add_argument("--sizes", default="")
    parser.add_argument("--one", nargs=3, default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        name, n, place = asked.one
        found = MEASURES[name](int(n), Path(place))
        print(json.dumps({"measure": name, "n": int(n), **found, "peak_mib": _peak_mib()}))
        return
    for name in asked.measure or MEASURES:
        sizes = [int(size) for size in asked.sizes.split(",") if size] or SIZES[name]
        rows = []
        for n in sizes:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(_measure(name, n, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
        print(json.dumps({"measure": name, **_exponents(rows)}), flush=True)


def _exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    first, last = rows[0], rows[-1]
    ratio = math.log(last["n"] / first["n"]) or 1.0
    return {
        f"{key}_exponent": math.log(last[key] / first[key]) / ratio for key in ("cpu_s", "peak_mib")
    }


if __name__ == "__main__":
    main()
