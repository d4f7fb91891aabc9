from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.answers import report
from benchmarks.retrieval import RetrievalSet, by_document, mean_lines, ndcg, read_set, recall
from benchmarks.statistics import interval, paired_interval
from benchmarks.summaries import scorer
from nemoflows.types import Passage

MEASURES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_an_interval_of_one_value_is_that_value() -> None:
    assert interval([0.25]) == (0.25, 0.25)
    assert interval([0.5] * 9) == (0.5, 0.5)


def test_an_interval_is_that_of_the_normal_distribution_for_many_values() -> None:
    values = [0.0, 1.0] * 800
    low, high = interval(values)
    # The mean of n fair coins has the standard error .5 / sqrt(n).
    half = 1.96 * 0.5 / math.sqrt(len(values))
    assert low == pytest.approx(0.5 - half, abs=0.003)
    assert high == pytest.approx(0.5 + half, abs=0.003)


def test_an_interval_for_two_values_is_found_by_hand() -> None:
    # Means of two draws from 0 and 1: a quarter each are 0 and 1, so both ends are reached.
    assert interval([0.0, 1.0]) == (0.0, 1.0)
    # Of eight draws all are 1 in 1 of 256 resamples, and at most one is 0 in 9: 3.5 %.
    assert interval([0.0] * 4 + [1.0] * 4, n=20_000) == (0.125, 0.875)


def test_the_same_values_have_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(1).random(50).tolist()
    assert interval(values) == interval(values)
    assert interval(values) != interval(values, seed=1)


@given(MEASURES)
def test_an_interval_lies_within_the_values(values: list[float]) -> None:
    low, high = interval(values, n=100)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12


@given(MEASURES)
def test_a_paired_interval_of_equal_values_is_nothing(values: list[float]) -> None:
    assert paired_interval(values, values, n=50) == (0.0, 0.0)


def test_a_paired_interval_sees_a_small_steady_gain() -> None:
    worse = np.random.default_rng(2).random(60)
    low, high = paired_interval((worse + 0.01).tolist(), worse.tolist())
    assert low == pytest.approx(0.01)
    assert high == pytest.approx(0.01)
    assert paired_interval(worse.tolist(), (worse + 0.01).tolist())[1] == pytest.approx(-0.01)


def test_no_values_and_unpaired_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        interval([])
    with pytest.raises(ValueError, match="2 values against 1"):
        paired_interval([1.0, 2.0], [1.0])


def test_ndcg_of_a_graded_ranking_is_what_the_formula_gives_by_hand() -> None:
    relevant = {"a": 3.0, "b": 2.0, "c": 1.0}
    # Gains 2, 0, 3, 1 at ranks 1 to 4; ideally 3, 2, 1.
    gained = 2 / 1 + 3 / 2 + 1 / math.log2(5)
    ideal = 3 / 1 + 2 / math.log2(3) + 1 / 2
    assert ndcg(["b", "x", "a", "c"], relevant) == pytest.approx(gained / ideal)
    assert ndcg(["b", "x", "a", "c"], relevant) == pytest.approx(0.8254, abs=1e-4)


def test_ndcg_counts_the_first_k_only_in_both_its_halves() -> None:
    relevant = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert ndcg(["a", "b"], relevant, k=2) == 1.0
    assert ndcg(["x", "y", "a"], relevant, k=2) == 0.0
    assert ndcg(["x", "a"], {"a": 1.0}) == pytest.approx(1 / math.log2(3))
    assert ndcg([], relevant) == 0.0


@given(st.permutations("abcdef"), st.dictionaries(st.sampled_from("abcdef"), st.floats(1, 5)))
def test_ndcg_is_highest_in_the_ideal_order(ranking: list[str], relevant: dict[str, float]) -> None:
    if not relevant:
        return
    ideal = sorted(relevant, key=lambda document: -relevant[document])
    assert 0 <= ndcg(ranking, relevant) <= 1 + 1e-12
    assert ndcg(ideal, relevant) == pytest.approx(1)


def test_recall_is_the_share_of_the_relevant_ones_that_were_found() -> None:
    relevant = {"a": 1.0, "b": 2.0, "c": 1.0, "d": 1.0}
    assert recall(["a", "x", "b", "c"], relevant, k=3) == 0.5
    assert recall(["a", "x", "b", "c"], relevant, k=10) == 0.75
    assert recall([], relevant, k=10) == 0.0


def test_a_document_counts_where_its_best_passage_stands() -> None:
    data = RetrievalSet("s", [{"id": name} for name in "abc"], [], {})
    rows = [
        Passage(id=f"{n}", document=f"documents.jsonl#{n}", start=0, end=1, text="x")
        for n in (2, 0, 2, 1, 0)
    ]
    assert by_document(data, rows) == ["c", "a", "b"]


def test_a_set_keeps_the_queries_that_have_something_to_find(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"id": "a", "title": "", "text": "x"}\n')
    (tmp_path / "queries.jsonl").write_text(
        "\n".join(f'{{"id": "{name}", "text": "query {name}"}}' for name in "123")
    )
    (tmp_path / "qrels.tsv").write_text("query\tdocument\tgrade\n1\ta\t2\n2\ta\t0\n")
    data = read_set(tmp_path)
    assert data.texts == ["query 1"]
    assert data.relevant == {"1": {"a": 2.0}}


def test_the_mean_over_sets_gives_each_the_same_weight(capsys: pytest.CaptureFixture[str]) -> None:
    small, large = {"m": {"ndcg10": [1.0]}}, {"m": {"ndcg10": [0.0] * 99}}
    mean_lines([small, large])
    assert '"n": 2, "ndcg10": 0.5, "ndcg10_interval": [0.5, 0.5]' in capsys.readouterr().out


def test_a_report_shows_each_column_with_its_mean(capsys: pytest.CaptureFixture[str]) -> None:
    report("s", [{"right": True}, {"right": False}, {"right": True}])
    assert '"measure": "right", "value": 0.6667' in capsys.readouterr().out


def test_a_summary_is_scored_against_its_best_reference() -> None:
    score = scorer(["the cat sat", "dogs bark loudly"])
    assert score("the cat sat") == (1.0, 1.0, 1.0)
    # Two of three words of the second reference, in a summary of two: 2 * 1 * 2/3 / (1 + 2/3).
    assert score("dogs bark")[0] == pytest.approx(0.8)
    assert score("nothing shared") == (0.0, 0.0, 0.0)
