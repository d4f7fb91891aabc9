"""Fix an issue of a repository, or write a function, and get a tested patch.

pyflyte run workflows/coding.py fix_issue --repo DIR --issue "…"
"""

from typing import NamedTuple

from flytekit import workflow
from flytekit.types.file import FlyteFile

from nemoflows import Patch, Policy, coding_task, function_task, report_change
from nemoflows.coding.types import Effort, TestEdits
from nemoflows.sandbox.levels import Level, Limits
from nemoflows.tasks import POLICY
from nemoflows.tasks.coding.solve import EFFORT, solve

LIMITS = Limits()


class Outcome(NamedTuple):
    """What a run returns."""

    patch: Patch
    report: FlyteFile


@workflow
def fix_issue(
    repo: str,
    issue: str,
    test_command: str = "python -m pytest",
    target_tests: list[str] = [],  # noqa: B006  (flytekit copies it)
    policy: Policy = POLICY,
    effort: Effort = EFFORT,
    limits: Limits = LIMITS,
    min_sandbox: Level = "landlock",
    test_edits: TestEdits = "refuse",
) -> Outcome:
    """Fix an issue of a repository, judged by its tests.

    Args:
        repo: A folder (of a git checkout, what git tracks or would), a git address with a commit
            (https://host/x.git@COMMIT), or an archive (s3://bucket/x.tar.gz, .zip).
        issue: What is wrong or wanted, in words.
        test_command: `pytest` or `PYTHON -m pytest`, with arguments; a relative path of an
            interpreter is read from the repository.
        target_tests: Tests that must pass; none for all that fail now.
        policy: How models are asked: both tiers' models, budget, thinking, and more; as JSON, YAML
            or the name of such a file.
        effort: How much is tried: candidates, repairs, rounds, frontier_candidates, search_runs;
            and unverified, "fail" to end so where nothing is; as JSON, YAML or a file.
        limits: What one test run may take: seconds, test_seconds, memory_mib, processes, file_mib;
            as JSON, YAML or a file.
        min_sandbox: The weakest containment to accept: weak, landlock, full.
        test_edits: Whether a candidate may change test files: refuse, allow.

    Returns:
        The patch and the report that shows how it came about.
    """
    task = coding_task(
        repo=repo,
        issue=issue,
        test_command=test_command,
        target_tests=target_tests,
        limits=limits,
        min_sandbox=min_sandbox,
        test_edits=test_edits,
        policy=policy,
    )
    change = solve(task=task, effort=effort, policy=policy)
    page = report_change(change=change, policy=policy, effort=effort)
    return Outcome(patch=change.patch, report=page)


@workflow
def write_function(
    prompt: str,
    tests: str,
    policy: Policy = POLICY,
    effort: Effort = EFFORT,
    min_sandbox: Level = "landlock",
) -> Outcome:
    """Write or repair one function, judged by assertions.

    Args:
        prompt: A function to repair, the head of one to write, or words that ask for one.
        tests: Python that asserts, as in HumanEval (`check(function)`) or MBPP.
        policy: How models are asked: both tiers' models, budget, thinking, and more; as JSON, YAML
            or the name of such a file.
        effort: How much is tried: candidates, repairs, rounds, frontier_candidates, search_runs;
            and unverified, "fail" to end so where nothing is; as JSON, YAML or a file.
        min_sandbox: The weakest containment to accept: weak, landlock, full.

    Returns:
        The patch and the report that shows how it came about.
    """
    task = function_task(prompt=prompt, tests=tests, min_sandbox=min_sandbox)
    change = solve(task=task, effort=effort, policy=policy)
    page = report_change(change=change, policy=policy, effort=effort)
    return Outcome(patch=change.patch, report=page)
