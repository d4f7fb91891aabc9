from __future__ import annotations

from nemoflows.search.fusion import fuse, merge_hops
from tests.test_builtin import CORPUS


def test_reciprocal_rank_fusion_follows_its_formula() -> None:
    assert fuse([[1, 2], [2, 3]]) == [(2, 1 / 62 + 1 / 61), (1, 1 / 61), (3, 1 / 62)]


def test_a_passage_that_the_best_one_names_rises() -> None:
    first = [CORPUS[0], CORPUS[2], CORPUS[1]]
    merged = merge_hops([first, [CORPUS[2], CORPUS[1]]])
    assert [each.heading for each in merged] == ["Alder Bridge", "Jane Holt", "Fares and times"]


def test_one_hop_keeps_its_order_and_merging_loses_nothing() -> None:
    assert merge_hops([CORPUS]) == CORPUS
    assert merge_hops([CORPUS, []]) == CORPUS
    assert merge_hops([]) == []
    assert sorted(each.id for each in merge_hops([CORPUS[:1], CORPUS[1:]])) == sorted(
        each.id for each in CORPUS
    )
