"""The measures of gates and routes: against values that can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gates, routes
from benchmarks.statistics import fit_logistic, folds, predict


def test_the_area_is_the_chance_that_right_is_above_wrong() -> None:
    right = np.array([1.0, 1.0, 0.0, 0.0])
    assert gates.auc(np.array([4.0, 3.0, 2.0, 1.0]), right) == 1.0
    assert gates.auc(np.array([1.0, 1.0, 1.0, 1.0]), right) == 0.5
    assert gates.auc(np.array([4.0, 1.0, 3.0, 2.0]), right) == 0.5


def test_what_is_caught_is_the_share_of_wrong_among_the_least_sure() -> None:
    right = np.array([0.0, 0.0, *[1.0] * 8])
    assert gates.caught(np.arange(10.0), right) == 1.0
    assert gates.caught(-np.arange(10.0), right) == 0.0


def test_an_oracle_needs_only_what_closes_the_gap() -> None:
    weak, strong = np.array([0.0] * 4 + [1.0] * 6), np.array([1.0] * 4 + [1.0] * 6)
    oracle = strong - weak
    assert routes.share_needed(oracle, weak, strong, 0.5) == pytest.approx(0.2)
    assert routes.share_needed(-oracle, weak, strong, 0.5) == pytest.approx(0.8)


def test_a_fit_finds_what_decides() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(2_000, 2))
    right = (draws.random(2_000) < 1 / (1 + np.exp(-(1.0 + 2.0 * x[:, 0])))).astype(float)
    weights = fit_logistic(x, right)
    assert weights == pytest.approx([1.0, 2.0, 0.0], abs=0.25)
    assert predict(weights, np.array([[0.0, 0.0]]))[0] == pytest.approx(0.73, abs=0.05)
    assert sum(mask.sum() for mask in folds(11)) == 11


def test_the_benchmark_of_routes_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draws = np.random.default_rng(1)
    rows = []
    for number in range(200):
        hard = bool(draws.random() < 0.5)
        prompt = f"{'word ' * (40 if hard else 5)}{number} eggs?"
        rows.append({"prompt": prompt, "weak_ok": int(not hard), "strong_ok": 1,
                     "weak_response": "#### 3"})  # fmt: skip
    path = tmp_path / "made.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    routes.main([str(path)])
    told = {line["measure"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    half = told["50% of the gap, prompt alone"]
    assert half["value"] == pytest.approx(told["50% of the gap, oracle"]["value"], abs=0.02)
    assert half["is"] == "below chance"
