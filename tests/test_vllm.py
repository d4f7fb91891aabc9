"""vLLM in process: the real engine (CPU build) on a tiny random-weight Nemotron-H.

Random weights write nonsense, so whatever holds here holds by construction and not by luck.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemoflows.calls import Answered, Outcome, Unusable
from nemoflows.calls.contract import Step
from nemoflows.engines.vllm import Vllm, installed, is_nemotron, weights_hash
from nemoflows.engines.vllm.fingerprint import READ_WHOLE_BYTES
from nemoflows.engines.vllm.running import LOGGING
from nemoflows.errors import BadModel
from nemoflows.rag.prompts import PLAN, SYNTHESISE
from nemoflows.types import ModelRef
from tests.engines import CONTEXT_TOKENS, GREEDY, LONG, SCHEMA, InProcess, valid
from tests.support import ROOT


@pytest.mark.vllm
def test_structured_replies_are_all_valid(in_process: InProcess) -> None:
    async def many() -> list[Outcome]:
        asks = [
            in_process.ask(
                f"person {n}", json_schema=SCHEMA, max_output_tokens=400,
                sampling={"temperature": 1.0, "seed": n},
            )
            for n in range(200)
        ]  # fmt: skip
        return await asyncio.gather(*asks)

    found = [valid(outcome) for outcome in in_process.loop.run(many())]
    assert len(found) == 200
    assert len({row["age"] for row in found}) > 5, "random weights write different things"


@pytest.mark.vllm
@pytest.mark.parametrize("budget_tokens", [0, 5, 20])
def test_a_thinking_budget_is_kept_and_the_reply_still_valid(
    budget_tokens: int, in_process: InProcess
) -> None:
    asked = in_process.ask_all(
        20, json_schema=SCHEMA, max_output_tokens=450, sampling=GREEDY,
        thinking={"mode": "budget", "budget_tokens": budget_tokens},
    )  # fmt: skip
    # The template's line feed after <think> counts as one token of the budget.
    expected = max(0, budget_tokens - 1)
    for outcome in in_process.loop.run(asked):
        valid(outcome)
        assert isinstance(outcome, Answered)
        assert outcome.reply.usage is not None
        assert outcome.reply.usage.reasoning_tokens == expected
        assert "</think>" not in outcome.reply.text + outcome.reply.reasoning


@pytest.mark.vllm
def test_without_a_budget_thinking_fills_the_context(in_process: InProcess) -> None:
    asked = in_process.ask_all(
        1, json_schema=SCHEMA, max_output_tokens=60, sampling=GREEDY, thinking={"mode": "on"}
    )
    for outcome in in_process.loop.run(asked):
        assert isinstance(outcome, Unusable)
        assert outcome.reason == "truncated"
        usage = outcome.reply.usage
        assert usage is not None
        assert usage.reasoning_tokens == usage.output_tokens
        assert usage.input_tokens + usage.output_tokens == CONTEXT_TOKENS
        assert outcome.reply.text == ""


@pytest.mark.vllm
def test_a_longer_prompt_counts_more_input(in_process: InProcess) -> None:
    counts = []
    for text in ("hello", "hello " * 50):
        asked = in_process.ask(text, json_schema=SCHEMA, max_output_tokens=400)
        outcome = in_process.loop.run(asked)
        assert isinstance(outcome, Answered)
        assert outcome.reply.usage is not None
        counts.append(outcome.reply.usage.input_tokens)
    assert counts[1] >= counts[0] + 49


@pytest.mark.vllm
def test_a_cancelled_call_is_cancelled_in_the_engine(in_process: InProcess) -> None:
    async def cancel() -> int:
        asks = [in_process.ask(json_schema=LONG, max_output_tokens=3000) for _ in range(3)]
        tasks = [asyncio.ensure_future(ask) for ask in asks]
        while in_process.n_unfinished() < 3:  # noqa: ASYNC110  (another process works)
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
        return in_process.n_unfinished()

    assert in_process.loop.run(cancel()) == 0
    valid(in_process.loop.run(in_process.ask(json_schema=SCHEMA, max_output_tokens=400)))


@pytest.mark.vllm
def test_the_last_step_of_an_agent_passes_the_first_steps_of_others(in_process: InProcess) -> None:
    ended: list[str] = []

    async def one(step: Step, n: int) -> None:
        said: dict[str, Any] = {"purpose": step.name, "priority": step.priority}
        await in_process.ask(f"{step.name} {n}", **said, json_schema=SCHEMA, max_output_tokens=400)
        ended.append(step.name)

    async def crowd() -> None:
        early = [asyncio.ensure_future(one(PLAN, n)) for n in range(200)]
        while in_process.n_unfinished() < 200:  # noqa: ASYNC110  (another process works)
            await asyncio.sleep(0.001)
        await asyncio.gather(*early, *(one(SYNTHESISE, n) for n in range(8)))

    in_process.loop.run(crowd())
    places = [place for place, purpose in enumerate(ended) if purpose == "synthesise"]
    assert len(places) == 8
    assert max(places) < 160, "first come, first served would put them at the end of 208"


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
    identities = [keys.model_fingerprint(model) for model in spelled]
    assert identities[0] == identities[1] != identities[2]
    assert str(tmp_path) not in identities[0]
    quantised = Vllm({"quantization": "fp8", "max_num_seqs": 8}, deadline_s=1)
    assert quantised.model_fingerprint(spelled[0]) != identities[0]
    assert "max_num_seqs" not in quantised.model_fingerprint(spelled[0])


def test_weights_of_one_shape_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    def make(folder: Path, size: int, at: int) -> str:
        folder.mkdir()
        with (folder / "model.safetensors").open("wb") as file:
            file.write((8).to_bytes(8, "little") + b'{"a": 1}')
            file.truncate(size)
            file.seek(at)
            file.write(b"x" * 20_000_000)
        return weights_hash(folder)

    size = READ_WHOLE_BYTES + 50_000_000
    assert make(tmp_path / "a", 20_000_100, 50) != make(tmp_path / "b", 20_000_100, 51)
    large = [make(tmp_path / f"l{at}", size, at) for at in (100, 9_000_000, 9_000_000 + size // 3)]
    assert len(set(large)) == 3
    assert make(tmp_path / "again", size, 100) == large[0]


def test_the_family_is_told_by_configuration_or_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nemotron_h"}')
    spelled = [f"vllm:{tmp_path}", "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", "vllm:x/y"]
    assert [is_nemotron(ModelRef.model_validate(name)) for name in spelled] == [True, True, False]


@pytest.mark.skipif(installed() is not None, reason="vLLM is installed here")
def test_without_vllm_the_error_says_how_to_get_it() -> None:
    engine = Vllm({}, deadline_s=1)
    with pytest.raises(BadModel, match=r"nemoflows\[vllm\]"):
        asyncio.run(engine.preflight(ModelRef.model_validate("vllm:x/y")))


def test_what_guards_an_engine_ends_it_with_its_parent() -> None:
    """A process stands for the engine's: what is watched is only whether it is ended."""
    with subprocess.Popen(["sleep", "600"]) as child:
        code = f"from nemoflows.engines.vllm.running import _guard; g = _guard({{{child.pid}}}); "
        code += "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
        assert killed.returncode == -9
        assert child.wait(timeout=60) == -9


@pytest.mark.vllm
def test_what_is_started_beside_an_engine_logs_where_it_would(in_process: InProcess) -> None:
    in_process.loop.run(in_process.ask_all(1, max_output_tokens=2))
    assert LOGGING not in os.environ, "a server started now would write into the engine's log"
    [slot] = in_process.engine._slots.values()
    assert "Initializing" in slot.log.read_text()
