"""Extract: records of a user's own model from passages, each value with the words it is from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from nemoflows.calls import Reply
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.progress import Progress
from nemoflows.schemas import Shape
from nemoflows.typed import prompts
from nemoflows.typed.reading import Filled, read_record
from nemoflows.typed.steps import Check, ask_each, doubt_of
from nemoflows.typed.types import Extraction
from nemoflows.types import Passage, Policy

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ExtractStep:
    """A record over passages; `extract_as` makes a Flyte task of it."""

    name: str
    shape: Shape[Any]
    check: Check | None = None

    @property
    def rows_type(self) -> Any:
        """Return the type of a row: a passage."""
        return Passage

    @property
    def result_type(self) -> Any:
        """Return the type of what the step says about one."""
        return Extraction[self.shape.model]  # type: ignore[name-defined]

    async def run(
        self, rows: Sequence[Passage], client: BoundClient, progress: Progress | None = None
    ) -> list[Any]:
        """Return one extraction per passage, in order; failures are data."""
        found: list[Any] = await fill_records(
            rows, shape=self.shape, client=client, name=self.name, progress=progress
        )
        return found

    def low_confidence(self, result: Extraction[Any], row: Passage, policy: Policy) -> str:
        """Return what the user's check says, else what the reading found odd."""
        del policy
        return doubt_of(self.check, result.value, row) or result.problem


async def fill_records(
    passages: Sequence[Passage],
    *,
    shape: Shape[M],
    client: BoundClient,
    name: str = prompts.FIELDS.name,
    max_failed: float = 0.5,
    progress: Progress | None = None,
) -> list[Extraction[M]]:
    """Return what each passage says about a record, in order; a failure is data.

    Args:
        name: The step's name in the ledger.
        max_failed: Share of calls that may stay unanswered before the step fails.

    Raises:
        EndpointDown: Too many calls were not answered, each for a passing reason.
        TooManyFailures: Too many calls were refused for good.
    """
    specs = [_spec(passage, shape, client, name) for passage in passages]
    results = await ask_each(specs, client, progress, max_failed)
    pairs = zip(passages, results, strict=True)
    return [_extraction(shape, passage, result) for passage, result in pairs]


def _spec(passage: Passage, shape: Shape[M], client: BoundClient, name: str) -> CallSpec[Filled[M]]:
    request = prompts.fill(
        passage,
        outline=shape.outline,
        schema=shape.schema,
        output_tokens=shape.output_tokens,
    )

    def read(reply: Reply, final: bool) -> Filled[M]:
        return read_record(reply, shape, passage, final=final)

    if not client.model.is_builtin:  # which goes by the purpose
        request = request.model_copy(update={"purpose": name})
    return client.spec(request, read)


def _extraction(
    shape: Shape[M], passage: Passage, result: Success[Filled[M]] | Failure
) -> Extraction[M]:
    kind = Extraction[shape.model]  # type: ignore[name-defined]
    filled = (
        result.value
        if isinstance(result, Success)
        else Filled(None, problem=f"{result.reason}: {result.detail}")
    )
    made: Extraction[M] = kind(
        document=passage.document,
        passage=passage.id,
        value=filled.value,
        spans=filled.spans,
        problem=filled.problem,
        calls=result.calls,
    )
    return made
