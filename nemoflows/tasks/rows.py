"""What a step of a user's own is to Flyte: its task, and the nodes of its cascade.

A task made by a factory is found again in a pod by the module and the variable that hold it, which
flytekit looks up for instances of `PythonInstanceTask` and not for functions made in functions. The
nodes of a cascade are found through the task that they are parts of.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, Generic, NamedTuple, TypeVar

from flytekit import FlyteContextManager, conditional
from flytekit.core.base_task import TaskResolverMixin
from flytekit.core.docstring import Docstring
from flytekit.core.interface import Interface
from flytekit.core.python_auto_container import default_task_resolver
from flytekit.core.python_function_task import PythonInstanceTask
from flytekit.core.task import Echo
from flytekit.core.tracker import TrackedInstance, extract_task_module

from nemoflows.errors import BadInput
from nemoflows.llm.bound import BoundClient
from nemoflows.progress import progress
from nemoflows.rag.types import Passages
from nemoflows.tasks.audit import shadowed
from nemoflows.tasks.client import client
from nemoflows.tasks.flyte.binding import Binding
from nemoflows.tasks.flyte.decorator import Uses, declaration, refuse_unknown_binding
from nemoflows.tasks.flyte.session import run, translated
from nemoflows.typed import steps
from nemoflows.typed.steps import RowStep
from nemoflows.typed.types import Result
from nemoflows.types import Passage, Policy

R = TypeVar("R", bound=Result[Any])


class RowTask(PythonInstanceTask):  # type: ignore[misc]  # flytekit has no types
    """A task without a function, declared for one binding."""

    def __init__(
        self,
        name: str,
        uses: Uses,
        binding: Binding,
        *,
        inputs: dict[str, Any],
        outputs: dict[str, Any],
        resolver: TaskResolverMixin = default_task_resolver,
    ) -> None:
        self.uses, self.binding = uses, binding
        interface = Interface(
            inputs=inputs | {"policy": (Policy, binding.policy)},
            outputs=outputs,
            docstring=Docstring(docstring=_DOCSTRING),
        )
        made = declaration(uses, binding)
        super().__init__(name=name, task_config=None, interface=interface, **made)
        # A task that is first used inside a workflow's body would else be taken for a part of it.
        self._task_resolver, self._name = resolver, name

    def execute(self, *, rows: Any, **inputs: Any) -> Any:
        """Do the work; flytekit calls this with the inputs, locally and in a pod.

        In a local run flytekit leaves defaults to a function's own, and there is none here.
        """
        listed = rows.passages if isinstance(rows, Passages) else rows
        given = {"policy": self.binding.policy} | inputs
        return translated(self.work)(rows=listed, **given)

    @abstractmethod
    def work(self, **inputs: Any) -> Any:
        """Do what the task is for."""

    def _get_container(self, settings: Any) -> Any:
        remedy = "give what that returns to the step's factory as bound="
        refuse_unknown_binding(self.name, self.binding, remedy=remedy)
        return super()._get_container(settings)


class StepTask(RowTask, Generic[R]):
    """A step of the user's own, on the efficient tier."""

    def __init__(self, step: RowStep, binding: Binding) -> None:
        self.step = step
        self.rows: Any = list[step.rows_type]  # type: ignore[name-defined]
        if step.rows_type is Passage:  # what `retrieve` returns will do, too
            self.rows |= Passages
        self.results: Any = list[step.result_type]  # type: ignore[name-defined]
        inputs, outputs = {"rows": self.rows}, {"o0": self.results}
        super().__init__(step.name, Uses(efficient=True), binding, inputs=inputs, outputs=outputs)

    def __call__(self, *args: Any, **inputs: Any) -> list[R]:
        """Ask the efficient tier about `rows`; in a workflow, declare that."""
        results: list[R] = super().__call__(*args, **inputs)
        return results

    def work(self, rows: Sequence[Any], policy: Policy) -> list[R]:  # type: ignore[override]
        """Return what the efficient tier says about each row."""
        if not rows:
            return []
        own = self.client(rows, policy, "efficient", task=self.name)
        with progress(self.name) as tell:
            return run(steps.on_tier(self.step, rows, own, policy, "efficient", tell))

    def client(self, rows: Sequence[Any], policy: Policy, tier: Any, **more: Any) -> BoundClient:
        """Return the client of one tier; a run may ask one step about several tables."""
        about = [str(len(rows)), *(repr(row) for row in rows)]
        return client(policy, tier, about=about, **more)

    def cascade(self, *, rows: Any, policy: Any = None) -> list[R]:
        """Return, in a workflow, the rows' results: the frontier looks at what failed.

        Where nothing failed no second pod is started.

        Args:
            rows: As the task takes them.
            policy: How models are asked; the policy's `routes` say where this step goes.

        Raises:
            BadInput: This is no workflow.
        """
        _refuse_outside_workflow(self.name)
        policy = self.binding.policy if policy is None else policy
        first = self.first(rows=rows, policy=policy)
        results: list[R] = (
            conditional(f"{self.name} goes on")
            .if_(first.goes_on.is_true())
            .then(self.escalation(rows=rows, results=first.results, policy=policy))
            .else_()
            .then(self.as_it_is(results=first.results))
        )
        return results

    @cached_property
    def first(self) -> _First:
        """Return the task of the efficient tier that says whether the frontier has to look."""
        outputs = {"results": self.results, "goes_on": bool}
        return _First(self, "first", Uses(efficient=True), {"rows": self.rows}, outputs)

    @cached_property
    def escalation(self) -> _Escalation:
        """Return the CPU task of the frontier tier."""
        inputs = {"rows": self.rows, "results": self.results}
        uses = Uses(frontier=True)
        return _Escalation(self, "escalation", uses, inputs, {"o0": self.results})

    @cached_property
    def as_it_is(self) -> Echo:
        """Return the branch that passes the results on and starts no pod."""
        return Echo(name=f"{self.name}.as_it_is", inputs={"results": self.results})


def _refuse_outside_workflow(name: str) -> None:
    context = FlyteContextManager.current_context()
    running = context.execution_state is not None and context.execution_state.mode is not None
    if context.compilation_state is None and not running:
        raise BadInput(
            f"{name}.cascade makes nodes of a workflow: call it in a function with @workflow. In "
            "plain Python, nemoflows.open_client asks both tiers. No call was made."
        )


class _Part(RowTask):
    """One node of a cascade."""

    def __init__(
        self,
        whole: StepTask[Any],
        part: str,
        uses: Uses,
        inputs: dict[str, Any],
        outputs: dict[str, Any],
    ) -> None:
        self.whole, self.part = whole, part
        super().__init__(
            f"{whole.name}.{part}",
            uses,
            whole.binding,
            inputs=inputs,
            outputs=outputs,
            resolver=_parts,
        )


class Asked(NamedTuple):
    """What one tier says about rows, and whether the next one has anything to do."""

    results: list[Any]
    goes_on: bool
    """Beside the results, for a `conditional` compares nothing else."""


class _First(_Part):
    def work(self, rows: Sequence[Any], policy: Policy) -> Asked:  # type: ignore[override]
        step = self.whole.step
        if steps.skips_efficient(step.name, policy):
            return Asked(steps.unasked(step, rows), goes_on=bool(rows))
        results = self.whole.work(rows, policy)
        was_paid = any(result.calls for result in results)
        measured = was_paid and policy.next_model is not None and policy.shadow_share > 0
        return Asked(results, goes_on=measured or bool(steps.failed(results, policy, step.name)))


class _Escalation(_Part):
    def work(self, rows: Sequence[Any], results: list[Any], policy: Policy) -> list[Any]:  # type: ignore[override]
        step, keys = self.whole.step, [key for result in results for key in result.calls]
        again = not steps.skips_efficient(step.name, policy)
        own = self.whole.client(
            rows, policy, "frontier", task=self.name, spent=keys, escalated=again
        )
        with progress(self.name) as tell:
            merged = run(steps.escalate(step, rows, results, own, policy, tell))
        shadowed(keys, policy, spent=[key for result in merged for key in result.calls])
        return merged


class _PartResolver(TrackedInstance, TaskResolverMixin):  # type: ignore[misc]  # flytekit has no types
    """Finds a part of a cascade in a pod: by its whole, and its name there."""

    def name(self) -> str:
        """Return the resolver's name."""
        return "nemoflows.part"

    def loader_args(self, settings: Any, task: _Part) -> list[str]:
        """Return where the whole stands, and which part it is."""
        del settings
        _, module, name, _ = extract_task_module(task.whole)
        return ["task-module", module, "task-name", name, "part", task.part]

    def load_task(self, loader_args: list[str]) -> Any:
        """Return the part."""
        _, module, _, name, _, part = loader_args
        return getattr(getattr(import_module(module), name), part)

    def get_all_tasks(self) -> list[Any]:
        """Return no tasks: each stands in its whole."""
        return []


_parts = _PartResolver()
_DOCSTRING = """Say something about each row.

Args:
    rows: One request or more for each.
    results: What the efficient tier said about each; what failed is looked at again.
    policy: How models are asked. Rows that no longer fit its budget say so in `problem`.

Returns:
    One result per row, in order; failures are data in `problem`.
"""
