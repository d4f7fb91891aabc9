"""Records of a user's own model from passages, as a step: one request per passage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel

from nemoflows.calls import Reply
from nemoflows.extraction import prompts
from nemoflows.extraction.reading import Filled, read_record
from nemoflows.llm.bound import Desk
from nemoflows.llm.client import Progress
from nemoflows.llm.results import OVER, UNUSABLE, Ask, Done, Failed, refuse_too_many
from nemoflows.schemas import Shape
from nemoflows.types import Extraction, Passage

M = TypeVar("M", bound=BaseModel)


async def fill_records(
    passages: Sequence[Passage],
    *,
    shape: Shape[M],
    desk: Desk,
    max_failed: float = 0.5,
    progress: Progress | None = None,
) -> list[Extraction[M]]:
    """Return what each passage says about a record, in order; a failure is data.

    Args:
        max_failed: Share of calls that may stay unanswered before the step fails. Replies that
            could not be used do not count: they are paid, and named in their extraction. Nor does
            what no longer fits the budget.

    Raises:
        EndpointDown: Too many calls were not answered, each for a passing reason.
        TooManyFailures: Too many calls were refused for good.
    """
    asks = [_ask(passage, shape, desk) for passage in passages]
    results = await desk.door.batch(asks, max_failed=1.0, progress=progress)
    stopped = UNUSABLE | {OVER}
    lost = [r for r in results if isinstance(r, Failed) and r.reason not in stopped]
    refuse_too_many(lost, len(passages), max_failed)
    pairs = zip(passages, results, strict=True)
    return [_extraction(shape, passage, result) for passage, result in pairs]


def _ask(passage: Passage, shape: Shape[M], desk: Desk) -> Ask[Filled[M]]:
    request = prompts.fill(
        passage,
        outline=shape.outline,
        schema=shape.schema,
        output_tokens=shape.output_tokens,
        model=desk.model,
        salt=desk.salt,
    )

    def read(reply: Reply, final: bool) -> Filled[M]:
        return read_record(reply, shape, passage, final=final)

    return desk.asking(request, read)


def _extraction(
    shape: Shape[M], passage: Passage, result: Done[Filled[M]] | Failed
) -> Extraction[M]:
    kind = Extraction[shape.model]  # type: ignore[name-defined]
    filled = (
        result.value
        if isinstance(result, Done)
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
