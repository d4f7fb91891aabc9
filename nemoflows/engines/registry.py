"""From a model's endpoint to the engine that reaches it: one engine per endpoint and process."""

from __future__ import annotations

from typing import TypedDict

from nemoflows.engines.base import Engine
from nemoflows.models import Endpoint
from nemoflows.settings import Settings
from nemoflows.storage.store import Records
from nemoflows.types import ModelRef


class Remote(TypedDict):
    """What engines of remote endpoints are told beside the endpoint."""

    name: str
    deadline_s: float
    concurrency: int


class Engines:
    """Engines by endpoint, made at first use; `given` ones take precedence."""

    def __init__(
        self,
        settings: Settings,
        *,
        given: dict[str, Engine] | None = None,
        notes: Records | None = None,
    ) -> None:
        self.settings, self.notes = settings, notes
        self._engines: dict[str, Engine] = dict(given or {})

    def of(self, model: ModelRef) -> Engine:
        """Return the engine for `model`.

        Raises:
            BadModel: The endpoint is unknown.
        """
        endpoint, place = self.settings.endpoint(model), model.endpoint
        if endpoint.dialect == "fake" and place not in self._engines:
            place = f"{model.endpoint}:{model.name}"  # every script is an engine of its own
        if place not in self._engines:
            self._engines[place] = _make(endpoint, model.endpoint, self.settings, self.notes)
        return self._engines[place]

    def drain(self) -> None:
        """Let no engine send anything from now on; what is under way goes on."""
        for engine in self._engines.values():
            engine.drain()

    async def aclose(self) -> None:
        """Close every engine."""
        for engine in self._engines.values():
            await engine.aclose()
        self._engines.clear()


def _make(endpoint: Endpoint, name: str, settings: Settings, notes: Records | None) -> Engine:
    match endpoint.dialect:
        case "builtin":
            from nemoflows.engines.builtin import Builtin

            return Builtin()
        case "fake":
            from nemoflows.engines.fake import FakeEngine

            return FakeEngine()
        case "dense":
            from nemoflows.engines.dense import Dense

            return Dense(offline=settings.offline)
        case "vllm":
            from nemoflows.engines.vllm import Vllm

            return Vllm(
                settings.hardware.engine_arguments,
                deadline_s=settings.deadline_s,
                offline=settings.offline,
            )
        case _:
            return _remote(endpoint, name, settings, notes)


def _remote(endpoint: Endpoint, name: str, settings: Settings, notes: Records | None) -> Engine:
    remote = Remote(name=name, deadline_s=settings.deadline_s, concurrency=settings.concurrency)
    match endpoint.dialect:
        case "anthropic":
            from nemoflows.engines.anthropic.engine import Anthropic

            return Anthropic(endpoint, **remote)
        case "anthropic-batch":
            from nemoflows.engines.anthropic.batches import AnthropicBatch

            return AnthropicBatch(endpoint, notes=notes, **remote)
        case _:
            from nemoflows.engines.openai.engine import OpenAI

            return OpenAI(endpoint, **remote)
