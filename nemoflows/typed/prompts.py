"""Words for a model that fills in records."""

from __future__ import annotations

from typing import Any

from nemoflows.calls import Request
from nemoflows.calls.contract import Step, passage_parts, request
from nemoflows.types import Passage

FIELDS = Step("fields", 4096, priority=2)


def fill(
    passage: Passage,
    *,
    outline: str,
    schema: dict[str, Any],
    output_tokens: int,
) -> Request:
    """Ask for a record whose every value comes with the words it was read from.

    Args:
        outline: The record's fields in words.
        schema: What the reply must fit; each value is an object of `quote` and `value`.
        output_tokens: What the schema was bounded for.
    """
    words = (
        "Fill in the record from the passage alone. For each value first copy, word for word, the "
        "shortest stretch of the passage that gives it into `quote`, then write `value`. Where "
        "the passage does not give a value, leave its `quote` empty; what stands beside it is "
        f"ignored. Guess nothing. The record:\n{outline}"
    )
    # Where rows come from decides nothing: two rows with the same text are one call.
    unnamed = passage.model_copy(update={"document": ""})
    asked = request(FIELDS, passage_parts([unnamed]), words, schema)
    return asked.model_copy(update={"max_output_tokens": output_tokens})
