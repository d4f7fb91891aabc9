"""What a real small model adds to the builtin tier, and what it takes.

    python -m benchmarks.models ENDPOINT:MODEL DIR… [--n N] [--journal DIR]

A DIR with corpus.jsonl {id, title, text} and qa.jsonl {question, answers, gold_ids} is asked of: N
questions of it, evenly spread, over an index of all paragraphs, three passages each. Of a DIR with
tasks.jsonl, as HumanEvalPack or MBPP have them, N functions are written or repaired, with the full
tests as gate. The endpoint is declared in NEMOFLOWS_ENDPOINTS, as for a run;
`benchmarks.small_model` serves one on loopback. Prints JSON lines. A journal that is kept holds
every reply as it came, and replays what did not change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.answers import Paragraphs, Row, read
from benchmarks.repair import LIMITS
from nemoflows.calls.contract import MAX_QUOTES
from nemoflows.coding import functions, replies, snapshots, testing
from nemoflows.coding.candidates import solved
from nemoflows.coding.runs import TestRuns
from nemoflows.coding.steps import plan_change, proposals
from nemoflows.coding.steps import propose as proposed
from nemoflows.coding.types import Change, CodingTask
from nemoflows.engines.builtin import extract
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Success
from nemoflows.rag import gates
from nemoflows.rag.agent import AgentState
from nemoflows.rag.quoting import quoting
from nemoflows.settings import Settings
from nemoflows.types import Evidence, ModelRef

K = 3
N = 40
PROPOSALS = 2
"""Per function: the likeliest one and a sample."""


def _holds(evidence: Sequence[Evidence], answers: Sequence[str]) -> bool:
    quotes = [piece.quote.casefold() for piece in evidence]
    return any(answer.casefold() in quote for answer in answers for quote in quotes)


async def asked(row: Row, index: Paragraphs, client: BoundClient) -> Row:
    """Return what the builtin tier and the model chose for a question, and what it took."""
    question, passages = row["question"], index.search(row["question"], K)
    own = extract(question, passages, k=MAX_QUOTES)
    result = await client.ask(*quoting(question, passages))
    chosen = result.value if isinstance(result, Success) else []
    state = AgentState(question, [], evidence=chosen, own=own)
    kept = not gates.low_confidence(question, chosen, passages, client.model, own)
    right = _holds(state.quotes[:1], row["answers"])
    return {
        "usable at the first ask": isinstance(result, Success) and len(result.calls) == 1,
        "usable": isinstance(result, Success),
        "builtin's first is right": _holds(own[:1], row["answers"]),
        "model's first is right": _holds(chosen[:1], row["answers"]),
        "answer in the builtin's": _holds(own, row["answers"]),
        "answer in the model's": _holds(chosen, row["answers"]),
        "answer in the evidence": _holds(state.quotes, row["answers"]),
        "kept without escalation": kept,
        "kept and right": kept and right,
        "kept and the answer in the evidence": kept and _holds(state.quotes, row["answers"]),
        **_taken(client, result.calls),
    }


def _taken(client: BoundClient, keys: Sequence[str]) -> Row:
    spent = [call.usage for call in client.llm.calls(keys) if call.usage]
    return {
        "input tokens, median": sum(usage.input_tokens for usage in spent),
        "output tokens, median": sum(usage.output_tokens for usage in spent),
    }


async def questions(folder: Path, n: int, client: BoundClient, work: Path) -> list[Row]:
    """Return a row for each of `n` questions."""
    index = Paragraphs(read(folder / "corpus.jsonl"), work)
    return [await asked(row, index, client) for row in spread(read(folder / "qa.jsonl"), n)]


async def programs(
    folder: Path, n: int, client: BoundClient, work: Path
) -> tuple[list[Row], list[Row]]:
    """Return a row for each of `n` functions, and one for each change that was proposed."""
    runs = TestRuns(client.llm.journal.root, n=len(os.sched_getaffinity(0)))
    functions_told: list[Row] = []
    edits_told: list[Row] = []
    try:
        for row in spread(read(folder / "tasks.jsonl"), n):
            change = await _begun(row, client, runs, work)
            tree = snapshots.opened(change.baseline.task.repository)
            asks = proposals(change, tree, client, PROPOSALS)
            edits_told += [await _edit(ask, client) for ask in asks]
            functions_told.append(await _solved(change, client, runs))
    finally:
        await runs.aclose()
    return functions_told, edits_told


async def _begun(row: dict[str, Any], client: BoundClient, runs: TestRuns, work: Path) -> Change:
    """Return a function's task examined: the buggy one, or words that ask for one."""
    is_broken = "buggy" in row
    issue = row["declaration"] + row["buggy"] if is_broken else row["text"]
    tests = row["test"] if is_broken else "\n".join([row["setup"], *row["tests"]])
    tree = functions.tree(functions.head(issue), tests)
    repository = snapshots.keep(tree, name="function", root=str(work))
    task = CodingTask(repository=repository, issue=issue, limits=LIMITS)
    baseline = await testing.examine(task, runs=runs, index_root=str(work))
    free = BoundClient(client.llm, ModelRef())
    return await plan_change(baseline, client=free)


async def _edit(ask: CallSpec[replies.Changed], client: BoundClient) -> Row:
    """Return what came of asking for one change; the flow's own asking replays it."""
    result = await client.llm.complete(ask)
    applies = isinstance(result, Success)
    formed = isinstance(result, Success) or result.detail == replies.UNCHANGED
    return {
        "well formed": formed,
        "changes something": applies,
        "changes something at the first ask": applies and len(result.calls) == 1,
        **_taken(client, result.calls),
    }


async def _solved(change: Change, client: BoundClient, runs: TestRuns) -> Row:
    asked = await proposed(change, client=client, n=PROPOSALS)
    by_model = solved(await testing.run_tests(asked, runs=runs))
    by_search = solved(await testing.search_repair(change, runs=runs))
    return {
        "solved by search": by_search,
        "solved by the model": by_model,
        "solved by either": by_model or by_search,
    }


def spread(rows: Sequence[Row], n: int) -> Sequence[Row]:
    """Return `n` rows, evenly spread."""
    return rows[:: max(1, len(rows) // n)][:n]


def report(model: ModelRef, folder: Path, rows: Sequence[Row]) -> None:
    """Print the sums over rows, and medians of what was taken."""
    for name in rows[0]:
        values = [row[name] for row in rows]
        is_count = isinstance(values[0], bool)
        shown = f"{values.count(True)} of {len(rows)}" if is_count else median(values)
        told = {"model": Path(str(model)).name, "set": folder.name, "measure": name, "value": shown}
        print(json.dumps(told), flush=True)


async def measure(model: ModelRef, folders: Sequence[Path], n: int, journal: str) -> None:
    """Print what came of each set."""
    settings = Settings()
    with tempfile.TemporaryDirectory() as work:
        llm = LLMClient(Engines(settings), Journal(journal or f"{work}/journal"), settings=settings)
        client = BoundClient(llm, model)
        try:
            for folder in folders:
                own = Path(work) / folder.name
                if (folder / "qa.jsonl").exists():
                    report(model, folder, await questions(folder, n, client, own))
                else:
                    for rows in await programs(folder, n, client, own):
                        report(model, folder, rows)
        finally:
            llm.flush()
            await llm.aclose()


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=ModelRef.model_validate)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--n", type=int, default=N)
    parser.add_argument("--journal", default="")
    given = parser.parse_args()
    asyncio.run(measure(given.model, given.folders, given.n, given.journal))


if __name__ == "__main__":
    main()
