"""Fix an issue of a repository, or write a function, and get a tested patch.

pyflyte run workflows/coding.py fix_issue --repo DIR --issue "…"
"""

from typing import NamedTuple

from flytekit import workflow
from flytekit.types.file import FlyteFile

from nemoflows import (
    Patch,
    Tiers,
    coding_task,
    escalate_change,
    examine,
    function_task,
    plan_change,
    propose,
    repair,
    report_change,
    review,
    run_tests,
    search_repair,
    select,
    snapshot,
)
from nemoflows.coding.types import CodingTask, TestEdits
from nemoflows.sandbox.levels import Level, Limits
from nemoflows.tasks import TIERS
from nemoflows.types import ThinkingPolicy


class Fixed(NamedTuple):
    """What a run returns."""

    patch: Patch
    page: FlyteFile


@workflow
def solve(
    task: CodingTask,
    tiers: Tiers = TIERS,
    candidates: int = 8,
    repairs: int = 4,
    frontier_candidates: int = 1,
    search_runs: int = 300,
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
) -> Fixed:
    """Solve a coding task, tier by tier: a step whose work is done already asks nobody.

    Args:
        task: What is to be done.
        tiers: The efficient and the frontier model, each as `endpoint:name`.
        candidates: Changes that the efficient tier proposes at once.
        repairs: Corrections it proposes in each of two rounds.
        frontier_candidates: Changes that the frontier tier proposes where none passes.
        search_runs: Test runs of the search that the embedded tier repairs by.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the run's calls may cost in USD; what no longer fits is not asked, and
            the patch says so. None is without end.

    Returns:
        The patch and the page that shows how it came about.
    """
    baseline = examine(task=task)
    plan = plan_change(
        baseline=baseline, tiers=tiers, thinking=thinking, fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
    )  # fmt: skip
    searched = search_repair(baseline=baseline, tiers=tiers, max_runs=search_runs)
    found = run_tests(baseline=baseline, proposals=searched)
    proposed = propose(
        baseline=baseline, plan=plan, candidates=candidates, tiers=tiers, thinking=thinking,
        fresh=fresh, retry_unusable=retry_unusable,
        budget_usd=budget_usd,
    )  # fmt: skip
    first = run_tests(baseline=baseline, proposals=proposed)
    repaired = repair(
        baseline=baseline, plan=plan, rounds=[first], candidates=repairs, tiers=tiers,
        thinking=thinking, fresh=fresh, retry_unusable=retry_unusable,
        budget_usd=budget_usd, spent=proposed.spent,
    )  # fmt: skip
    second = run_tests(baseline=baseline, proposals=repaired)
    again = repair(
        baseline=baseline, plan=plan, rounds=[first, second], candidates=repairs, tiers=tiers,
        thinking=thinking, fresh=fresh, retry_unusable=retry_unusable,
        budget_usd=budget_usd, spent=repaired.spent,
    )  # fmt: skip
    third = run_tests(baseline=baseline, proposals=again)
    escalated = escalate_change(
        baseline=baseline, plan=plan, rounds=[found, first, second, third],
        candidates=frontier_candidates, tiers=tiers, thinking=thinking, fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd, spent=again.spent,
    )  # fmt: skip
    last = run_tests(baseline=baseline, proposals=escalated)
    chosen = select(
        baseline=baseline, plan=plan, rounds=[found, first, second, third, last],
        proposals=[searched, proposed, repaired, again, escalated],
    )  # fmt: skip
    patch = review(
        baseline=baseline, plan=plan, patch=chosen, tiers=tiers, thinking=thinking, fresh=fresh,
        retry_unusable=retry_unusable,
        budget_usd=budget_usd,
    )  # fmt: skip
    page = report_change(
        baseline=baseline, plan=plan, rounds=[found, first, second, third, last],
        proposals=[searched, proposed, repaired, again, escalated], patch=patch, tiers=tiers,
    )  # fmt: skip
    return Fixed(patch=patch, page=page)


@workflow
def fix_issue(
    repo: str,
    issue: str,
    test_command: str = "python -m pytest",
    target_tests: list[str] = [],  # noqa: B006  (flytekit copies it)
    tiers: Tiers = TIERS,
    candidates: int = 8,
    repairs: int = 4,
    frontier_candidates: int = 1,
    search_runs: int = 300,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    min_sandbox: Level = "landlock",
    test_edits: TestEdits = "refuse",
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
) -> Fixed:
    """Fix an issue of a repository, judged by its tests.

    Args:
        repo: A folder; of a git checkout, what git tracks or would track.
        issue: What is wrong or wanted, in words.
        test_command: `pytest` or `PYTHON -m pytest`, with arguments.
        target_tests: Tests that must pass; none for all that fail now.
        tiers: The efficient and the frontier model, each as `endpoint:name`.
        candidates: Changes that the efficient tier proposes at once.
        repairs: Corrections it proposes in each of two rounds.
        frontier_candidates: Changes that the frontier tier proposes where none passes.
        search_runs: Test runs of the search that the embedded tier repairs by.
        limits: What one test run may take.
        min_sandbox: The weakest containment to accept: weak, landlock, full.
        test_edits: Whether a candidate may change test files: refuse, allow.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the run's calls may cost in USD; what no longer fits is not asked, and
            the patch says so. None is without end.

    Returns:
        The patch and the page that shows how it came about.
    """
    repository = snapshot(repo=repo)
    task = coding_task(
        repository=repository, issue=issue, test_command=test_command, target_tests=target_tests,
        limits=limits, min_sandbox=min_sandbox, test_edits=test_edits, fresh=fresh,
    )  # fmt: skip
    patch, page = solve(
        task=task, tiers=tiers, candidates=candidates, repairs=repairs,
        frontier_candidates=frontier_candidates, search_runs=search_runs, thinking=thinking,
        fresh=fresh, retry_unusable=retry_unusable,
        budget_usd=budget_usd,
    )  # fmt: skip
    return Fixed(patch=patch, page=page)


@workflow
def write_function(
    prompt: str,
    tests: str,
    tiers: Tiers = TIERS,
    candidates: int = 8,
    repairs: int = 4,
    frontier_candidates: int = 1,
    search_runs: int = 300,
    min_sandbox: Level = "landlock",
    thinking: ThinkingPolicy = "auto",
    fresh: str = "",
    retry_unusable: int = 0,
    budget_usd: float | None = None,
) -> Fixed:
    """Write or repair one function, judged by assertions.

    Args:
        prompt: A function to repair, the head of one to write, or words that ask for one.
        tests: Python that asserts, as in HumanEval (`check(function)`) or MBPP.
        tiers: The efficient and the frontier model, each as `endpoint:name`.
        candidates: Changes that the efficient tier proposes at once.
        repairs: Corrections it proposes in each of two rounds.
        frontier_candidates: Changes that the frontier tier proposes where none passes.
        search_runs: Test runs of the search that the embedded tier repairs by.
        min_sandbox: The weakest containment to accept: weak, landlock, full.
        thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
        fresh: Salt: another value asks again what is recorded.
        retry_unusable: New draws where a reply could not be used; 0 replays the failure.
        budget_usd: Most that the run's calls may cost in USD; what no longer fits is not asked, and
            the patch says so. None is without end.

    Returns:
        The patch and the page that shows how it came about.
    """
    task = function_task(prompt=prompt, tests=tests, min_sandbox=min_sandbox)
    patch, page = solve(
        task=task, tiers=tiers, candidates=candidates, repairs=repairs,
        frontier_candidates=frontier_candidates, search_runs=search_runs, thinking=thinking,
        fresh=fresh, retry_unusable=retry_unusable,
        budget_usd=budget_usd,
    )  # fmt: skip
    return Fixed(patch=patch, page=page)
