"""A user's module with extractors, as a pod imports it."""

from __future__ import annotations

from flytekit import workflow
from pydantic import BaseModel, Field

from nemoflows import Extraction, Passage, build_index, extract_as, retrieve
from nemoflows.tasks import TIERS
from nemoflows.types import Tiers


class River(BaseModel):
    """A river."""

    name: str = Field(description="Name of the river")
    length_km: int | None = Field(default=None, ge=0, description="How many kilometres long")


rivers = extract_as(River, name="tests.rivers")


@workflow
def read_rivers(corpus: str, question: str, tiers: Tiers = TIERS) -> list[Extraction[River]]:
    """Read a river from each passage that fits the question."""
    index = build_index(corpus=corpus)
    passages = retrieve(question=question, index=index, k=3)
    return rivers(passages=passages, tiers=tiers)


def by_hand(text: str) -> list[Passage]:
    """Return one passage of one's own."""
    return [Passage(id="hand", document="hand.txt", start=0, end=len(text), text=text)]
