"""Does the coverage gate of the builtin tier tell right from wrong first sentences?

    python -m benchmarks.gates DIR…

Each DIR holds corpus.jsonl {id, title, text} and qa.jsonl {question, answers, gold_ids}. Prints
JSON lines: the area under the ROC curve of the product's confidence, the share of wrong answers
among the fifth that is least sure, the shares at the product's threshold, and the same for a
logistic fit of the gate's leads on folds that it has not seen. Values come with 95 % intervals.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.answers import K, Paragraphs, Row, read
from benchmarks.statistics import fit_logistic, folds, predict
from nemoflows.engines.builtin import extract
from nemoflows.engines.builtin.confidence import SURE, confidence, leads

Floats = NDArray[np.float64]
ESCALATED = 0.2
"""Share that is escalated."""


def asked(folder: Path) -> tuple[Floats, Floats, Floats]:
    """Return per question: whether the first quote is right, its confidence, the gate's leads."""
    corpus, questions = read(folder / "corpus.jsonl"), read(folder / "qa.jsonl")
    with tempfile.TemporaryDirectory() as work:
        index = Paragraphs(corpus, Path(work))
        rows = [_judged(row, index) for row in questions]
    right, sure, leads = zip(*rows, strict=True)
    return np.array(right, float), np.array(sure, float), np.array(leads, float)


def _judged(row: Row, index: Paragraphs) -> tuple[bool, float, tuple[float, ...]]:
    question = row["question"]
    passages = index.search(question, K)
    evidence = extract(question, passages)
    first = evidence[0].quote.casefold() if evidence else ""
    right = any(answer.casefold() in first for answer in row["answers"])
    sure = confidence(question, evidence, passages)
    return right, sure, tuple(leads(question, evidence, passages))


def auc(scores: Floats, right: Floats) -> float:
    """Return the chance that a right answer has the higher score; ties count half.

    Source: the Mann-Whitney form of the area, Hanley and McNeil (1982).
    """
    good, bad = scores[right == 1], scores[right == 0]
    higher = (good[:, None] > bad[None, :]).sum() + 0.5 * (good[:, None] == bad[None, :]).sum()
    return float(higher / (len(good) * len(bad)))


def caught(scores: Floats, right: Floats) -> float:
    """Return the share of wrong answers among the least sure fifth."""
    lowest = np.argsort(scores, kind="stable")[: round(ESCALATED * len(scores))]
    return float((1 - right[lowest]).sum() / (1 - right).sum())


def unseen(leads: Floats, right: Floats) -> Floats:
    """Return scores of a fit on four folds for the fifth."""
    scores = np.zeros(len(right))
    for held in folds(len(right)):
        weights = fit_logistic(leads[~held], right[~held])
        scores[held] = predict(weights, leads[held])
    return scores


def with_interval(measure: str, scores: Floats, right: Floats) -> Row:
    """Return a measure with its interval over resampled questions."""
    of = auc if measure == "auc" else caught
    draws = np.random.default_rng(0)
    picks = [draws.integers(0, len(right), len(right)) for _ in range(1_000)]
    low, high = np.percentile([of(scores[p], right[p]) for p in picks], (2.5, 97.5))
    return {"value": round(of(scores, right), 3), "low": round(low, 3), "high": round(high, 3)}


def measure(folder: Path) -> None:
    """Print what a set tells of the gate."""
    right, sure, leads = asked(folder)
    told: dict[str, Floats] = {"product": sure, "unseen folds": unseen(leads, right)}
    for name, scores in told.items():
        for what in ("auc", "errors caught at 20 %"):
            _print(folder, f"{what}, {name}", with_interval(what, scores, right))
    low = sure < SURE
    _print(folder, "escalated at the threshold", {"value": round(float(low.mean()), 3)})
    _print(folder, "right among the kept", {"value": round(float(right[~low].mean()), 3)})
    _print(folder, "right of all", {"value": round(float(right.mean()), 3), "n": len(right)})


def _print(folder: Path, what: str, row: Row) -> None:
    print(json.dumps({"set": folder.name, "measure": what, **row}), flush=True)


def main(arguments: Sequence[str]) -> None:
    """Measure every folder."""
    for argument in arguments:
        measure(Path(argument))


if __name__ == "__main__":
    main(sys.argv[1:])
