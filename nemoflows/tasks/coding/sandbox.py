"""CPU tasks that run a repository's tests in a sandbox; they ask no model and need no key."""

from __future__ import annotations

from nemoflows.coding import candidates, functions, snapshots, trials
from nemoflows.coding.mutation.search import MAX_RUNS
from nemoflows.coding.types import (
    Baseline,
    Candidate,
    ChangePlan,
    CodingTask,
    Patch,
    Proposals,
    Repository,
    TestEdits,
)
from nemoflows.sandbox.levels import Level, Limits
from nemoflows.tasks.flyte.decorator import TIERS, task
from nemoflows.tasks.flyte.session import run, session
from nemoflows.tasks.flyte.testing import n_cores, test_runs
from nemoflows.types import Tiers


@task()
def snapshot(repo: str) -> Repository:
    """Keep a repository's files as they are now, addressed by their content.

    Args:
        repo: A folder; of a git checkout, what git tracks or would track.

    Returns:
        Where the snapshot lies and what is in it.

    Raises:
        BadInput: The folder is missing, empty or too large.
    """
    return snapshots.snapshot(repo, root=session().index_root)


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


@task()
def coding_task(
    repository: Repository,
    issue: str,
    test_command: str = "python -m pytest",
    target_tests: list[str] | None = None,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    min_sandbox: Level = "landlock",
    test_edits: TestEdits = "refuse",
    fresh: str = "",
) -> CodingTask:
    """Say what is to be done, and by which tests it is judged.

    Args:
        repository: What `snapshot` returned.
        issue: What is wrong or wanted, in words.
        test_command: `pytest` or `PYTHON -m pytest`, with arguments.
        target_tests: Tests that must pass; none for all that fail now.
        limits: What one test run may take.
        min_sandbox: The weakest containment to accept.
        test_edits: Whether a candidate may change test files.
        fresh: Salt: another value runs again what is recorded.

    Returns:
        The task.
    """
    return CodingTask(
        repository=repository,
        issue=issue,
        test_command=test_command,
        target_tests=target_tests or [],
        limits=limits,
        min_sandbox=min_sandbox,
        test_edits=test_edits,
        fresh=fresh,
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
    return run(trials.examine(task, runs=test_runs(), index_root=session().index_root))


@task(tests=True)
def search_repair(baseline: Baseline, tiers: Tiers = TIERS, max_runs: int = MAX_RUNS) -> Proposals:
    """Repair by search where the efficient tier is the embedded one, which has no model.

    Args:
        baseline: What `examine` returned.
        tiers: The two models; nothing is searched where the efficient one is a model.
        max_runs: Test runs that the search may take.

    Returns:
        The first mutation that passes, tested, or none.
    """
    if tiers.efficient.endpoint != "embedded":
        return Proposals()
    return run(
        trials.search_repair(baseline, runs=test_runs(), max_runs=max_runs, at_once=n_cores())
    )


@task(tests=True)
def run_tests(baseline: Baseline, proposals: Proposals) -> list[Candidate]:
    """Judge candidates in the sandbox, as many at once as there are cores.

    Args:
        baseline: What `examine` returned.
        proposals: What is to be judged; nothing runs for an empty list.

    Returns:
        The candidates with their reports.
    """
    return run(trials.run_tests(baseline, proposals.candidates, runs=test_runs()))


@task(tests=True)
def select(
    baseline: Baseline,
    plan: ChangePlan,
    rounds: list[list[Candidate]],
    proposals: list[Proposals],
) -> Patch:
    """Choose the smallest change that passes, run it once more, and write it as a diff.

    Args:
        baseline: What `examine` returned.
        plan: What `plan_change` returned; its calls count too.
        rounds: What `run_tests` returned, round by round.
        proposals: What was proposed, for the calls behind it.

    Returns:
        A diff that `git apply` takes, or why there is none.
    """
    tested = [candidate for tested in rounds for candidate in tested]
    keys = [*plan.calls, *(key for each in proposals for key in each.calls)]
    told = [plan.stopped, *(each.stopped for each in proposals)]
    stopped = next((why for why in told if why), "")
    return run(
        candidates.select(
            baseline,
            tested,
            runs=test_runs(),
            door=session().door,
            calls=keys,
            stopped=stopped,
        )
    )
