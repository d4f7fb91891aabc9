"""Steps of your own as Flyte tasks: ask, classify, extract over rows, each with its cascade."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from pydantic import BaseModel

from nemoflows.errors import BadInput
from nemoflows.schemas import bounded
from nemoflows.tasks.flyte.bind import Bound
from nemoflows.tasks.flyte.decorator import BINDING
from nemoflows.tasks.rows import StepTask
from nemoflows.typed.ask import OUTPUT_TOKENS, AskStep
from nemoflows.typed.classify import SAMPLES, THRESHOLD, ClassifyStep
from nemoflows.typed.extract import ExtractStep
from nemoflows.typed.prompts import FIELDS
from nemoflows.typed.steps import Check, RowStep
from nemoflows.typed.template import Prompt, Template
from nemoflows.typed.types import Extraction, Result

M = TypeVar("M", bound=BaseModel)
V = TypeVar("V")
Row = dict[str, str]
"""A row unless the user names another type: texts by name."""
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,99}")


def ask_as(
    prompt: Prompt,
    *,
    returns: type[V],
    name: str,
    row: Any = Row,
    check: Check | None = None,
    output_tokens: int = OUTPUT_TOKENS,
    bound: Bound | None = None,
) -> StepTask[Result[V]]:
    r"""Make a Flyte task that asks a prompt of your own about each of many rows.

    Keep what is returned in a variable of your module: a pod finds the task by both.

        triage = ask_as("How urgent is it?\n{subject}\n{body}", returns=Triage, name="triage")

    `triage(rows=rows)` asks the efficient tier; `triage.cascade(rows=rows)` asks the frontier,
    too, what failed. What stands in braces is a field of the row: data, never an instruction.

    Args:
        prompt: A template over the row's fields, or a function from a row to parts.
        returns: A pydantic model, or `str`.
        name: The step's name, in Flyte, ledger and report; each name once.
        row: Type of a row: a pydantic model, `str`, or a dictionary of texts.
        check: Your own gate, (value, row) → why the next tier should look; empty for all is well.
        output_tokens: Room for one reply.
        bound: What `bind` returned; None binds as the environment says.

    Returns:
        A task from `rows` and `policy` to one `Result[returns]` per row.

    Raises:
        BadInput: The prompt, the type or the name cannot be used.
    """
    step = AskStep(name, Template(prompt), returns, row, check, output_tokens)
    return _made(step, bound, inspect.currentframe())


def classify_as(
    label: Any,
    *,
    name: str,
    prompt: Prompt = "",
    row: Any = Row,
    examples: Mapping[str, Sequence[str]] | None = None,
    samples: int = SAMPLES,
    threshold: float = THRESHOLD,
    bound: Bound | None = None,
) -> StepTask[Result[Any]]:
    """Make a Flyte task that gives each of many rows one of your labels, with a confidence.

        intents = classify_as(Intent, name="intents", row=str)

    The confidence is the share of the samples that agree; rows below the threshold go to the
    frontier in `intents.cascade(rows=rows)`.

    Args:
        label: An Enum, or a Literal of texts.
        name: The step's name, in Flyte, ledger and report; each name once.
        prompt: A template over the row's fields, or a function; empty shows the whole row.
        row: Type of a row: a pydantic model, `str`, or a dictionary of texts.
        examples: Texts by label, shown to a model; without a model the nearest label is taken.
        samples: Replies per row.
        threshold: Confidence below which the next tier looks; a policy's route beats it.
        bound: What `bind` returned; None binds as the environment says.

    Returns:
        A task from `rows` and `policy` to one `Result[label]` per row.

    Raises:
        BadInput: The labels, the prompt or the name cannot be used.
    """
    step = ClassifyStep(name, Template(prompt), label, row, examples, samples, threshold)
    return _made(step, bound, inspect.currentframe())


def extract_as(
    model: type[M],
    *,
    name: str,
    check: Check | None = None,
    output_tokens: int = FIELDS.output_tokens,
    bound: Bound | None = None,
) -> StepTask[Extraction[M]]:
    """Make a Flyte task that reads records of your own pydantic model from passages.

        invoices = extract_as(Invoice, name="invoices")

    Describe the fields with `Field(description=…)`: models, and the builtin tier, go by it. Every
    value comes with the span it was read from. Unbounded texts, lists and numbers are bounded so
    that the longest reply fits `output_tokens`; your model's own bounds are checked in code.

    Args:
        model: A pydantic model. Any, dict, tuples and recursion are refused here.
        name: The step's name, in Flyte, ledger and report; each name once.
        check: Your own gate, (value, passage) → why the next tier should look.
        output_tokens: Room for one passage's record.
        bound: What `bind` returned; None binds as the environment says.

    Returns:
        A task from `rows`, which are passages or what `retrieve` returned, and `policy` to one
        `Extraction[model]` per passage.

    Raises:
        BadInput: The model cannot be bounded, or the name cannot be used.
    """
    step = ExtractStep(name, bounded(model, output_tokens=output_tokens), check)
    return _made(step, bound, inspect.currentframe())


def _made(step: RowStep, bound: Bound | None, frame: FrameType | None) -> StepTask[Any]:
    if not _NAME.fullmatch(step.name):
        raise BadInput(
            f"{step.name!r} is not a valid name of a step: begin with a small letter, and use "
            "small letters, digits, `_`, `-` and `.`."
        )
    _claim(step, frame)
    return StepTask(step, bound.binding if bound else BINDING)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a step was made: the same line of the same file may run more than once."""

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


def _claim(step: RowStep, frame: FrameType | None) -> None:
    """Take a name for the caller of a factory.

    Raises:
        BadInput: Another step has it: in a cluster one would run in place of the other.
    """
    caller = frame.f_back if frame else None
    space: Mapping[str, Any] = caller.f_globals if caller else {}
    code, line = (caller.f_code.co_filename, caller.f_lineno) if caller else ("", 0)
    module = str(space.get("__name__", ""))
    own = _Origin(module, (code, line, str(step.result_type)), space.get("__spec__"))
    other = _claimed.get(step.name)
    if other is not None and not own.is_again(other):
        raise BadInput(
            f"Two steps are named {step.name!r}: {other.module} (line {other.place[1]}) and "
            f"{module} (line {line}). Flyte tells tasks apart by name: give one another name."
        )
    _claimed[step.name] = own
