"""What the door expects of an engine: three verbs over values, attempts reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nemoflows.calls import Attempt, Outcome, Request
from nemoflows.errors import BadModel
from nemoflows.types import ModelRef

Vectors = NDArray[np.float32]
"""Shape (texts, dimensions), rows of length 1."""

OnAttempt = Callable[[Attempt], None]


class Engine(Protocol):
    """One way to reach models. An engine has no memory: replay and recording are the door's."""

    paid: bool
    """Whether a call costs anything worth recording; the embedded tier's does not."""
    adapter: str
    """Version of the request's translation, part of every key: new bytes, new version."""

    def identity(self, model: ModelRef) -> str:
        """Return what the model's spelling stands for, as keys must tell it."""

    async def preflight(self, model: ModelRef) -> int | None:
        """Check without paying that `model` can be asked, and return its context in tokens.

        None is a context that is unknown, or without end on the embedded tier.

        Raises:
            BadModel: Unknown model, missing key or extra.
            EndpointDown: Nothing answers at the address.
        """

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Ask for a reply; failures of the provider come back as outcomes, never raised."""

    async def embed(self, model: ModelRef, texts: Sequence[str], *, query: bool) -> Vectors:
        """Return a unit vector per text; `query` tells a question from a passage."""

    async def rerank(self, model: ModelRef, query: str, texts: Sequence[str]) -> list[float]:
        """Return a relevance per text; only the order means something."""

    async def aclose(self) -> None:
        """Give back connections, processes and memory."""


class Notes(Protocol):
    """Bytes by name that outlive the process: the journal's store, as engines see it."""

    def read(self, name: str) -> bytes | None:
        """Return what was written under `name`."""

    def write(self, name: str, data: bytes) -> None:
        """Write `data` under `name`, all of it or nothing."""

    def names(self, folder: str) -> list[str]:
        """Return every name below a folder, sorted."""

    def move(self, name: str, to: str) -> None:
        """Give what lies under `name` another name."""

    def remove(self, name: str) -> None:
        """Remove what lies under `name`."""


@runtime_checkable
class Resumes(Protocol):
    """An engine whose calls go on without the process and are picked up by the next one.

    Its own notes tell what is under way, so the door announces no attempts of its calls. They wait
    and do no work here, so they take none of the door's places either.
    """

    def recorded(self, key: str) -> None:
        """Learn that the journal holds the outcome of `key`: it need not be found again."""


@runtime_checkable
class Limits(Protocol):
    """An engine whose model may write more than a request says: some always think."""

    def limit_tokens(self, request: Request) -> int:
        """Return the most output tokens that a call is allowed, thinking included."""


@runtime_checkable
class Loads(Protocol):
    """An engine that takes a while to start: apart from its calls, so that GPU time is told."""

    async def load(self, model: ModelRef) -> None:
        """Start what `model` runs on, where it does not run yet."""


@runtime_checkable
class Drains(Protocol):
    """An engine that can stop sending."""

    def drain(self) -> None:
        """Send nothing from now on: attempts and retries that wait end unsent."""


@runtime_checkable
class Lists(Protocol):
    """An engine that can say at no cost which models its endpoint serves."""

    async def served(self) -> dict[str, int | None]:
        """Return the models, each with its context in tokens where the endpoint tells it.

        Raises:
            BadModel: The key is missing or refused.
            EndpointDown: Nothing answers.
        """


def cannot_embed(model: ModelRef, texts: Sequence[str], *, query: bool) -> BadModel:
    """Return the error of an engine that has no vectors."""
    return BadModel(
        f"{str(model)!r} cannot embed ({len(texts)} texts, query={query}): use `dense:`."
    )


def cannot_rerank(model: ModelRef, query: str, texts: Sequence[str]) -> BadModel:
    """Return the error of an engine that has no relevances."""
    return BadModel(f"{str(model)!r} cannot rerank {len(texts)} texts for {query!r}: use `dense:`.")
