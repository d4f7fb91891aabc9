"""How the stand-in cluster walks a compiled closure, with pods that are played."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flyteidl.admin import execution_pb2, signal_pb2
from flyteidl.core import identifier_pb2, literals_pb2
from flytekit import (
    FlyteContextManager,
    LaunchPlan,
    approve,
    conditional,
    map_task,
    task,
    wait_for_input,
    workflow,
)
from flytekit.core.task import Echo
from flytekit.tools.translator import get_serializable

from tests import propeller
from tests.admin import Admin, Execution, Literals, Phase
from tests.pods import SETTINGS


@task
def double(n: int) -> int:
    return 2 * n


@task
def is_large(n: int) -> bool:
    return n > 4


as_it_is = Echo(name="as_it_is", inputs={"n": int})


@workflow
def inner(n: int) -> int:
    doubled: int = double(n=double(n=n))
    return doubled


@workflow
def whole(n: int, many: list[int]) -> tuple[int, list[int]]:
    large: Any = is_large(n=n)
    small = conditional("large").if_(large.is_true()).then(as_it_is(n=n)).else_().then(double(n=n))
    return inner(n=small), map_task(double)(n=many)


@workflow
def asking(n: int) -> int:
    allowed = approve(double(n=n), "may-it", timeout=timedelta(hours=1))
    more = wait_for_input("how-many", timeout=timedelta(hours=1), expected_type=int)
    last: int = double(n=more)
    _ = allowed >> last
    return last


def number(n: int) -> Any:
    made = literals_pb2.Literal()
    made.scalar.primitive.integer = n
    return made


def numbers(many: list[int]) -> Any:
    made = literals_pb2.Literal()
    made.collection.literals.extend(map(number, many))
    return made


class Played:
    """Pods that compute at once, or fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails: Callable[[str], bool] = lambda _: False

    def __call__(
        self, _: Execution, template: Any, inputs: Literals, path: str, __: int, item: int | None
    ) -> Literals:
        self.ran.append(path)
        if self.fails(path):
            raise propeller.Failed("it broke")
        given = inputs["n"]
        n = (given if item is None else given.collection.literals[item]).scalar.primitive.integer
        made = number(2 * n)
        if template.id.name.endswith("is_large"):
            made.scalar.primitive.boolean = n > 4
        return {"o0": made}


@pytest.fixture
def cluster() -> tuple[Admin, Played]:
    admin, played = Admin(), Played()
    propeller.start(admin, played)
    return admin, played


def launched(admin: Admin, entity: Any, **inputs: Any) -> Execution:
    """Register a workflow as pyflyte does, and start it."""
    every: OrderedDict[Any, Any] = OrderedDict()
    plan = LaunchPlan.get_default_launch_plan(FlyteContextManager.current_context(), entity)
    get_serializable(every, SETTINGS, plan)
    for one in every.values():
        found = one.to_flyte_idl()
        if hasattr(found, "template"):
            kind = "workflow" if found.template.id.resource_type == 2 else "task"
            admin.registered[kind, "p", "d", found.template.id.name, "v"] = found
        elif hasattr(found, "spec"):
            admin.registered["launch plan", "p", "d", found.id.name, "v"] = found.spec
    request = execution_pb2.ExecutionCreateRequest(project="p", domain="d")
    request.spec.launch_plan.CopyFrom(plan_id(entity.name))
    for name, value in inputs.items():
        request.inputs.literals[name].CopyFrom(value)
    return admin.execution(admin.CreateExecution(request, None).id.name)


def plan_id(name: str) -> Any:
    own = {"project": "p", "domain": "d", "name": name, "version": "v"}
    return identifier_pb2.Identifier(resource_type=3, **own)


def over(execution: Execution) -> Execution:
    with execution.changed:
        assert execution.changed.wait_for(lambda: execution.is_over, 20)
    return execution


def signal(admin: Admin, execution: Execution, name: str, value: Any) -> None:
    while name not in execution.asked:
        time.sleep(0.01)
    request = signal_pb2.SignalSetRequest(value=value)
    request.id.signal_id = name
    request.id.execution_id.CopyFrom(execution.id)
    admin.SetSignal(request, None)


def yes(value: bool) -> Any:
    made = literals_pb2.Literal()
    made.scalar.primitive.boolean = value
    return made


@pytest.mark.parametrize(("n", "found"), [(3, 24), (5, 20)])
def test_branches_workflows_within_and_maps(
    n: int, found: int, cluster: tuple[Admin, Played]
) -> None:
    admin, played = cluster
    done = over(launched(admin, whole, n=number(n), many=numbers([1, 2, 3])))
    assert done.phase == Phase.SUCCEEDED, done.error
    assert done.outputs["o0"] == number(found)
    assert done.outputs["o1"] == numbers([2, 4, 6])
    n_of_branch = int(n <= 4)  # no pod passes a value on
    assert len(played.ran) == 1 + n_of_branch + 2 + 3


def test_a_failure_is_recovered_from_what_succeeded(cluster: tuple[Admin, Played]) -> None:
    admin, played = cluster
    played.fails = lambda path: path == "n2-0-n1"
    failed = over(launched(admin, whole, n=number(3), many=numbers([1])))
    assert (failed.phase, failed.error) == (Phase.FAILED, "it broke")
    assert "FAILED" in failed.phases().values()
    played.fails = lambda _: False
    before = len(played.ran)
    request = execution_pb2.ExecutionRecoverRequest(id=failed.id)
    done = over(admin.execution(admin.RecoverExecution(request, None).id.name))
    assert done.outputs["o0"] == number(24)
    assert len(played.ran) - before <= 2, "what broke, and perhaps what it had cut off"


def test_it_waits_for_people(cluster: tuple[Admin, Played]) -> None:
    admin, played = cluster
    waits = launched(admin, asking, n=number(1))
    signal(admin, waits, "how-many", number(21))
    time.sleep(0.1)
    assert not waits.is_over
    assert played.ran == ["n0"]
    signal(admin, waits, "may-it", yes(value=True))
    assert over(waits).outputs["o0"] == number(42)
    refused = launched(admin, asking, n=number(1))
    signal(admin, refused, "may-it", yes(value=False))
    assert over(refused).error == "received a reject signal"
