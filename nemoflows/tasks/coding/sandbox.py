"""CPU tasks that run a repository's tests in a sandbox; they ask no model and need no key."""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

from nemoflows.coding import functions, snapshots, testing
from nemoflows.coding.candidates import solved
from nemoflows.coding.commands import located
from nemoflows.coding.git_address import KEY, is_address
from nemoflows.coding.runs import TestRuns
from nemoflows.coding.types import Baseline, Change, CodingTask, Repository, TestEdits
from nemoflows.sandbox.levels import Level, Limits
from nemoflows.tasks.flyte.decorator import POLICY, body_of, task
from nemoflows.tasks.flyte.places import refuse_laptops_path
from nemoflows.tasks.flyte.secrets import provide
from nemoflows.tasks.flyte.session import run, session
from nemoflows.types import Policy


class Tested(NamedTuple):
    """A change whose candidates are tested, and whether one of them passes."""

    change: Change
    solved: bool
    """Beside the value, for a `conditional` compares nothing else."""


@task(repository=True, fetches=True)
def snapshot(repo: str) -> Repository:
    """Keep a repository's files as they are now, addressed by their content.

    Args:
        repo: A folder (of a git checkout, what git tracks or would track), a git address with a
            commit (https://host/x.git@COMMIT; its key in the secret GIT_TOKEN), or an archive on a
            disk or in a bucket (s3://bucket/x.tar.gz, .tgz, .tar, .zip).

    Returns:
        Where the snapshot lies and what is in it.

    Raises:
        BadInput: The repository is missing, empty, too large, or not pinned to a commit.
        EndpointDown: The server at the git address does not answer.
    """
    current = session()
    if not is_address(repo):
        refuse_laptops_path(repo, "repo")
    elif KEY in current.settings.secrets:
        provide(KEY, current.settings)
    return snapshots.snapshot(
        repo,
        root=current.index_root,
        key=os.environ.get(KEY, "") if is_address(repo) else "",
        offline=current.settings.offline,
    )


@task()
def function_task(prompt: str, tests: str, min_sandbox: Level = "landlock") -> CodingTask:
    """Make a coding task of one function and its tests.

    Args:
        prompt: A function to repair, the head of one to write, or words that ask for one.
        tests: Python that asserts, as in HumanEval (`check(function)`) or MBPP.
        min_sandbox: The weakest containment to accept.

    Returns:
        The task: a repository of one file and its tests.

    Raises:
        BadInput: The tests are no Python, or assert nothing.
    """
    tree = functions.tree(functions.head(prompt), tests)
    repository = snapshots.keep(tree, name="function", root=session().index_root)
    return CodingTask(repository=repository, issue=prompt, min_sandbox=min_sandbox)


@task(repository=True, fetches=True)
def coding_task(
    repo: str,
    issue: str,
    test_command: str = "python -m pytest",
    target_tests: list[str] | None = None,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    min_sandbox: Level = "landlock",
    test_edits: TestEdits = "refuse",
    policy: Policy = POLICY,
) -> CodingTask:
    """Keep a repository as it is now, and say what is to be done by which tests.

    Args:
        repo: A folder, a git address with a commit, or an archive, as `snapshot` takes it.
        issue: What is wrong or wanted, in words.
        test_command: `pytest` or `PYTHON -m pytest`, with arguments; a relative path of an
            interpreter is read from the repository.
        target_tests: Tests that must pass; none for all that fail now.
        limits: What one test run may take.
        min_sandbox: The weakest containment to accept.
        test_edits: Whether a candidate may change test files.
        policy: How models are asked; another `cache_salt` runs recorded tests again, too.

    Returns:
        The task.

    Raises:
        BadInput: The repository is missing, empty, too large, or not pinned to a commit.
    """
    repository = body_of(snapshot)(repo)
    return CodingTask(
        repository=repository,
        issue=issue,
        test_command=located(test_command, repository.origin),
        target_tests=target_tests or [],
        limits=limits,
        min_sandbox=min_sandbox,
        test_edits=test_edits,
        cache_salt=policy.cache_salt,
    )


@task(tests=True)
def examine(task: CodingTask) -> Baseline:
    """Run the tests before any change, and find out where the fault may be.

    Args:
        task: What is to be done.

    Returns:
        The report, the tests that must pass, and the most suspicious lines.

    Raises:
        BadInput: The tests cannot be run, or the machine contains them too weakly.
    """
    return run(testing.examine(task, runs=test_runs(), index_root=session().index_root))


@task(tests=True)
def search_repair(change: Change, max_runs: int = 300) -> Tested:
    """Repair by search, without a model: it costs nothing but test runs.

    Args:
        change: What `plan_change` returned, or where no candidate passes.
        max_runs: Test runs that the search may take.

    Returns:
        The change with the first mutation that passes, tested, or with none.
    """
    if not solved(change):
        n_cores = len(os.sched_getaffinity(0))
        searched = testing.search_repair(
            change, runs=test_runs(), max_runs=max_runs, at_once=n_cores
        )
        change = run(searched)
    return Tested(change, solved(change))


@task(tests=True)
def run_tests(change: Change) -> Tested:
    """Judge the candidates that are not tested yet, as many at once as there are cores.

    Args:
        change: What `propose`, `repair` or `escalate_change` returned.

    Returns:
        The change with a report for each candidate, and whether one of them passes.
    """
    judged = run(testing.run_tests(change, runs=test_runs()))
    return Tested(judged, solved(judged))


@task(tests=True)
def select(change: Change) -> Change:
    """Choose the smallest change that passes, run it once more, and write it as a diff.

    Args:
        change: What `run_tests` returned.

    Returns:
        The change with its patch: a diff that `git apply` takes, or why there is none.
    """
    return run(testing.select(change, runs=test_runs(), llm=session().llm))


def test_runs() -> TestRuns:
    """Return the process's test runs, with its sandboxes; they end with it."""
    return _test_runs(session().llm.journal.root)


@cache
def _test_runs(root: str) -> TestRuns:
    return TestRuns(root)
