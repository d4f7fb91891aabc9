"""How many strong calls does a cheap policy need, beside chance and an oracle?

    python -m benchmarks.routes FILE…

Each FILE is JSONL {prompt, weak_ok, strong_ok, weak_response}: what a weak and a strong model did
on the same prompts. A policy gives every prompt a chance that the weak model fails; the likeliest
go to the strong one. Two are fitted on four folds for the fifth: on the prompt alone, and on the
weak model's reply too, as a cascade has it (which then is paid for every prompt). Prints, as JSON
lines, the share of strong calls at which 50 % and 80 % of the gap between the two models is
closed, with 95 % intervals over resampled prompts, and whether it is below chance's.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.answers import Row, read
from benchmarks.statistics import fit_logistic, folds, predict

Floats = NDArray[np.float64]
GAPS = (0.5, 0.8)
RESAMPLES = 1_000


def prompt_features(row: Row) -> list[float]:
    """Return what a prompt shows without any model."""
    text = row["prompt"]
    numbers = re.findall(r"\d[\d,.]*", text)
    return [
        np.log1p(len(text.split())),
        len(re.findall(r"[.!?](?:\s|$)", text)),
        len(numbers),
        len(set(numbers)),
        len(re.findall(r"\d/\d|\bhalf\b|\bthird|\bquarter|\btwice\b|\btimes\b", text)),
        len(re.findall(r"%|\bpercent", text)),
        len(re.findall(r"\beach\b|\bevery\b|\bper\b", text)),
        len(re.findall(r"\bif\b|\bmore than\b|\bless than\b|\bleft\b|\bremain", text)),
        float("$" in text),
    ]


def reply_features(row: Row) -> list[float]:
    """Return what the weak model's reply shows too."""
    reply = row["weak_response"]
    return [
        *prompt_features(row),
        np.log1p(len(reply.split())),
        reply.count("="),
        reply.count("<<"),
        len(re.findall(r"\d[\d,.]*", reply)),
        float("####" in reply),
        float(bool(re.search(r"(?i)\b(sorry|cannot|unclear|assum)", reply))),
    ]


def chances(rows: Sequence[Row], features: Callable[[Row], list[float]]) -> Floats:
    """Return for each prompt the chance that the weak model fails, fitted on other folds."""
    x = np.array([features(row) for row in rows], float)
    wrong = np.array([1 - row["weak_ok"] for row in rows], float)
    scores = np.zeros(len(rows))
    for held in folds(len(rows)):
        scores[held] = predict(fit_logistic(x[~held], wrong[~held]), x[held])
    return scores


def share_needed(scores: Floats, weak: Floats, strong: Floats, gap: float) -> float:
    """Return the share of strong calls that closes a part of the gap; 1 where none does."""
    gains = (strong - weak)[np.argsort(-scores, kind="stable")]
    closed = np.cumsum(gains) / gains.sum()
    enough = np.flatnonzero(closed >= gap - 1e-9)
    return float((enough[0] + 1) / len(gains)) if len(enough) else 1.0


def interval(scores: Floats, weak: Floats, strong: Floats, gap: float) -> tuple[float, float]:
    """Return the 95 % interval of that share over resampled prompts."""
    draws = np.random.default_rng(0)
    picks = (draws.integers(0, len(weak), len(weak)) for _ in range(RESAMPLES))
    shares = [share_needed(scores[p], weak[p], strong[p], gap) for p in picks]
    low, high = np.percentile(shares, (2.5, 97.5))
    return float(low), float(high)


def measure(path: Path) -> None:
    """Print what a file's prompts need."""
    rows = read(path)
    weak, strong = (
        np.array([row[name] for row in rows], float) for name in ("weak_ok", "strong_ok")
    )
    told: dict[str, Any] = {"set": path.stem, "n": len(rows)}
    _print(
        told,
        "right",
        weak=weak.mean(),
        strong=strong.mean(),
        either=np.maximum(weak, strong).mean(),
    )
    policies = {
        "prompt alone": chances(rows, prompt_features),
        "prompt and weak reply": chances(rows, reply_features),
        "oracle": strong - weak,
    }
    for gap in GAPS:
        _print(told, f"{gap:.0%} of the gap, chance", value=gap)
        for name, scores in policies.items():
            value = share_needed(scores, weak, strong, gap)
            low, high = interval(scores, weak, strong, gap)
            verdict = "below chance" if high < gap else "not told from chance"
            _print(
                told, f"{gap:.0%} of the gap, {name}", value=value, low=low, high=high, is_=verdict
            )


def _print(told: dict[str, Any], what: str, **values: Any) -> None:
    row = {
        name.strip("_"): v if isinstance(v, str) else round(float(v), 3)
        for name, v in values.items()
    }
    print(json.dumps({**told, "measure": what, **row}), flush=True)


def main(arguments: Sequence[str]) -> None:
    """Measure every file."""
    for argument in arguments:
        measure(Path(argument))


if __name__ == "__main__":
    main(sys.argv[1:])
