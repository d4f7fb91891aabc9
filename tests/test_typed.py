"""Steps of a user's own over rows: replies as values, gates, tiers, money."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator

from nemoflows.engines.fake import FakeEngine, Rule, request_text
from nemoflows.errors import BadInput, EndpointDown
from nemoflows.money.ledger import fold
from nemoflows.typed.types import Result, better
from nemoflows.types import Policy
from tests.typed import MAILS, POLICY, PROMPT, Mail, Run, Triage, answers, asking, says, triage


def test_a_model_is_asked_for_and_returned(tmp_path: Path) -> None:
    run = Run(tmp_path, answers(lambda text: triage("high" if "number 1" in text else "low")))
    results = run.first(asking(), MAILS)
    assert [result.value.urgency for result in results] == ["low", "high", "low"]
    assert all(isinstance(result.value, Triage) for result in results)
    assert {(result.tier, result.problem, len(result.calls)) for result in results} == {
        ("efficient", "", 1)
    }
    asked = run.near.asked[0]
    assert asked.purpose == "triage"
    assert asked.json_schema is not None
    assert set(asked.json_schema["properties"]) == {"urgency", "team", "due"}
    assert "- team (string): The team that it is for" in request_text(asked)


@pytest.mark.parametrize(
    "said",
    [
        '{"answer": "Dear Sir"}',
        "Dear Sir",
        "<think>Sir?</think>\nDear Sir",
        'Here:\n```json\n{"answer": "Dear Sir"}\n```',
        '{"answer": "<think>Sir?</think>Dear Sir"}',
    ],
)
def test_a_text_is_asked_for_and_returned(said: str, tmp_path: Path) -> None:
    run = Run(tmp_path, says(said))
    [result] = run.first(asking(returns=str), MAILS[:1])
    assert result.value == "Dear Sir"
    assert type(result) is Result[str]
    assert len(result.calls) == 1


@pytest.mark.parametrize("returns", [int, list[Triage], Literal["a", "b"], None])
def test_another_type_is_refused_at_declaration(returns: Any) -> None:
    with pytest.raises(BadInput, match=r"is not a pydantic model or str.*classify_as"):
        asking(returns=returns)


def test_a_model_that_cannot_be_bounded_is_refused_at_declaration() -> None:
    class Open(BaseModel):
        anything: dict[str, Any]

    with pytest.raises(BadInput, match=r"Open\.anything cannot be"):
        asking(returns=Open)
    with pytest.raises(BadInput, match="output tokens"):
        asking(output_tokens=5)


def test_a_value_that_does_not_fit_is_asked_again_with_the_error(tmp_path: Path) -> None:
    run = Run(tmp_path, says(triage("urgent"), triage("high")))
    [result] = run.first(asking(), MAILS[:1])
    assert result.value == Triage(urgency="high", team="web")
    assert len(result.calls) == 2
    first, second = run.near.asked
    assert "urgency: Input should be 'low' or 'high'" in request_text(second)
    assert request_text(second).startswith(request_text(first))


class Strict(BaseModel):
    model_config = {"strict": True}
    due: date
    team: str

    @field_validator("team")
    @classmethod
    def _known(cls, team: str) -> str:
        known = {"web": "web", "billing": "billing"}
        return known[team]


def test_a_strict_model_takes_dates_and_its_validators_may_raise_anything(tmp_path: Path) -> None:
    good = json.dumps({"due": "2026-03-05", "team": "web"})
    run = Run(tmp_path, says(good.replace("web", "shop"), good))
    [result] = run.first(asking(returns=Strict), MAILS[:1])
    assert result.value == Strict(due=date(2026, 3, 5), team="web")
    assert "KeyError: 'shop'" in request_text(run.near.asked[1])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(contains="mail 1", fault="refused"), "refused: "),
        (Rule(contains="mail 1", fault="rejected"), "rejected: "),
        (Rule(contains="mail 1", reply="hello"), "invalid: The reply is not JSON"),
        (Rule(contains="mail 1", reply="[]"), "invalid: The record does not hold"),
    ],
)
def test_one_bad_row_is_data(tmp_path: Path, rule: Rule, words: str) -> None:
    run = Run(tmp_path, FakeEngine([rule, Rule(reply=triage())]))
    results = run.first(asking(), MAILS)
    assert [result.value is None for result in results] == [False, True, False]
    assert results[1].problem.startswith(words)
    assert results[1].failed


def test_mostly_unanswered_rows_end_the_step(tmp_path: Path) -> None:
    with pytest.raises(EndpointDown, match="3 of 3 items failed"):
        Run(tmp_path, FakeEngine([Rule(fault="down")])).first(asking(), MAILS)


def test_a_rerun_pays_nothing_and_another_salt_asks_again(tmp_path: Path) -> None:
    first = Run(tmp_path, says(triage())).first(asking(), MAILS)
    again = Run(tmp_path, says(triage("high")))
    assert again.first(asking(), MAILS) == first
    assert again.near.asked == []


def test_new_draws_replace_what_could_not_be_used(tmp_path: Path) -> None:
    assert Run(tmp_path, says("no")).first(asking(), MAILS[:1])[0].failed
    policy = POLICY.model_copy(update={"max_resamples": 1})
    run = Run(tmp_path, says(triage()), policy=policy)
    [result] = run.first(asking(), MAILS[:1])
    assert result.value is not None
    assert len(run.near.asked) == 1


def test_without_a_model_fields_are_looked_for_in_the_row(tmp_path: Path) -> None:
    run = Run(tmp_path, says(triage()), policy=Policy())
    rows = ["Urgency: high\nTeam: billing\nDue: 2026-03-05", "Nothing of the kind."]
    found, missing = run.first(asking("How urgent?\n{text}"), rows)
    assert found.value == Triage(urgency="high", team="billing", due=date(2026, 3, 5))
    assert (found.tier, found.calls) == ("builtin", [])
    assert missing.value is None
    assert missing.problem
    [text] = run.first(asking("{text}", returns=str), rows[:1])
    assert "Without a model" in text.problem


def loud(value: Triage, row: Mail) -> str:
    return f"{row.subject} is said to be urgent" if value.urgency == "high" else ""


def number_1_is_high(text: str) -> str:
    return triage("high" if "number 1" in text else "low")


def test_the_users_check_sends_exactly_what_failed_to_the_frontier(tmp_path: Path) -> None:
    run = Run(tmp_path, answers(number_1_is_high), says(triage(team="frontier")))
    results = run.cascade(asking(check=loud), MAILS)
    assert [result.tier for result in results] == ["efficient", "frontier", "efficient"]
    assert [result.value.team for result in results] == ["web", "frontier", "web"]
    [asked] = run.far.asked
    assert "number 1" in request_text(asked)
    assert [len(result.calls) for result in results] == [1, 2, 1], "both tiers' calls count"
    assert not any(result.failed for result in results)


def test_a_check_that_returns_nothing_has_no_doubt(tmp_path: Path) -> None:
    run = Run(tmp_path, answers(number_1_is_high))
    results = run.cascade(asking(check=lambda *_: None), MAILS)
    assert [result.low_confidence for result in results] == ["", "", ""]


def test_where_nothing_failed_the_frontier_is_not_asked(tmp_path: Path) -> None:
    run = Run(tmp_path, says(triage()))
    run.cascade(asking(check=loud), MAILS)
    assert run.far.asked == []


@pytest.mark.parametrize("rule", [Rule(fault="refused"), Rule(reply="nonsense")])
def test_what_the_efficient_tier_found_stays_where_the_frontier_fails(
    tmp_path: Path, rule: Rule
) -> None:
    run = Run(tmp_path, answers(number_1_is_high), FakeEngine([rule]))
    result = run.cascade(asking(check=loud), MAILS)[1]
    assert result.value == Triage(urgency="high", team="web")
    assert result.tier == "efficient"
    assert "mail 1 is said to be urgent" in result.low_confidence
    assert result.problem.startswith("the next tier: ")
    assert len(result.calls) == 1 + len(run.far.asked)


def test_what_a_model_found_is_not_replaced_by_the_builtin_tier() -> None:
    first = Result[str](value="a", low_confidence="d", tier="efficient", calls=["k"])
    guess = Result[str](value="b", tier="builtin")
    assert better(first, guess).value == "a"
    assert better(Result[str](problem="no reply"), guess).value == "b"


def test_a_number_that_flyte_does_not_carry_is_asked_again(tmp_path: Path) -> None:
    class Count(BaseModel):
        n: int

    near = says('{"n": 1' + "0" * 30 + "}", '{"n": 3}')
    step = asking(PROMPT, Count)
    [result] = Run(tmp_path, near).cascade(step, MAILS[:1])
    assert result.value == Count(n=3)
    assert "digits" in request_text(near.asked[1])


def test_a_row_that_no_tier_could_read_says_so(tmp_path: Path) -> None:
    run = Run(tmp_path, says("no"), FakeEngine([Rule(fault="refused")]))
    [result] = run.cascade(asking(), MAILS[:1])
    assert result.value is None
    assert result.problem.startswith("invalid: The reply is not JSON")
    assert "; the next tier: refused: " in result.problem
    assert len(result.calls) == 3


@pytest.mark.parametrize(
    ("tier", "n_near", "n_far"), [("efficient", 3, 0), ("cascade", 3, 1), ("frontier", 0, 3)]
)
def test_a_steps_route_is_followed(tmp_path: Path, tier: str, n_near: int, n_far: int) -> None:
    policy = Policy.model_validate({**dict(POLICY), "routes": {"triage": tier}})
    run = Run(tmp_path, answers(number_1_is_high), says(triage()), policy)
    results = run.cascade(asking(check=loud), MAILS)
    assert (len(run.near.asked), len(run.far.asked)) == (n_near, n_far)
    assert results[0].tier == ("frontier" if tier == "frontier" else "efficient")
    assert all(result.value is not None for result in results)


def test_one_model_for_both_tiers_is_asked_once(tmp_path: Path) -> None:
    policy = Policy.model_validate({"efficient": "near:m", "frontier": "near:m"})
    for tier in ("cascade", "frontier"):
        routed = policy.model_copy(update={"routes": Policy(routes={"triage": tier}).routes})  # type: ignore[dict-item]
        run = Run(tmp_path / tier, answers(number_1_is_high), policy=routed)
        [_, doubted, _] = run.cascade(asking(check=loud), MAILS)
        assert doubted.low_confidence
        assert len(run.near.asked) == 3


def test_the_ledger_knows_the_step_its_tiers_and_what_was_escalated(tmp_path: Path) -> None:
    run = Run(tmp_path, answers(number_1_is_high), says(triage()))
    results = run.cascade(asking(check=loud), MAILS)
    spent = run.spent(results)
    assert {(call.purpose, call.tier, call.escalated) for call in spent} == {
        ("triage", "efficient", False),
        ("triage", "frontier", True),
    }
    ledger = fold(spent)
    assert (ledger.n_calls, ledger.n_escalated, ledger.n_unpriced) == (4, 1, 0)
    assert ledger.usd == pytest.approx(3 * 140e-6 + 1400e-6)
    noted = [json.loads(note) for note in run.llm.journal.notes("superseded")]
    assert noted == [[spent[1].key]], "in a counterfactual the row counts once"


def test_what_no_longer_fits_the_budget_is_data_and_the_rest_stays(tmp_path: Path) -> None:
    policy = POLICY.model_copy(update={"budget_usd": 0.005})
    run = Run(tmp_path, says(triage()), policy=policy)
    rows = [Mail(subject=str(n), body="x") for n in range(40)]
    results = run.cascade(asking(), rows)
    done = [result for result in results if result.value]
    assert 0 < len(done) < 40
    assert all("over_budget: Of the budget" in r.problem for r in results if r.value is None)
    assert fold(run.spent(results)).usd <= 0.005
