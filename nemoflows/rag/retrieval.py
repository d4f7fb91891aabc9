"""Finding passages: an index opened once per process, a question checked once."""

from __future__ import annotations

from functools import lru_cache

from nemoflows import search
from nemoflows.errors import BadInput
from nemoflows.llm.client import Door
from nemoflows.types import (
    Index,
    ModelRef,
    Passage,
)

MAX_QUESTION_CHARACTERS = 8_000


def checked_question(question: str) -> str:
    """Return the question without surrounding space.

    Raises:
        BadInput: It is empty or too long; no call was made.
    """
    stripped = question.strip()
    if not stripped:
        raise BadInput("The question is empty. Ask something; no call was made.")
    if len(stripped) > MAX_QUESTION_CHARACTERS:
        raise BadInput(
            f"The question has {len(stripped)} characters, more than {MAX_QUESTION_CHARACTERS}. "
            "Put long material into the corpus; no call was made."
        )
    return stripped


@lru_cache(maxsize=8)
def opened(uri: str) -> search.SearchIndex:
    """Return an index, opened once per process."""
    return search.open_index(uri)


async def find(query: str, *, index: Index, k: int, door: Door) -> list[Passage]:
    """Return the `k` best passages, with vectors where the index has them."""
    vector = None
    if index.embedder:
        model = ModelRef.model_validate(index.embedder)
        vector = (await door.embed(model, [query], query=True))[0]
    return opened(index.uri).search(query, k, vector=vector)
