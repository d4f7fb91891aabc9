"""Finding passages in an index that is opened once per process."""

from __future__ import annotations

from functools import lru_cache

from nemoflows import search
from nemoflows.llm.client import LLMClient
from nemoflows.types import Index, ModelRef, Passage


@lru_cache(maxsize=8)
def opened(uri: str) -> search.SearchIndex:
    """Return an index, opened once per process."""
    return search.open_index(uri)


async def find(query: str, *, index: Index, k: int, llm: LLMClient) -> list[Passage]:
    """Return the `k` best passages, with vectors where the index has them."""
    vector = None
    if index.embedder:
        model = ModelRef.model_validate(index.embedder)
        vector = (await llm.embed(model, [query], query=True))[0]
    return opened(index.uri).search(query, k, vector=vector)
