"""What a real small model adds to the builtin tier, and what it takes: `extract` and research.

    python -m benchmarks.models ENDPOINT:MODEL DIR [N]

DIR holds corpus.jsonl {id, title, text} and qa.jsonl {question, answers, gold_ids}; N questions of
it, evenly spread, are asked over an index of all paragraphs, three passages each. The endpoint is
declared in NEMOFLOWS_ENDPOINTS, as for a run; `benchmarks.small_model` serves one on loopback.
Prints JSON lines.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.answers import Paragraphs, Row, read
from nemoflows.engines.builtin import MAX_QUOTES, extract
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import Success
from nemoflows.rag import gates
from nemoflows.rag.agent import AgentState
from nemoflows.rag.quoting import quoting
from nemoflows.settings import Settings
from nemoflows.types import Evidence, ModelRef

K = 3
N = 40


def _holds(evidence: Sequence[Evidence], answers: Sequence[str]) -> bool:
    quotes = [piece.quote.casefold() for piece in evidence]
    return any(answer.casefold() in quote for answer in answers for quote in quotes)


async def asked(row: Row, index: Paragraphs, client: BoundClient) -> Row:
    """Return what the builtin tier and the model chose for a question, and what it took."""
    question, passages = row["question"], index.search(row["question"], K)
    own = extract(question, passages, k=MAX_QUOTES)
    started = time.monotonic()
    result = await client.ask(*quoting(question, passages))
    chosen = result.value if isinstance(result, Success) else []
    calls = client.llm.calls(result.calls)
    state = AgentState(question, [], evidence=chosen, own=own)
    agree = gates.agree(chosen, own)
    tokens = [call.usage.output_tokens for call in calls if call.usage]
    found: Row = {
        "usable at the first ask": isinstance(result, Success) and len(calls) == 1,
        "usable": isinstance(result, Success),
        "builtin's first is right": _holds(own[:1], row["answers"]),
        "model's first is right": _holds(chosen[:1], row["answers"]),
        "answer in the builtin's": _holds(own, row["answers"]),
        "answer in the model's": _holds(chosen, row["answers"]),
        "answer in the evidence": _holds(state.quotes, row["answers"]),
        "both agree": agree,
        "both agree and are right": agree and _holds(own[:1], row["answers"]),
        "output tokens, median": sum(tokens),
        "seconds, median": time.monotonic() - started,
    }
    return found


async def measure(model: ModelRef, folder: Path, n: int) -> None:
    """Print the sums over the questions, and medians of what was taken."""
    corpus, questions = read(folder / "corpus.jsonl"), read(folder / "qa.jsonl")
    settings = Settings()
    with tempfile.TemporaryDirectory() as work:
        llm = LLMClient(Engines(settings), Journal(f"{work}/journal"), settings=settings)
        index, client = Paragraphs(corpus, Path(work)), BoundClient(llm, model)
        step = max(1, len(questions) // n)
        try:
            rows = [await asked(row, index, client) for row in questions[::step][:n]]
        finally:
            await llm.aclose()
    for name in rows[0]:
        values = [row[name] for row in rows]
        is_count = isinstance(values[0], bool)
        shown = f"{values.count(True)} of {len(rows)}" if is_count else round(median(values), 1)
        print(json.dumps({"model": str(model), "measure": name, "value": shown}))


if __name__ == "__main__":
    count = int(sys.argv[3]) if len(sys.argv) > 3 else N
    asyncio.run(measure(ModelRef.model_validate(sys.argv[1]), Path(sys.argv[2]), count))
