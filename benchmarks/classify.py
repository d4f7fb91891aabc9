"""Labels without a model and with one: the step of `classify_as`, its confidence as a gate.

    python -m benchmarks.classify DIR

DIR holds train.jsonl {text, intent}. Of each intent the first N_EXAMPLES texts are examples, the
next N_ROWS are classified: by the builtin tier (with the examples, and by the labels' words alone),
and by a fake model that is right with a known probability, so that the agreement of three samples
can be held against it. Prints JSON lines; shares with their 95 % bootstrap interval.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.statistics import interval
from nemoflows.calls import Request
from nemoflows.engines.fake import FakeEngine
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.models import Endpoint
from nemoflows.settings import Settings
from nemoflows.typed.classify import ClassifyStep
from nemoflows.typed.steps import on_tier
from nemoflows.typed.template import Template
from nemoflows.types import ModelRef, Policy

N_EXAMPLES = 20
N_ROWS = 100
RIGHT = 0.8
"""Probability with which a sample of the fake model is right."""


def read(folder: Path) -> dict[str, list[str]]:
    """Return texts by intent."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]
    texts: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        texts[row["intent"]].append(row["text"])
    return texts


def answerer(truth: dict[str, str], labels: Sequence[str]) -> Any:
    """Return a fake model: right with probability RIGHT, else one of the others, by hash."""

    def answer(request: Request) -> str:
        text = next(part.text for part in request.messages[0].parts if part.id == "text")
        draw = hashlib.sha256(f"{request.sample} {text}".encode()).digest()
        wrong = [label for label in labels if label != truth[text]]
        label = truth[text] if draw[0] < 256 * RIGHT else wrong[draw[1] % len(wrong)]
        return json.dumps({"label": label})

    return answer


def score(name: str, results: Sequence[Any], rows: Sequence[tuple[str, str]]) -> None:
    """Print how many are right, of all and of what the gate keeps."""
    right = [float(r.value.value == label) for r, (_, label) in zip(results, rows, strict=True)]
    kept = [ok for ok, r in zip(right, results, strict=True) if not r.low_confidence]
    print(
        json.dumps(
            {
                "what": name,
                "rows": len(rows),
                "right": round(mean(right), 3),
                "right_interval": interval(right),
                "handed_on": round(1 - len(kept) / len(rows), 3),
                "right_of_kept": round(mean(kept), 3) if kept else None,
                "right_of_kept_interval": interval(kept) if kept else None,
            }
        )
    )


def main(folder: Path) -> None:
    """Classify the rows in each way."""
    texts = read(folder)
    label: Any = Enum("Intent", {name: name for name in texts})  # type: ignore[misc]
    examples = {name: given[:N_EXAMPLES] for name, given in texts.items()}
    rows = [
        (text, name)
        for name, given in texts.items()
        for text in given[N_EXAMPLES : N_EXAMPLES + N_ROWS]
    ]
    engine = FakeEngine(answer=answerer(dict(rows), list(texts)))
    settings = Settings(endpoints={"near": Endpoint(dialect="fake")})
    llm = LLMClient(Engines(settings, given={"near": engine}), Journal(""), settings=settings)
    for name, model, given in (
        ("builtin, labels' words alone", ModelRef(), None),
        (f"builtin, {N_EXAMPLES} examples of each", ModelRef(), examples),
        (f"fake model, each sample right at {RIGHT}", ModelRef.model_validate("near:x"), None),
    ):
        step = ClassifyStep("intents", Template(""), label, str, given)
        client = BoundClient(llm=llm, model=model)
        asked = on_tier(step, [text for text, _ in rows], client, Policy(), "efficient")
        score(name, asyncio.run(asked), rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
