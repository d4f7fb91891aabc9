"""vLLM in process: the real engine (CPU build) on a tiny random-weight Nemotron-H.

Random weights write nonsense, so whatever holds here holds by construction and not by luck.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nemoflows.calls import Answered, Attempt, Outcome, Unanswered, Unusable
from nemoflows.engines.vllm import Vllm, installed, is_nemotron, weights_hash
from nemoflows.errors import BadModel
from nemoflows.types import ModelRef
from tests.support import request

T = TypeVar("T")
ARGUMENTS = {
    "dtype": "bfloat16",
    "enforce_eager": True,
    "max_model_len": 2048,
    "max_num_seqs": 64,
}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "maxItems": 3, "items": {"enum": ["a", "b", "c"]}},
        "home": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 8}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "tags", "home"],
    "additionalProperties": False,
}


class Loop:
    """An event loop in a thread, as a task's process has one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=600)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("vllm")
    from tests.tiny_nemotron import make

    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loop() -> Loop:
    return Loop()


@pytest.fixture(scope="module")
def engine(loop: Loop) -> Iterator[Vllm]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    made = Vllm(ARGUMENTS, deadline_s=300)
    yield made
    loop.run(made.aclose())


def ask(
    engine: Vllm, model: Path, text: str = "hello", **changes: Any
) -> Coroutine[Any, Any, Outcome]:
    asked = request(text, model=f"vllm:{model}", **changes)
    return engine.complete(asked, lambda _: None)


def valid(outcome: Outcome) -> dict[str, Any]:
    """Return the reply as an object that fits the schema, or fail."""
    assert isinstance(outcome, Answered), outcome
    found = json.loads(outcome.reply.text)
    assert set(found) == {"name", "age", "tags", "home"}
    assert len(found["name"]) <= 12
    assert 0 <= found["age"] <= 120
    assert len(found["tags"]) <= 3
    assert set(found["tags"]) <= {"a", "b", "c"}
    assert len(found["home"]["city"]) <= 8
    return dict(found)


@pytest.mark.vllm
def test_structured_replies_are_all_valid(engine: Vllm, model: Path, loop: Loop) -> None:
    async def many() -> list[Outcome]:
        asks = [
            ask(
                engine, model, f"person {n}", json_schema=SCHEMA, max_output_tokens=400,
                sampling={"temperature": 1.0, "seed": n},
            )
            for n in range(200)
        ]  # fmt: skip
        return await asyncio.gather(*asks)

    found = [valid(outcome) for outcome in loop.run(many())]
    assert len(found) == 200
    assert len({row["age"] for row in found}) > 5, "random weights write different things"


@pytest.mark.vllm
@pytest.mark.parametrize("budget_tokens", [0, 5, 20])
def test_a_thinking_budget_is_kept_and_the_reply_still_valid(
    budget_tokens: int, engine: Vllm, model: Path, loop: Loop
) -> None:
    thinking = {"mode": "budget", "budget_tokens": budget_tokens}

    async def many() -> list[Outcome]:
        asks = [
            ask(engine, model, str(n), json_schema=SCHEMA, max_output_tokens=450, thinking=thinking)
            for n in range(20)
        ]
        return await asyncio.gather(*asks)

    for outcome in loop.run(many()):
        valid(outcome)
        assert isinstance(outcome, Answered)
        assert outcome.reply.usage is not None
        assert outcome.reply.usage.reasoning_tokens <= budget_tokens


@pytest.mark.vllm
def test_usage_counts_the_prompt_and_the_reply(engine: Vllm, model: Path, loop: Loop) -> None:
    outcome = loop.run(ask(engine, model, json_schema=SCHEMA, max_output_tokens=400))
    assert isinstance(outcome, Answered)
    usage = outcome.reply.usage
    assert usage is not None
    longer = loop.run(ask(engine, model, "hello " * 50, json_schema=SCHEMA, max_output_tokens=400))
    assert isinstance(longer, Answered)
    assert longer.reply.usage is not None
    assert longer.reply.usage.input_tokens > usage.input_tokens > 0
    assert usage.output_tokens > 0


@pytest.mark.vllm
def test_a_reply_that_is_cut_off_is_truncated(engine: Vllm, model: Path, loop: Loop) -> None:
    outcome = loop.run(ask(engine, model, json_schema=SCHEMA, max_output_tokens=5))
    assert isinstance(outcome, Unusable)
    assert outcome.reason == "truncated"
    assert outcome.reply.usage is not None
    assert outcome.reply.usage.output_tokens == 5


@pytest.mark.vllm
def test_a_prompt_that_is_too_long_is_refused_with_its_numbers(
    engine: Vllm, model: Path, loop: Loop
) -> None:
    outcome = loop.run(ask(engine, model, "word " * 3000))
    assert isinstance(outcome, Unanswered)
    assert not outcome.transient
    assert "2048" in outcome.detail


@pytest.mark.vllm
def test_a_cancelled_call_leaves_the_engine_usable(engine: Vllm, model: Path, loop: Loop) -> None:
    async def cancel() -> None:
        task = asyncio.ensure_future(ask(engine, model, max_output_tokens=1500))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run(cancel())
    assert isinstance(
        loop.run(ask(engine, model, json_schema=SCHEMA, max_output_tokens=400)), Answered
    )


def kill_engine_core() -> None:
    """SIGKILL the engine's core process, a child of this one."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    cores = [int(row.split()[0]) for row in listed.splitlines() if "EngineCore" in row]
    assert cores, listed
    for pid in cores:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.vllm
def test_an_engine_that_dies_is_started_again_once(engine: Vllm, model: Path, loop: Loop) -> None:
    attempts: list[Attempt] = []

    async def killed(n: int, label: str) -> list[Outcome]:
        asks = [
            engine.complete(
                request(
                    f"{label} {number}", model=f"vllm:{model}", json_schema=SCHEMA,
                    max_output_tokens=1500, thinking={"mode": "budget", "budget_tokens": 1000},
                ),
                attempts.append,
            )
            for number in range(n)
        ]  # fmt: skip
        tasks = [asyncio.ensure_future(one) for one in asks]
        await asyncio.sleep(0.3)
        kill_engine_core()
        return await asyncio.gather(*tasks)

    loop.run(ask(engine, model, max_output_tokens=5))
    for outcome in loop.run(killed(32, "first")):
        if isinstance(outcome, Unusable):
            assert "thinking" in outcome.detail, "random weights may stop while they think"
        else:
            valid(outcome)
    died = [attempt for attempt in attempts if attempt.status == "EngineDeadError"]
    assert 0 < len(died) <= 32
    assert len(attempts) == 32 + len(died), "only what was in flight is asked again"
    again = loop.run(killed(8, "second"))
    lost = [outcome for outcome in again if isinstance(outcome, Unanswered)]
    assert lost
    assert all(outcome.transient and "died 2 times" in outcome.detail for outcome in lost)
    assert "engine" in lost[0].detail.lower()
    assert len(lost[0].detail.splitlines()) > 3, "the engine's last log lines are quoted"


def test_local_weights_are_known_by_what_they_are(tmp_path: Path) -> None:
    def make(folder: Path, size: int) -> Path:
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "nemotron_h"}')
        header = b'{"a": 1}'
        content = len(header).to_bytes(8, "little") + header + b"\0" * size
        (folder / "model.safetensors").write_bytes(content)
        return folder

    first, copy, other = make(tmp_path / "a", 9), make(tmp_path / "b", 9), make(tmp_path / "c", 10)
    assert weights_hash(first) == weights_hash(copy) != weights_hash(other)
    keys = Vllm({}, deadline_s=1)
    spelled = [ModelRef.model_validate(f"vllm:{path}") for path in (first, copy, other)]
    identities = [keys.identity(model) for model in spelled]
    assert identities[0] == identities[1] != identities[2]
    assert str(tmp_path) not in identities[0]
    quantised = Vllm({"quantization": "fp8", "max_num_seqs": 8}, deadline_s=1)
    assert quantised.identity(spelled[0]) != identities[0]
    assert "max_num_seqs" not in quantised.identity(spelled[0])


def test_the_family_is_told_by_configuration_or_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nemotron_h"}')
    spelled = [f"vllm:{tmp_path}", "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "vllm:x/y"]
    assert [is_nemotron(ModelRef.model_validate(name)) for name in spelled] == [True, True, False]


@pytest.mark.skipif(installed() is not None, reason="vLLM is installed here")
def test_without_vllm_the_error_says_how_to_get_it() -> None:
    engine = Vllm({}, deadline_s=1)
    with pytest.raises(BadModel, match=r"nemoflows\[vllm\]"):
        asyncio.run(engine.preflight(ModelRef.model_validate("vllm:x/y")))
