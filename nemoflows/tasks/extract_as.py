"""Typed extraction: a Flyte task made for a user's own pydantic model.

A task made by a factory is found again in a pod by the module and the variable that hold it, which
flytekit looks up for instances of `PythonInstanceTask` and not for functions made in functions.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TypeVar, cast

from flytekit.core.base_task import TaskMetadata
from flytekit.core.docstring import Docstring
from flytekit.core.interface import Interface
from flytekit.core.python_function_task import PythonInstanceTask
from pydantic import BaseModel

from nemoflows.errors import BadInput
from nemoflows.extraction.prompts import FIELDS
from nemoflows.extraction.steps import fill_records
from nemoflows.progress import progress
from nemoflows.schemas import Shape, bounded
from nemoflows.tasks.client import desk
from nemoflows.tasks.flyte.decorator import RETRIES, TIERS, defaults, is_interruptible, translated
from nemoflows.tasks.flyte.session import run
from nemoflows.types import Extraction, Passage, ThinkingPolicy, Tiers

M = TypeVar("M", bound=BaseModel)


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


class ExtractTask(Protocol[M]):
    """The task that `extract_as` returns, as a workflow calls it."""

    def __call__(
        self,
        *,
        passages: list[Passage],
        tiers: Tiers = TIERS,
        thinking: ThinkingPolicy = "auto",
        fresh: str = "",
        retry_unusable: int = 0,
        budget_usd: float | None = None,
        spent: list[str] | None = None,
    ) -> list[Extraction[M]]:
        """Return what each passage says about a record.

        Args:
            passages: What `retrieve` returned, or passages of your own; one request for each.
            tiers: The two models; the efficient one is asked.
            thinking: Whether models think: where a step gains by it, nowhere, or everywhere.
            fresh: Salt: another value asks again what is recorded.
            retry_unusable: New draws where a reply could not be used; 0 replays the failure.
            budget_usd: Most that the calls may cost in USD, those in `spent` included; passages
                that no longer fit say so in `problem`. None is without end.
            spent: Keys of calls that earlier tasks of the run made.

        Returns:
            One extraction per passage, in order; failures are data in `problem`.
        """
        ...


def extract_as(
    model: type[M], *, name: str, output_tokens: int = FIELDS.output_tokens
) -> ExtractTask[M]:
    """Make a Flyte task that reads records of your own pydantic model from passages.

    Keep what is returned in a variable of your module: a pod finds the task by both.

        invoices = extract_as(Invoice, name="invoices")

    Describe the fields with `Field(description=…)`: models, and the embedded tier, go by it. Every
    value comes with the span it was read from. Unbounded texts, lists and numbers are bounded so
    that the longest reply fits `output_tokens`; your model's own bounds are checked in code.

    Args:
        model: A pydantic model. Any, dict, tuples and recursion are refused here.
        name: The task's name in Flyte; each name once.
        output_tokens: Room for one passage's record.

    Returns:
        A task of `passages`, `tiers`, `thinking`, `fresh`, `retry_unusable`, `budget_usd` and
        `spent`; it returns `list[Extraction[model]]`.

    Raises:
        BadInput: The model cannot be bounded, or the name is taken or no name.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} is no task name: use letters, digits, `_`, `-` and `.`.")
    shape = bounded(model, output_tokens=output_tokens)
    _claim(name, model, inspect.currentframe())
    return cast("ExtractTask[M]", _Extractor(name, shape))


class _Extractor(PythonInstanceTask):  # type: ignore[misc]  # flytekit has no types
    """A task without a function: its inputs and output are declared for one model."""

    def __init__(self, name: str, shape: Shape[Any]) -> None:
        self._shape = shape
        output = list[Extraction[shape.model]]  # type: ignore[name-defined]
        interface = Interface(
            inputs={
                "passages": list[Passage],
                "tiers": (Tiers, TIERS),
                "thinking": (ThinkingPolicy, "auto"),
                "fresh": (str, ""),
                "retry_unusable": (int, 0),
                "budget_usd": (float | None, None),
                "spent": (list[str] | None, None),
            },
            outputs={"o0": output},
            docstring=Docstring(callable_=ExtractTask.__call__),
        )
        super().__init__(
            name=name,
            task_config=None,
            interface=interface,
            metadata=TaskMetadata(retries=RETRIES, interruptible=is_interruptible(efficient=True)),
            **defaults(efficient=True),
        )

    def execute(self, **kwargs: Any) -> Any:
        """Run the step; flytekit calls this with the inputs, locally and in a pod."""
        return translated(self._extract)(**kwargs)

    def _extract(
        self,
        passages: list[Passage],
        tiers: Tiers = TIERS,
        thinking: ThinkingPolicy = "auto",
        fresh: str = "",
        retry_unusable: int = 0,
        budget_usd: float | None = None,
        spent: list[str] | None = None,
    ) -> list[Extraction[Any]]:
        if not passages:
            return []
        own = desk(
            tiers,
            "efficient",
            task=self.name,
            thinking=thinking,
            fresh=fresh,
            retry_unusable=retry_unusable,
            budget_usd=budget_usd,
            spent=spent,
            about=[passage.id for passage in passages],
        )
        with progress(self.name) as tell:
            return run(fill_records(passages, shape=self._shape, desk=own, progress=tell))


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where an extractor was made: the same line of the same file may run more than once."""

    module: str
    place: tuple[str, int, str]
    spec: object
    """The module's import: another one each time the module is executed anew."""

    def is_again(self, other: _Origin) -> bool:
        """Return whether this is `other` once more: reloaded, imported under another name."""
        if self.place == other.place:
            return True
        anew = self.spec is not other.spec or (
            self.spec is None and self.place[0] != other.place[0]
        )
        return self.module == other.module and anew


_claimed: dict[str, _Origin] = {}


def _claim(name: str, model: type[BaseModel], frame: FrameType | None) -> None:
    """Take a name for the caller of `extract_as`.

    Raises:
        BadInput: Another extractor has it: in a cluster one would run in place of the other.
    """
    caller = frame.f_back if frame else None
    space: Mapping[str, Any] = caller.f_globals if caller else {}
    code, line = (caller.f_code.co_filename, caller.f_lineno) if caller else ("", 0)
    module = str(space.get("__name__", ""))
    own = _Origin(module, (code, line, model.__qualname__), space.get("__spec__"))
    other = _claimed.get(name)
    if other is not None and not own.is_again(other):
        raise BadInput(
            f"Two extractors are named {name!r}: {other.module} (line {other.place[1]}) and "
            f"{module} (line {line}). Flyte tells tasks apart by name: give one another name."
        )
    _claimed[name] = own
