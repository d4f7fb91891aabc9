"""From a model's endpoint to the engine that reaches it: one engine per endpoint and process."""

from __future__ import annotations

from typing import TypedDict

from nemoflows.engines.protocol import Drains, Engine, Notes
from nemoflows.models import CHAT_COMPLETIONS, Endpoint
from nemoflows.settings import Settings
from nemoflows.types import ModelRef


class Patience(TypedDict):
    """How long a remote engine waits, and how many calls it has in flight."""

    deadline_s: float
    concurrency: int


class Engines:
    """Engines by endpoint, made at first use; `given` ones take precedence."""

    def __init__(self, settings: Settings, *, given: dict[str, Engine] | None = None) -> None:
        self.settings = settings
        self.notes: Notes | None = None
        """Where engines write down what outlives the process; the door sets it."""
        self._engines: dict[str, Engine] = dict(given or {})
        self._known: dict[tuple[str, str], Engine] = {}

    def of(self, model: ModelRef) -> Engine:
        """Return the engine for `model`.

        Raises:
            BadModel: The endpoint is unknown.
        """
        found = self._known.get((model.endpoint, model.name))
        if found is None:
            found = self._known[model.endpoint, model.name] = self._find(model)
        return found

    def _find(self, model: ModelRef) -> Engine:
        endpoint = self.settings.endpoint(model)
        place = model.endpoint
        if endpoint.dialect == "scripted" and place not in self._engines:
            place = f"{model.endpoint}:{model.name}"  # every script is an engine of its own
        if place not in self._engines:
            self._engines[place] = _make(endpoint, model, self.settings, self.notes)
        return self._engines[place]

    def drain(self) -> None:
        """Let no engine send anything from now on; what is under way goes on."""
        for engine in self._engines.values():
            if isinstance(engine, Drains):
                engine.drain()

    async def aclose(self) -> None:
        """Close every engine."""
        for engine in self._engines.values():
            await engine.aclose()
        self._engines.clear()
        self._known.clear()


def _make(endpoint: Endpoint, model: ModelRef, settings: Settings, notes: Notes | None) -> Engine:
    if endpoint.dialect in CHAT_COMPLETIONS:
        from nemoflows.engines.openai import OpenAI

        return OpenAI(endpoint, name=model.endpoint, **_patience(settings))
    match endpoint.dialect:
        case "embedded":
            from nemoflows.engines.embedded import Embedded

            return Embedded()
        case "scripted":
            from nemoflows.engines.scripted import Scripted

            return Scripted()
        case "dense":
            from nemoflows.engines.dense import Dense

            return Dense(offline=settings.offline)
        case "anthropic" | "anthropic-batch":
            return _claude(endpoint, model.endpoint, settings, notes)
        case "vllm":
            from nemoflows.engines.vllm import Vllm

            return Vllm(settings.vllm, deadline_s=settings.deadline_s, offline=settings.offline)
        case _:
            raise AssertionError(f"{endpoint.dialect} is a dialect of chat completions")


def _claude(endpoint: Endpoint, name: str, settings: Settings, notes: Notes | None) -> Engine:
    if endpoint.dialect == "anthropic":
        from nemoflows.engines.anthropic import Anthropic

        return Anthropic(endpoint, name=name, **_patience(settings))
    from nemoflows.engines.anthropic_batch import AnthropicBatch

    return AnthropicBatch(endpoint, name=name, notes=notes, **_patience(settings))


def _patience(settings: Settings) -> Patience:
    return {"deadline_s": settings.deadline_s, "concurrency": settings.concurrency}
