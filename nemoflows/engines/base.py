"""What the client expects of an engine, with what most engines cannot do said once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from nemoflows.calls import Answered, Attempt, Outcome, Reply, Request
from nemoflows.errors import BadModel
from nemoflows.types import ModelRef

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vectors: TypeAlias = "NDArray[np.float32]"
"""Shape (texts, dimensions), rows of length 1."""

OnAttempt = Callable[[Attempt], None]

SENDING: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("SENDING", default=None)
"""Announces the attempt that the running task is about to make; an engine that `announces` awaits
it after every wait, right before the first byte leaves."""


class Engine(ABC):
    """One way to reach models. An engine keeps no replies: replay and recording are the client's.

    A new engine writes `complete` and names its `wire_version`; all else has a default here.
    """

    wire_version: ClassVar[str]
    """Version of the request's translation, part of every key: new bytes, new version."""
    paid: ClassVar[bool] = True
    """Whether a call costs anything worth recording."""
    generates: ClassVar[bool] = True
    """Whether a model writes the replies; False where rules do, or where nothing is written."""
    announces: ClassVar[bool] = False
    """Whether it awaits `SENDING` itself; for others the client announces before `complete`."""
    resumes: ClassVar[bool] = False
    """Whether calls go on without the process and are picked up by the next one.

    Such an engine's own notes tell what is under way, so the client announces no attempts of its
    calls; they wait and do no work here, so they take none of the client's places either."""

    @abstractmethod
    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Ask for a reply; failures of the provider come back as outcomes, never raised."""

    def read(self, came: Reply) -> Outcome:
        """Return the outcome that a recorded body holds; only engines that keep one are asked."""
        return Answered(reply=came)

    def model_fingerprint(self, model: ModelRef) -> str:
        """Return what the model's spelling stands for, as keys must tell it: here the spelling."""
        return str(model)

    def key(self, request: Request) -> str:
        """Return the key under which a reply to `request` is recorded."""
        fingerprint = self.model_fingerprint(request.model)
        return request.key(model_fingerprint=fingerprint, wire_version=self.wire_version)

    async def preflight(self, model: ModelRef) -> int | None:
        """Check without paying that `model` can be asked, and return its context in tokens.

        None is a context that is unknown, or without end where no model writes.

        Raises:
            BadModel: Unknown model, missing key or extra.
            EndpointDown: Nothing answers at the address.
        """
        del model
        return None

    def limit_tokens(self, request: Request) -> int:
        """Return the most output tokens that a call is allowed; models that always think add."""
        return request.limit_tokens

    async def load(self, model: ModelRef) -> None:
        """Start what `model` runs on, so that starting is told from asking; most have nothing."""

    async def served(self) -> dict[str, int | None] | None:
        """Return the endpoint's models with their contexts in tokens; None where it has no list.

        Raises:
            BadModel: The key is missing or refused.
            EndpointDown: Nothing answers.
        """
        return None

    async def embed(self, model: ModelRef, texts: Sequence[str], *, query: bool) -> Vectors:
        """Return a unit vector per text; `query` tells a question from a passage.

        Raises:
            BadModel: The engine has no vectors.
        """
        raise BadModel(
            f"{str(model)!r} has no vectors and cannot embed ({len(texts)} texts, query={query}). "
            "Name a `dense:` model as the embedder, or leave it empty for a lexical index."
        )

    def recorded(self, key: str) -> None:
        """Learn that the journal holds the outcome of `key`; needed where calls are resumed."""

    def drain(self) -> None:
        """Send nothing from now on: attempts and retries that wait end unsent."""

    async def aclose(self) -> None:
        """Give back connections, processes and memory."""
