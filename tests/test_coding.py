"""The change flow against scripted providers on loopback: it ends as it should, calls counted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nemoflows.coding import edits, snapshots, testing
from nemoflows.coding.candidates import candidate
from nemoflows.coding.runs import TestRuns
from nemoflows.coding.testing import baseline_of
from nemoflows.coding.types import Change, Edit, Effort, Patch
from nemoflows.llm.client import LLMClient
from nemoflows.sandbox.trees import Tree
from nemoflows.tasks.coding import sandbox
from tests.coding import (
    HALF,
    ISSUE,
    RIGHT,
    USD_PER_CALL,
    WRONG,
    Providers,
    applies,
    current,
    fix,
    lending,
    policy,
    proposes,
    reply,
    task_of,
    with_runs,
)
from tests.loopback import data_parts


def test_right_on_a_later_sample(providers: Providers, tmp_path: Path) -> None:
    repo = lending(tmp_path / "repo")
    providers.play(small=proposes(WRONG, HALF, RIGHT), large=proposes(""))
    patch = fix(repo)
    assert patch.status == "verified"
    assert patch.candidate is not None
    assert (patch.candidate.tier, patch.candidate.round) == ("efficient", 0)
    assert providers.counts == {
        ("small", "propose"): 3,
        ("large", "plan_change"): 1,
        ("large", "review"): 1,
    }
    assert patch.usd == pytest.approx(5 * USD_PER_CALL)
    applies(patch, repo)
    assert "min(fine" in (repo / "lending" / "loans.py").read_text()


def test_right_only_after_seeing_the_failure(providers: Providers, tmp_path: Path) -> None:
    def small(purpose: str, body: dict[str, Any], _: int) -> str:
        told = "\n".join(text for kind, _, text in data_parts(body) if kind == "report")
        seen = purpose == "repair" and "test_a_fine_has_an_upper_limit" in told
        return reply(RIGHT.model_copy(update={"search": "    return fine"}) if seen else HALF)

    providers.play(small=small, large=proposes(""))
    patch = fix(lending(tmp_path / "repo"))
    assert patch.status == "verified"
    assert patch.candidate is not None
    assert patch.candidate.round == 1
    assert providers.counts["small", "propose"] == 3
    assert providers.counts["small", "repair"] == 2
    assert ("large", "repair") not in providers.counts
    assert patch.usd == pytest.approx(providers.n_calls * USD_PER_CALL)


def test_models_never_make_it_worse_than_the_free_search(
    providers: Providers, tmp_path: Path
) -> None:
    providers.play(small=proposes(WRONG), large=proposes(HALF))
    patch = fix(lending(tmp_path / "repo"), candidates=1, rounds=0, search_runs=100)
    assert patch.status == "verified"
    assert patch.candidate is not None
    assert patch.candidate.tier == "builtin"
    assert "found by the search without a model" in str(patch)


@pytest.mark.parametrize("form", ["lines", "copied"])
def test_a_change_is_read_in_each_form(form: str, providers: Providers, tmp_path: Path) -> None:
    def small(_: str, body: dict[str, Any], __: int) -> str:
        line = next(n for n, row in enumerate(_file(body).splitlines()) if current(body) in row)
        number = int(_file(body).splitlines()[line].partition("|")[0])
        edit = {"path": RIGHT.path, "first": number, "last": number, "replace": RIGHT.replace}
        return json.dumps({"why": "It was the larger.", "edits": [edit]})

    scripts = {"lines": small, "copied": proposes(RIGHT)}
    providers.play(small=scripts[form], large=proposes(""))
    assert fix(lending(tmp_path / "repo"), candidates=1).status == "verified"


def _file(body: dict[str, Any]) -> str:
    return next(text for _, mark, text in data_parts(body) if mark == RIGHT.path)


def test_right_only_from_the_frontier(providers: Providers, tmp_path: Path) -> None:
    def small(purpose: str, body: dict[str, Any], n: int) -> str:
        replace = {"propose": "    return 7", "repair": f"    return {8 + n}"}[purpose]
        return reply(RIGHT.model_copy(update={"search": current(body), "replace": replace}))

    def large(purpose: str, body: dict[str, Any], _: int) -> str:
        right = RIGHT.model_copy(update={"search": current(body)})
        return reply(right) if purpose == "repair" else ""

    providers.play(small=small, large=large)
    patch = fix(lending(tmp_path / "repo"), repairs=1)
    assert patch.candidate is not None
    assert (patch.candidate.tier, patch.candidate.round) == ("frontier", 3)
    assert patch.status == "verified"
    assert providers.counts == {
        ("large", "plan_change"): 1, ("small", "propose"): 3, ("small", "repair"): 2,
        ("large", "repair"): 1, ("large", "review"): 1,
    }  # fmt: skip
    assert patch.usd == pytest.approx(8 * USD_PER_CALL)


def test_never_right_ends_cleanly(providers: Providers, tmp_path: Path) -> None:
    other = WRONG.model_copy(update={"search": "    return 7", "replace": "    return 9"})
    providers.play(small=proposes(WRONG, WRONG, WRONG, other), large=proposes(other))
    patch = fix(lending(tmp_path / "repo"))
    assert (patch.status, patch.diff, patch.candidate) == ("no candidate passed", "", None)
    assert ("large", "review") not in providers.counts
    assert patch.usd == pytest.approx(providers.n_calls * USD_PER_CALL)


def test_no_frontier_candidates_asks_the_frontier_for_none(
    providers: Providers, tmp_path: Path
) -> None:
    providers.play(small=proposes("no JSON"), large=proposes(RIGHT))
    patch = fix(lending(tmp_path / "repo"), frontier_candidates=0, candidates=1)
    assert patch.status == "no candidate passed"
    assert ("large", "propose") not in providers.counts


@pytest.mark.parametrize(
    ("path", "told_of"),
    [
        ("tests/test_loans.py", "were not shown"),
        ("../../escaped.py", "cannot be applied"),
        ("conftest.py", "cannot be applied"),
        (".git/hooks/post-checkout", "cannot be applied"),
        ("lending/loans.py", "were not shown"),
    ],
    ids=["a test", "outside", "conftest", "git", "no lines"],
)
def test_malicious_edits_are_told_once_and_refused(
    path: str, told_of: str, providers: Providers, tmp_path: Path
) -> None:
    edit = {"path": path, "first": 0, "last": 0, "replace": "x"}
    said = json.dumps({"why": "So.", "edits": [edit]})
    providers.play(small=proposes(said), large=proposes(said))
    patch = fix(lending(tmp_path / "repo"), candidates=1)
    assert patch.status == "no candidate passed"
    assert not list(tmp_path.rglob("escaped.py"))
    first = providers.counts["small", "propose"]
    assert first == 2, "asked once more with the reason, then no more"
    told = [
        text
        for body in providers.server.requests
        for kind, _, text in data_parts(body)
        if kind == "error"
    ]
    assert any(told_of in text for text in told)
    assert patch.usd == pytest.approx(providers.n_calls * USD_PER_CALL), "refused, and paid"


@pytest.mark.parametrize(
    "text", ["no JSON", '{"edits": []}', '{"edits": [{"path": 1}], "why": ""}', "[]"]
)
def test_malformed_output_is_data_and_not_an_end(
    text: str, providers: Providers, tmp_path: Path
) -> None:
    providers.play(small=proposes(text), large=proposes(RIGHT))
    patch = fix(lending(tmp_path / "repo"), candidates=2)
    assert patch.status == "verified"
    assert patch.candidate is not None
    assert patch.candidate.tier == "frontier"
    assert providers.counts["large", "propose"] == 1
    assert patch.usd == pytest.approx(providers.n_calls * USD_PER_CALL)


def test_a_second_run_pays_nothing_and_runs_nothing(providers: Providers, tmp_path: Path) -> None:
    repo = lending(tmp_path / "repo")
    providers.play(small=proposes(WRONG, HALF, RIGHT), large=proposes(""))
    first = fix(repo)
    before = (providers.n_calls, sandbox.test_runs().n_run)
    second = fix(repo)
    assert (providers.n_calls, sandbox.test_runs().n_run) == before
    assert second.diff == first.diff
    assert second.usd == first.usd


def test_candidates_that_are_alike_are_run_once(providers: Providers, tmp_path: Path) -> None:
    providers.play(small=proposes(RIGHT), large=proposes(""))
    patch = fix(lending(tmp_path / "repo"), candidates=4)
    assert patch.candidate is not None
    assert patch.candidate.n_alike == 4
    assert sandbox.test_runs().n_run == 3, "the baseline, the candidate, the winner again"


def test_the_issue_and_the_files_are_data(providers: Providers, tmp_path: Path) -> None:
    providers.play(small=proposes(RIGHT), large=proposes(""))
    patch = fix(lending(tmp_path / "repo"), candidates=1)
    bodies = [b for b in providers.server.requests if b["model"] == "small"]
    assert bodies, patch
    body = bodies[0]
    kinds = [kind for kind, _, _ in data_parts(body)]
    assert kinds[0] == "issue"
    assert {"file", "report", "plan"} <= set(kinds)


def test_nothing_to_fix_asks_nobody(providers: Providers, tmp_path: Path) -> None:
    repo = lending(tmp_path / "repo")
    loans = repo / "lending" / "loans.py"
    loans.write_text(loans.read_text().replace("max(fine", "min(fine"))
    providers.play(small=proposes(""), large=proposes(""))
    assert fix(repo).status == "nothing to fix"
    assert providers.n_calls == 0


@pytest.mark.parametrize("budget_usd", [1e-6, 0.009, 0.01, 0.012, 0.05])
def test_a_budget_is_never_exceeded_and_what_is_left_out_is_said(
    budget_usd: float, providers: Providers, tmp_path: Path
) -> None:
    providers.play(small=proposes(HALF), large=proposes(HALF))
    patch = fix(lending(tmp_path / "repo"), policy(budget_usd=budget_usd))
    bill_usd = providers.n_calls * USD_PER_CALL
    assert bill_usd <= budget_usd
    assert patch.usd == pytest.approx(bill_usd)
    assert patch.status == "no candidate passed"
    assert bool(patch.budget_note) is (budget_usd < 0.015), patch.budget_note
    assert f"budget of ${budget_usd:.6f}" in patch.budget_note or not patch.budget_note
    if budget_usd < 1e-5:
        assert providers.n_calls == 0


def test_a_patch_that_was_found_within_the_budget_stays(
    providers: Providers, tmp_path: Path
) -> None:
    repo = lending(tmp_path / "repo")
    providers.play(small=proposes(RIGHT), large=proposes(""))
    whole = fix(repo)
    assert whole.usd is not None
    patch = fix(repo, policy(budget_usd=whole.usd))
    assert (patch.diff, patch.budget_note) == (whole.diff, ""), "replayed calls need no room"
    little = fix(repo, policy(budget_usd=0.01, cache_salt="a"))
    [worst_usd] = re.findall(r"up to \$(\d+\.\d+)", little.budget_note)
    only_one = float(worst_usd) + 1.5 * USD_PER_CALL
    tight = fix(repo, policy(budget_usd=only_one, cache_salt="b"))
    assert providers.counts["small", "propose"] == 3 + 1
    assert tight.status == "verified"
    assert "stopped early" in str(tight)


def test_a_model_without_a_price_is_refused_under_a_budget(
    providers: Providers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", providers.server.endpoints())
    with pytest.raises(Exception, match="price"):
        fix(lending(tmp_path / "repo"), policy(budget_usd=1.0))
    assert providers.n_calls == 0


def test_a_flaky_winner_is_called_so(llm: LLMClient, tmp_path: Path) -> None:
    """The odds that 40 pairs of throws are all alike are one in a million millions."""
    repo = lending(tmp_path / "repo")
    (repo / "tests" / "test_dice.py").write_text(
        "import random\n\ndef test_dice():\n    assert random.SystemRandom().random() < 0.5\n"
    )
    repository = snapshots.snapshot(str(repo), root=str(tmp_path / "kept"))
    base = snapshots.opened(repository)
    right = edits.apply(base, [RIGHT])
    assert isinstance(right, Tree)

    async def work(runs: TestRuns) -> Patch | None:
        for number in range(40):
            more = {"repository": repository, "cache_salt": str(number)}
            baseline = await baseline_of(task_of(base, **more), base, runs)
            dice = {"tests/test_dice.py::test_dice"}
            baseline = baseline.model_copy(update={"target": sorted({*baseline.target} - dice)})
            made = candidate(base, right, tier="efficient")
            change = Change(baseline=baseline, candidates=[made])
            tested = await testing.run_tests(change, runs=runs)
            selected = await testing.select(tested, runs=runs, llm=llm)
            if selected.patch.status == "flaky":
                return selected.patch
        return None

    patch = with_runs(tmp_path / "journal", work)
    assert patch is not None
    assert patch.flaky == ["tests/test_dice.py::test_dice"]


def test_a_function_is_written_and_one_is_repaired(providers: Providers) -> None:
    from workflows.coding import write_function

    body = "def double(x):\n    return 2 * x\n"
    edit = Edit(
        path="solution.py", search="    raise NotImplementedError", replace="    return 2 * x"
    )
    new = Edit(path="solution.py", search="", replace=body)
    head = 'def double(x):\n    """Return twice x."""\n'
    for prompt, wanted, tests in (
        (head, json.dumps({"why": "w", "function": body}), "assert double(2) == 4"),
        (head, f"It was not written.\n```python\n{body}```\n", "assert double(2) == 4"),
        (head, edit, "def check(f):\n    assert f(2) == 4\n    assert f(0) == 0\ncheck(double)"),
        ("Write a function double that doubles.", new, "assert double(3) == 6"),
    ):
        providers.play(small=proposes(wanted), large=proposes(""))
        one = Effort(candidates=1)
        patch = write_function(prompt=prompt, tests=tests, policy=policy(), effort=one).patch
        assert patch.status == "verified", patch
    builtin = write_function(
        prompt="def d(x):\n    return 2 + x\n", tests="assert d(3) == 6\nassert d(5) == 10"
    ).patch
    assert builtin.status == "verified"
    assert "2 * x" in builtin.diff


def test_what_has_no_patch_says_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from workflows.coding import fix_issue

    repo = tmp_path / "repo"
    (repo / "tests").mkdir(parents=True)
    (repo / "m.py").write_text("def f():\n    return 'a'\n")
    test = repo / "tests" / "test_m.py"
    head = "import sys\nsys.path.insert(0, '.')\nfrom m import f\n"
    test.write_text(head + "def test_a(): assert f() == 'a'\n")
    nothing = fix_issue(repo=str(repo), issue=ISSUE)
    assert nothing.patch.status == "nothing to fix"
    assert "next: No test fails" in capsys.readouterr().out

    test.write_text(head + "def test_x(): assert f() == 'x'\ndef test_y(): assert f() == 'y'\n")
    none = fix_issue(repo=str(repo), issue=ISSUE, effort=Effort(search_runs=2))
    assert none.patch.status == "no candidate passed"
    told = capsys.readouterr().out
    assert """--target_tests '["tests/test_m.py::test_x"]'""" in told
    assert "a search of 2 test runs" in told
    assert "--policy" in Path(str(none.report)).read_text("utf-8")


def test_an_unrelated_failure_is_told_as_such(tmp_path: Path) -> None:
    from workflows.coding import fix_issue

    repo = lending(tmp_path / "repo")
    (repo / "tests" / "test_other.py").write_text("def test_other():\n    assert 1 == 2\n")
    fixed = fix_issue(repo=str(repo), issue=ISSUE, target_tests=["tests/test_loans.py"])
    assert "verified, builtin tier: 6 passed, 1 failed (failed before, too)" in str(fixed.patch)
    html = Path(str(fixed.report)).read_text("utf-8")
    assert "builtin tier, first round: 6 passed, 1 failed (failed before, too)" in html


def test_the_page_shows_it_all_as_text(providers: Providers, tmp_path: Path) -> None:
    from workflows.coding import fix_issue

    providers.play(
        small=proposes(reply(WRONG, why="<script>alert(1)</script>"), RIGHT), large=proposes("")
    )
    result = fix_issue(
        repo=str(lending(tmp_path / "repo")), issue=f"<b>{ISSUE}", policy=policy(),
        effort=Effort(candidates=2),
    )  # fmt: skip
    html = Path(str(result.report)).read_text("utf-8")
    assert html.count("<script>") == 1, "the page's own"
    assert "&lt;b&gt;" in html
    assert "test_a_fine_has_an_upper_limit" in html
    assert re.search(r'<span class="ins">\+    return min\(fine', html)
    assert "<code>repo</code>: 4 files" in html
