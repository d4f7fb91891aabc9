"""The typed task decorator: house defaults, the binding of resources, errors as Flyte means them.

flytekit ships no types, so this decorator is also what lets mypy check a workflow's wiring.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

from flytekit import PythonFunctionTask
from flytekit.core.base_task import TaskMetadata, TaskResolverMixin
from flytekit.core.python_auto_container import default_task_resolver

from nemoflows.errors import BadInput
from nemoflows.tasks.flyte import pods
from nemoflows.tasks.flyte.binding import Binding, declared, environment, of_environment, secrets
from nemoflows.tasks.flyte.places import IMAGE
from nemoflows.tasks.flyte.registration import mend_registration
from nemoflows.tasks.flyte.session import translated
from nemoflows.tasks.flyte.text import register_texts
from nemoflows.types import Policy

P = ParamSpec("P")
R = TypeVar("R")

register_texts()
mend_registration()
BINDING: Binding = of_environment()
"""How tasks are bound that no `bind` names: flytekit fixes resources when a task is declared."""
POLICY: Policy = BINDING.policy
"""Default of every `policy` input."""

RETRIES = 2
CHOICES: dict[str, Callable[[Binding], Any]] = {}
"""By the public name of a task that differs between bindings: which one it is under one."""


@dataclass(frozen=True, slots=True)
class Uses:
    """What a task uses, and so what it is declared with."""

    efficient: bool = False
    """It asks the efficient tier; it gets a GPU where that runs in process."""
    frontier: bool = False
    """It asks the frontier tier; it gets the secret with its key."""
    deck: bool = False
    """It shows something in Flyte's console."""
    tests: bool = False
    """It runs a repository's tests, and asks nobody anything."""
    index: bool = False
    """It makes or searches an index, whose vectors an endpoint may make."""
    repository: bool = False
    """It reads a repository or runs its tests, besides what it asks."""
    fetches: bool = False
    """It reads a repository, which may be at an address that wants a key."""
    dynamic: bool = False
    """It decides, once it runs, which tasks are started."""


class HouseTask(PythonFunctionTask):  # type: ignore[misc]  # flytekit has no types
    """A task of the library, declared for one binding.

    Nothing is Flyte-cached: a rerun executes, and the journal makes its calls free.
    """

    instantiated_in = ""
    """Nowhere: a name in Flyte says where the body stands, never who used the task first."""

    def __init__(
        self,
        function: Callable[..., Any],
        uses: Uses,
        binding: Binding,
        *,
        name: str = "",
        resolver: TaskResolverMixin | None = None,
    ) -> None:
        self.uses, self.binding, self.body = uses, binding, function
        modes = PythonFunctionTask.ExecutionBehavior
        super().__init__(
            None,
            translated(function),
            task_resolver=resolver,
            execution_mode=modes.DYNAMIC if uses.dynamic else modes.DEFAULT,
            **declaration(uses, binding),
        )
        # A task that is first used inside a workflow's body would else be taken for a part of it.
        self._task_resolver = resolver or default_task_resolver
        self._name = name or f"{function.__module__}.{function.__name__}"

    def _get_container(self, settings: Any) -> Any:
        remedy = f"call bound.{self.body.__name__}"
        if "policy" in self.python_interface.inputs:
            refuse_unknown_binding(self.name, self.binding, remedy=remedy)
        made = super()._get_container(settings)
        made.env.setdefault(IMAGE, made.image)  # a pod knows nothing else of where it comes from
        return made


def task(**uses: bool) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a Flyte task, bound as the environment says; `Uses` tells what the flags mean."""
    used = Uses(**uses)

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        made = functools.update_wrapper(HouseTask(function, used, BINDING), function)
        return cast("Callable[P, R]", made)

    return declare


def body_of(task: Callable[P, R]) -> Callable[P, R]:
    """Return what a task does, to be done within another one's pod."""
    return cast("HouseTask", task).body


def declaration(uses: Uses, binding: Binding) -> dict[str, Any]:
    """Return what every task of the house is declared with, however it is made."""
    alone = pods.isolated(binding.settings) if uses.tests else None
    template = {"pod_template": alone} if alone else {}
    on_gpu = uses.efficient and binding.kind != "cpu"
    return (
        declared(binding, efficient=uses.efficient, tests=uses.tests or uses.repository)
        | template
        | {
            "metadata": TaskMetadata(
                retries=RETRIES,
                # What was answered until a node is taken away is recorded; GPUs are dear.
                interruptible=on_gpu and binding.settings.hardware.pod.spot,
            ),
            "environment": environment(binding, efficient=uses.efficient),
            "secret_requests": secrets(
                binding,
                efficient=uses.efficient,
                frontier=uses.frontier,
                index=uses.index,
                fetches=uses.fetches,
            ),
            "enable_deck": uses.deck,
            "deck_fields": (),
        }
    )


def refuse_unknown_binding(name: str, binding: Binding, *, remedy: str) -> None:
    """Refuse to declare a task that takes a policy in a pod that was told nothing of any.

    `@dynamic` compiles in its own pod, with that pod's environment: the task would be a CPU task
    without a model.

    Args:
        remedy: What to do with a binding.

    Raises:
        BadInput: Nothing says how the task is bound.
    """
    if binding.is_known:
        return
    raise BadInput(
        f"The task {name} was declared in a pod that does not know its models and GPU: this "
        "@dynamic workflow has none of the NEMOFLOWS_* settings it was registered with. Bind the "
        "tasks in code, bound = nemoflows.bind(policy, gpu=…), and "
        f"{remedy}; or declare the workflow with "
        "@dynamic(environment=nemoflows.bind().environment). No call was made."
    )
