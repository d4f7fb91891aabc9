"""One sentence for an abstract: ROUGE against people's one-sentence summaries.

    python -m benchmarks.summaries DIR…

Each DIR holds JSON lines with `title`, `sentences` and `references`. Prints JSON lines; every
value with its 95 % bootstrap interval. The weights were chosen on scitldr's dev part; other sets
are unseen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.statistics import interval, paired_interval
from nemoflows.engines.builtin import summarise_text

KINDS = ("rouge1", "rouge2", "rougeL")
Score = Callable[[str], tuple[float, ...]]
Choice = Callable[[dict[str, Any], Score], str]


def ours(item: dict[str, Any], score: Score) -> str:
    """Return the sentence that the builtin tier picks."""
    del score
    return str(item["sentences"][summarise_text(item["title"], item["sentences"], n=1)[0]])


def oracle(item: dict[str, Any], score: Score) -> str:
    """Return the sentence that the references like best: the ceiling of picking one."""
    return str(max(item["sentences"], key=lambda sentence: score(sentence)[0]))


CHOICES: dict[str, Choice] = {
    "lead-1": lambda item, _: str(item["sentences"][0]),
    "title": lambda item, _: str(item["title"]),
    "ours": ours,
    "oracle": oracle,
}


def scorer(references: Sequence[str]) -> Score:
    """Return a function from a summary to its ROUGE F-measures, best reference each."""
    from rouge_score.rouge_scorer import RougeScorer

    rouge = RougeScorer(list(KINDS), use_stemmer=True)

    def score(summary: str) -> tuple[float, ...]:
        found = [rouge.score(reference, summary) for reference in references]
        return tuple(max(each[kind].fmeasure for each in found) for kind in KINDS)

    return score


def items(folder: Path) -> list[dict[str, Any]]:
    """Return the abstracts of a set, from whichever JSON lines hold any."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.open("rb")]
    return [row for row in map(json.loads, lines) if row.get("references") and row.get("sentences")]


def measure(folder: Path) -> None:
    """Print every choice's scores over a set, and ours against the first sentence."""
    scores: dict[str, list[tuple[float, ...]]] = {name: [] for name in CHOICES}
    for item in items(folder):
        score = scorer(item["references"])
        for name, choice in CHOICES.items():
            scores[name].append(score(choice(item, score)))
    for place, kind in enumerate(KINDS):
        values = {name: [each[place] for each in rows] for name, rows in scores.items()}
        for name, column in values.items():
            _print(folder.name, f"{name} {kind}", column, interval(column))
        gain = [a - b for a, b in zip(values["ours"], values["lead-1"], strict=True)]
        between = paired_interval(values["ours"], values["lead-1"])
        _print(folder.name, f"ours - lead-1 {kind}", gain, between)


def _print(name: str, measured: str, values: Sequence[float], between: tuple[float, float]) -> None:
    row = {"set": name, "measure": measured, "value": round(sum(values) / len(values), 4)}
    low, high = (round(bound, 4) for bound in between)
    print(json.dumps(row | {"low": low, "high": high, "n": len(values)}), flush=True)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        measure(Path(argument))
