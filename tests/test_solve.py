"""Which pods a change takes: none starts to return nothing, and none goes on for ever."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core import dynamic_job_pb2

import nemoflows
from benchmarks.kill_cells import Cell
from benchmarks.kill_runs import run_sequence
from nemoflows.coding.types import Change, CodingTask, Edit, Effort
from nemoflows.tasks.coding import sandbox, solve
from nemoflows.tasks.flyte.decorator import HouseTask
from nemoflows.types import Policy
from tests.coding import (
    FILE,
    HALF,
    ISSUE,
    RIGHT,
    WRONG,
    Providers,
    current,
    fix,
    lending,
    policy,
    proposes,
    reply,
)
from tests.packages import gpus, secret_names
from tests.pods import prepare_pod

NANO = "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
EFFORT = Effort(candidates=2, repairs=2, search_runs=0)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[HouseTask]:
    """Return the tasks of the house whose bodies ran, in the order in which they began."""
    found: list[HouseTask] = []
    execute = HouseTask.execute

    def noted(self: HouseTask, **inputs: Any) -> Any:
        found.append(self)
        return execute(self, **inputs)

    monkeypatch.setattr(HouseTask, "execute", noted)
    return found


def names(tasks: list[HouseTask]) -> list[str]:
    return [task.name.rpartition(".")[2] for task in tasks]


def task_of(folder: Path) -> CodingTask:
    found = sandbox.coding_task(repo=str(lending(folder)), issue=ISSUE)
    assert isinstance(found, CodingTask)
    return found


def solved_with_gpu(task: CodingTask, effort: Effort = EFFORT, how: Policy | None = None) -> Change:
    found: Change = solve.solve_with_gpu(task=task, effort=effort, policy=how or policy())
    return found


def on_gpu(tasks: list[HouseTask]) -> list[str]:
    """Return the tasks that have a GPU where the efficient tier's model runs in the task."""
    return names([task for task in tasks if task.uses.efficient])


def test_an_endpoint_takes_one_cpu_task(
    providers: Providers, executed: list[HouseTask], tmp_path: Path
) -> None:
    providers.play(small=proposes(HALF, WRONG, WRONG, RIGHT), large=proposes(""))
    assert fix(lending(tmp_path / "repo")).status == "no candidate passed"
    assert names(executed) == ["coding_task", "solve_here", "report_change"]


def test_the_builtin_tier_takes_one_cpu_task(executed: list[HouseTask], tmp_path: Path) -> None:
    assert fix(lending(tmp_path / "repo"), Policy()).status == "verified"
    assert names(executed) == ["coding_task", "solve_here", "report_change"]


def test_a_gpu_is_asked_for_once_where_the_first_proposal_passes(
    providers: Providers, executed: list[HouseTask], tmp_path: Path
) -> None:
    providers.play(small=proposes(RIGHT), large=proposes(""))
    task = task_of(tmp_path / "repo")
    executed.clear()
    change = solved_with_gpu(task)
    assert change.patch.status == "verified"
    assert on_gpu(executed) == ["propose"]
    assert names(executed) == ["solve_with_gpu", "propose", "judge_and_go_on"]
    assert providers.counts == {
        ("large", "plan_change"): 1, ("small", "propose"): 2, ("large", "review"): 1,
    }  # fmt: skip


def test_what_no_candidate_passes_takes_its_rounds_and_ends(
    providers: Providers, executed: list[HouseTask], tmp_path: Path
) -> None:
    def small(purpose: str, body: dict[str, Any], n: int) -> str:
        number = 10 * (1 + n) + len(purpose)
        edit = Edit(path=FILE, search=current(body), replace=f"    return {number}")
        return reply(edit)

    providers.play(small=small, large=proposes("no JSON"))
    task = task_of(tmp_path / "repo")
    executed.clear()
    change = solved_with_gpu(task, Effort(candidates=2, repairs=1, rounds=2, search_runs=0))
    assert change.patch.status == "no candidate passed"
    assert on_gpu(executed) == ["propose", "repair", "repair"]
    assert names(executed).count("judge_and_go_on") == 3
    assert change.n_rounds == 3
    assert providers.counts["large", "repair"] == 2, "the frontier, and once more with the error"


def test_a_proposal_of_nothing_is_not_asked_for_again(
    providers: Providers, executed: list[HouseTask], tmp_path: Path
) -> None:
    providers.play(small=proposes("no JSON"), large=proposes(RIGHT))
    task = task_of(tmp_path / "repo")
    executed.clear()
    change = solved_with_gpu(task)
    assert on_gpu(executed) == ["propose"]
    assert change.patch.candidate is not None
    assert change.patch.candidate.tier == "frontier"


@pytest.mark.parametrize(
    ("how", "effort"),
    [(Policy(), Effort()), (policy(), Effort(candidates=0, frontier_candidates=0, search_runs=0))],
    ids=["builtin", "no candidates"],
)
def test_no_gpu_is_asked_for_where_nothing_can_be_proposed(
    how: Policy, effort: Effort, providers: Providers, executed: list[HouseTask], tmp_path: Path
) -> None:
    providers.play(small=proposes(""), large=proposes(""))
    task = task_of(tmp_path / "repo")
    executed.clear()
    change = solved_with_gpu(task, effort, how)
    assert names(executed) == ["solve_with_gpu"]
    assert change.patch.status == ("verified" if how == Policy() else "no candidate passed")


def test_isolated_tests_run_in_pods_of_their_own(
    providers: Providers, executed: list[HouseTask], tmp_path: Path
) -> None:
    providers.play(small=proposes(RIGHT), large=proposes(""))
    task = task_of(tmp_path / "repo")
    executed.clear()
    change: Change = solve.solve_apart(task=task, effort=EFFORT, policy=policy())
    assert change.patch.status == "verified"
    assert names(executed) == [
        "solve_apart", "examine", "plan_change", "go_on_apart", "propose", "run_tests",
        "go_on_apart", "select", "review",
    ]  # fmt: skip
    asking = [t for t in executed if t.uses.efficient or t.uses.frontier]
    assert not [t for t in asking if t.uses.tests], "who runs tests has no key"
    alone = nemoflows.bind(pod={"isolate_tests": True})
    assert names([alone.solve])[0] == alone.name
    assert alone.solve.body.__name__ == "solve_apart"
    assert alone.run_tests.pod_template.labels == {"nemoflows/tests": "true"}
    assert alone.propose.pod_template is None


def test_isolated_tests_of_the_builtin_tier_start_no_pod_for_nothing(
    executed: list[HouseTask], tmp_path: Path
) -> None:
    task = task_of(tmp_path / "repo")
    executed.clear()
    change: Change = solve.solve_apart(task=task)
    assert change.patch.status == "verified"
    assert names(executed) == [
        "solve_apart", "examine", "plan_change", "search_repair", "go_on_apart", "select",
    ]  # fmt: skip


def test_a_binding_says_which_task_solves() -> None:
    assert nemoflows.solve is solve.solve_here
    large = nemoflows.bind(Policy.model_validate({"efficient": NANO}), gpu="h100")
    assert large.solve.body.__name__ == "solve_with_gpu"
    assert (large.propose.resources.requests.gpu, large.solve.resources.requests.gpu) == ("1", None)


def test_a_pod_that_solves_compiles_one_task_with_a_gpu(tmp_path: Path) -> None:
    """As in a cluster: the pod runs the tests and plans, and leaves what is to be started."""
    how = Policy.model_validate({"efficient": NANO, "frontier": "builtin"})
    large = nemoflows.bind(how, gpu="h100", concurrent=100)
    inputs: dict[str, Any] = {"task": task_of(tmp_path / "repo"), "effort": EFFORT, "policy": how}
    words, places = prepare_pod(large.solve, tmp_path / "pod", **inputs)
    done = subprocess.run(words, **places, stderr=subprocess.STDOUT, check=False, timeout=240)
    path = tmp_path / "pod" / "out" / "futures.pb"
    assert path.exists(), done.stdout.decode()
    found = dynamic_job_pb2.DynamicJobSpec()
    found.ParseFromString(path.read_bytes())
    given = {template.id.name.rpartition(".")[2]: gpus(template) for template in found.tasks}
    assert given == {"propose": "1", "judge_and_go_on": ""}
    assert [secret_names(template) for template in found.tasks] == [[], []]


def test_a_killed_dynamic_repeats_no_test_run_and_no_call(tmp_path: Path) -> None:
    sequel = run_sequence(Cell("coding dynamic", "disk", 8), tmp_path, random.Random(3), 3)
    assert sequel.holds, sequel
    assert sequel.kills >= 2
