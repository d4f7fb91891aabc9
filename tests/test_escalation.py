"""Escalation: what the next tier looks at, which model that is, and what it changes."""

from __future__ import annotations

from typing import Any

import pytest

from nemoflows.rag import escalation
from nemoflows.rag.escalation import failed
from nemoflows.types import Evidence, Finding, ModelRef, NotFound, Policy


def test_failed_keeps_the_order_of_the_questions_without_a_finding() -> None:
    gaps = [NotFound(question=f"q{n}", reason="nothing fits") for n in (1, 3)]
    findings = [
        Finding(question="q0", summary="s"),
        Finding(question="q1", not_found=gaps[0]),
        Finding(question="q2", summary="s"),
        Finding(question="q3", not_found=gaps[1]),
    ]
    assert failed(findings) == gaps
    assert failed([]) == failed(findings[:1]) == []


def policy(efficient: str, frontier: str) -> Policy:
    return Policy.model_validate({"efficient": efficient, "frontier": frontier})


def test_failed_questions_go_to_the_frontier() -> None:
    there = policy("near:small", "far:large").next_model
    assert there == ModelRef(endpoint="far", name="large")


def test_a_model_that_failed_is_not_asked_the_same_again() -> None:
    assert Policy().next_model is None
    assert policy("far:large", "far:large").next_model is None


@pytest.mark.parametrize("frontier", ["far:large@2", "far:large+lora", "far:large#fp8"])
def test_another_deployment_of_a_model_is_another_model(frontier: str) -> None:
    assert policy("far:large", frontier).next_model == ModelRef.model_validate(frontier)


def found(question: str, **more: Any) -> Finding:
    return Finding(question=question, summary="s", **more)


def missing(question: str) -> Finding:
    return Finding(question=question, not_found=NotFound(question=question, reason="r"))


def test_what_the_next_tier_found_replaces_what_was_doubted() -> None:
    doubted, sure = found("a", low_confidence="d"), found("b")
    again = found("a", tier="frontier")
    assert escalation.merged([doubted, sure], [again]) == [again, sure]


@pytest.mark.parametrize("again", [missing("a"), found("a", budget_note="no money")])
def test_a_doubted_finding_stands_where_the_next_tier_has_no_better_one(again: Finding) -> None:
    doubted = found("a", low_confidence="d")
    assert escalation.merged([doubted], [again]) == [doubted]


def quote(start: int, *calls: str) -> Evidence:
    return Evidence(quote="q", document="d", start=start, end=start + 5, calls=list(calls))


def test_quotes_of_the_builtin_tier_alone_replace_none_that_a_model_found() -> None:
    paid = found("a", evidence=[quote(0, "k"), quote(9)], low_confidence="d", calls=["k"])
    empty = found("a", evidence=[quote(9)], low_confidence="nothing helps", calls=["f"])
    [kept] = escalation.merged([paid], [empty])
    assert kept == paid.model_copy(update={"calls": ["k", "f"]})
    free = found("a", evidence=[quote(0)], low_confidence="d")
    assert escalation.merged([free], [empty]) == [empty]


@pytest.mark.parametrize(("start", "doubt"), [(3, ""), (0, ""), (9, "the tiers differ")])
def test_a_doubt_goes_where_both_tiers_put_the_same_first(start: int, doubt: str) -> None:
    before = found("a", evidence=[quote(0, "k")], low_confidence="d")
    again = found("a", evidence=[quote(start, "f")], low_confidence="the tiers differ")
    [kept] = escalation.merged([before], [again])
    assert (kept.evidence, kept.low_confidence) == (again.evidence, doubt)


@pytest.mark.parametrize("keys", [(), ("k",)])
def test_a_stand_in_confirms_nothing_and_is_confirmed_by_nothing(keys: tuple[str, ...]) -> None:
    before = found("a", evidence=[quote(0, *keys)], low_confidence="d")
    again = found("a", evidence=[quote(0)], low_confidence="d", stand_in="unusable")
    assert escalation.merged([before], [again])[0].low_confidence == "d"
    again = found("a", evidence=[quote(0, "f")], low_confidence="e")
    kept = escalation.merged([before], [again])[0]
    assert kept.low_confidence == ("" if keys else "e")


def test_what_was_not_found_takes_whatever_comes() -> None:
    fallback = found("a", budget_note="no money")
    assert escalation.merged([], [missing("a")]) == [missing("a")]
    assert escalation.merged([missing("a")], [fallback]) == [fallback]


@pytest.mark.parametrize(("efficient", "n"), [("near:m", 1), ("builtin", 2)])
def test_a_tier_without_a_model_looks_only_at_what_a_model_did_not_find(
    efficient: str, n: int
) -> None:
    findings = [missing("a"), found("b", low_confidence="d")]
    both = policy(efficient, "builtin")
    assert len(escalation.to_escalate(findings, both)) == n


def test_nothing_is_escalated_where_every_gate_is_passed() -> None:
    assert escalation.to_escalate([found("a"), found("b")], Policy()) == []
