"""Ask: a user's own prompt over rows, with a value of the user's own type as the reply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from nemoflows.calls import Reply, contract, recover
from nemoflows.calls.contract import a_string, an_object, request
from nemoflows.errors import BadInput, BadReply
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.progress import Progress
from nemoflows.schemas import Shape, bounded
from nemoflows.typed.extract import fill_records
from nemoflows.typed.reading import listed, refuse_large_numbers, validated
from nemoflows.typed.steps import Check, ask_each, doubt_of, refuse_no_rows_of, step_named
from nemoflows.typed.template import Template, fields_of
from nemoflows.typed.types import Result
from nemoflows.types import Passage, Policy

OUTPUT_TOKENS = 1024
"""Room for one reply unless the user says otherwise."""
TEXT = "answer"
"""Name of the only field of a reply that is a text."""


@dataclass(frozen=True)
class AskStep:
    """A prompt over rows; `ask_as` makes a Flyte task of it."""

    name: str
    template: Template
    returns: type[Any]
    """A pydantic model, or `str`."""
    row: Any = Mapping[str, str]
    check: Check | None = None
    output_tokens: int = OUTPUT_TOKENS
    shape: Shape[Any] | None = field(init=False)

    def __post_init__(self) -> None:
        """Bound the reply.

        Raises:
            BadInput: `returns` is not such a type, or cannot be bounded.
        """
        is_model = isinstance(self.returns, type) and issubclass(self.returns, BaseModel)
        if not is_model and self.returns is not str:
            raise BadInput(
                f"returns={self.returns!r} is not a pydantic model or str; for an Enum or a "
                "Literal use classify_as. No call was made."
            )
        shape = None
        if is_model:
            shape = bounded(self.returns, output_tokens=self.output_tokens, quoted=False)
        object.__setattr__(self, "shape", shape)

    @property
    def rows_type(self) -> Any:
        """Return the type of a row."""
        return self.row

    @property
    def result_type(self) -> Any:
        """Return the type of what the step says about one."""
        return Result[self.returns]  # type: ignore[name-defined]

    async def run(
        self, rows: Sequence[Any], client: BoundClient, progress: Progress | None = None
    ) -> list[Any]:
        """Return one result per row, in order; failures are data.

        Raises:
            BadInput: A row lacks a field that the prompt names; no call was made.
        """
        refuse_no_rows_of(rows)
        specs = [self._spec(row, client) for row in rows]
        if client.model.is_builtin:
            return await self._without_model(rows, client)
        results = await ask_each(specs, client, progress)
        return [self._result(result) for result in results]

    def low_confidence(self, result: Result[Any], row: Any, policy: Policy) -> str:
        """Return what the user's check says."""
        del policy
        return doubt_of(self.check, result.value, row)

    def _spec(self, row: Any, client: BoundClient) -> CallSpec[Any]:
        schema = self.shape.schema if self.shape else self._text_schema()
        words = f"Answer with this record:\n{self.shape.outline}" if self.shape else ""
        asked = request(
            step_named(self.name, self.output_tokens),
            self.template.parts(row),
            words or "Answer in plain text.",
            schema,
        )
        return client.spec(asked, self._read)

    def _text_schema(self) -> dict[str, Any]:
        return an_object(**{TEXT: a_string(2 * self.output_tokens)})

    def _read(self, reply: Reply, final: bool) -> Any:
        del final
        if self.shape is None:
            return self._text(reply)
        content = contract.content(reply)
        value, faults = validated(self.returns, content)
        if value is not None:
            refuse_large_numbers(content)
        if value is None:
            raise BadReply(f"The record does not hold: {listed([fault.text for fault in faults])}")
        return value

    def _text(self, reply: Reply) -> str:
        """Return the answer, whether the model wrapped it in an object or just said it."""
        found = recover.recovered(reply, self._text_schema())
        said: str = contract.field(found, TEXT, str) if found else reply.text
        text = recover.without_thoughts(said)
        if not text:
            raise BadReply("The reply holds no text.")
        return text

    def _result(self, result: Success[Any] | Failure) -> Result[Any]:
        if isinstance(result, Failure):
            problem = f"{result.reason}: {result.detail}"
            made = self.result_type(problem=problem, calls=result.calls)
        else:
            made = self.result_type(value=result.value, calls=result.calls)
        return made  # type: ignore[no-any-return]

    async def _without_model(self, rows: Sequence[Any], client: BoundClient) -> list[Any]:
        """Return what can be read from the rows without a model: fields that stand in them."""
        if self.shape is None:
            problem = "Without a model nothing can be written: name one in the policy."
            return [self.result_type(problem=problem) for _ in rows]
        shape = bounded(self.returns, output_tokens=4 * self.output_tokens)
        passages = [_passage(n, row) for n, row in enumerate(rows)]
        found = await fill_records(passages, shape=shape, client=client)
        return [self.result_type(value=each.value, problem=each.problem) for each in found]


def _passage(number: int, row: Any) -> Passage:
    lines = [f"{name}: {_words(value)}" for name, value in fields_of(row).items()]
    text = row if isinstance(row, str) else "\n".join(lines)
    place = f"row {number}"
    return Passage(id=place, document=place, start=0, end=len(text), text=text)


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
