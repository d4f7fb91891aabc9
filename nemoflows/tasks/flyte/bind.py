"""Binding in code: the same tasks, declared for a policy and a GPU that the code names.

What the environment says at registration does not reach the pod in which somebody's `@dynamic`
compiles; what stands in the code does. So a bound task is the same task wherever it is declared.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any

from flytekit.core.base_task import TaskResolverMixin
from flytekit.core.tracker import TrackedInstance
from pydantic import ValidationError

from nemoflows.errors import BadInput
from nemoflows.gpus import find
from nemoflows.models.hardware import Hardware
from nemoflows.settings import Settings, load
from nemoflows.tasks.flyte.binding import Binding, bound, digest, environment, is_told
from nemoflows.tasks.flyte.decorator import CHOICES, HouseTask
from nemoflows.types import Policy

_OTHERS = {"secrets", "registry", "endpoints"}
"""Settings beside the hardware that a binding may have of its own."""


def bind(
    policy: Policy | None = None,
    *,
    gpu: str | None = None,
    concurrent: int | None = None,
    context_tokens: int | None = None,
    name: str = "",
    **hardware: Any,
) -> Bound:
    """Return the library's tasks, bound to a policy and to the hardware that its models need.

        large = nemoflows.bind(policy, gpu="h100", concurrent=100)
        found = large.research(plan=plan, index=index)

    What is not given is as the environment has it. Two bindings may stand in one workflow, and
    inside `@dynamic` they keep resources, accelerator and engine arguments.

    Args:
        policy: What the tasks ask by default; None is the environment's.
        gpu: GPU of the efficient tier where its model runs in the task: `h100`, `h100x4`.
        concurrent: Sequences at once that the GPU is planned for.
        context_tokens: Context of one sequence that the GPU is planned for.
        name: What the names of these tasks end with in Flyte; by default a digest of the binding.
        hardware: Other fields of `nemoflows.models.hardware.Hardware`, and `secrets`, `registry`,
            `endpoints` as the settings have them.

    Raises:
        BadInput: No such GPU or setting.
        BadModel: The model does not fit the GPU.
    """
    wished = hardware | {"concurrent": concurrent, "context_tokens": context_tokens}
    made = _settings(gpu, {key: value for key, value in wished.items() if value is not None})
    asked = policy or made.default_policy()
    in_code = policy is not None and (bool(gpu) or not made.runs_in_task(asked.efficient))
    known = in_code or is_told(made)
    return Bound(bound(made, asked, is_known=known, must_fit=known), name)


def _settings(gpu: str | None, wished: dict[str, Any]) -> Settings:
    """Return the environment's settings with what a binding changes of them."""
    settings = load()
    changed = dict(settings) | {key: wished.pop(key) for key in _OTHERS & set(wished)}
    _refuse_unknown(wished)
    if gpu:
        find(gpu)
    changed |= {} if gpu is None else {"gpu": gpu}
    try:
        changed["hardware"] = Hardware.model_validate(dict(settings.hardware) | wished)
        return Settings.model_validate(changed)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInput(f"bind cannot take this: {wrong}. Nothing was declared.") from None


def _refuse_unknown(wished: dict[str, Any]) -> None:
    unknown = sorted(set(wished) - set(Hardware.model_fields))
    if unknown:
        raise BadInput(
            f"bind does not know {', '.join(unknown)}; it takes policy, gpu, name, "
            f"{', '.join(sorted(_OTHERS))} and {', '.join(Hardware.model_fields)}."
        )


class Bound:
    """The library's tasks, as attributes, declared for one binding; `bind` makes it."""

    def __init__(self, binding: Binding, name: str) -> None:
        self.binding = binding
        self.name = name or digest(binding)[:8]
        self._tasks: dict[str, HouseTask] = {}

    @property
    def policy(self) -> Policy:
        """Return what the tasks ask by default."""
        return self.binding.policy

    @cached_property
    def environment(self) -> dict[str, str]:
        """Return the variables by which a pod knows this binding: for a `@dynamic` of your own."""
        return environment(self.binding, efficient=False)

    def __getattr__(self, name: str) -> Any:
        """Return a task of the library, bound; the same one each time."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._tasks:
            made = getattr(import_module("nemoflows"), name)
            made = CHOICES[name](self.binding) if name in CHOICES else made
            if not isinstance(made, HouseTask):
                raise AttributeError(f"{name!r} is not a task that can be bound")
            self._tasks[name] = _bound_task(made, self.binding, self.name)
        return self._tasks[name]


def _bound_task(made: HouseTask, binding: Binding, suffix: str) -> HouseTask:
    function, name = made.body, f"{made.name}.{suffix}"
    task = HouseTask(function, made.uses, binding, name=name, resolver=resolver)
    inputs = task.python_interface.inputs_with_defaults
    if "policy" in inputs:
        usual = {"policy": (inputs["policy"][0], binding.policy)}
        task._native_interface._inputs.update(usual)  # noqa: SLF001  (flytekit has no other way)
    return task


class _Resolver(TrackedInstance, TaskResolverMixin):  # type: ignore[misc]  # flytekit has no types
    """Finds a bound task's body in a pod: what it is bound to came with the pod."""

    def name(self) -> str:
        """Return the resolver's name."""
        return "nemoflows.bound"

    def loader_args(self, settings: Any, task: HouseTask) -> list[str]:
        """Return where the body stands."""
        del settings
        return ["task-module", task.body.__module__, "task-name", task.body.__name__]

    def load_task(self, loader_args: list[str]) -> Any:
        """Return the task of that module and name."""
        _, module, _, name = loader_args
        return getattr(import_module(module), name)

    def get_all_tasks(self) -> list[Any]:
        """Return no tasks: each is made where it is bound."""
        return []


resolver = _Resolver()
