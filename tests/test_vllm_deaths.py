"""What becomes of calls when vLLM's engine is stopped or dies under them, seen from the client."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemoflows.calls import Answered, Outcome, Request
from nemoflows.engines.vllm import Vllm
from nemoflows.errors import EndpointDown
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Failure, Success
from tests.engines import ARGUMENTS, LONG, InProcess, choices, chosen
from tests.support import make_llm

pytestmark = pytest.mark.vllm
N_QUICK, N_LONG = 8, 32


@pytest.fixture(scope="module")
def own(in_process: InProcess) -> Iterator[InProcess]:
    """Return an engine that may die: the session's goes on beside it."""
    made = InProcess(Vllm(ARGUMENTS, deadline_s=300), in_process.loop, in_process.model)
    yield made
    made.loop.run(made.engine.aclose())
    made.loop.run(made.engine.aclose())


def kill(own: InProcess) -> None:
    """SIGKILL the process that the engine's core runs in."""
    for slot in own.engine._slots.values():
        assert slot.running is not None
        for core in slot.running.engine.engine_core.resources.engine_manager.processes:
            os.kill(core.pid, signal.SIGKILL)


async def until(count: int, own: InProcess) -> None:
    while own.n_unfinished() != count:  # noqa: ASYNC110  (another process works)
        await asyncio.sleep(0.005)


def asks(own: InProcess, schema: dict[str, Any], numbers: range) -> list[CallSpec[str]]:
    requests = [
        own.request(f"thing {n}", json_schema=schema, max_output_tokens=3500) for n in numbers
    ]
    return [CallSpec(request, lambda reply, _: reply.text) for request in requests]


def test_an_engine_without_room_for_an_adapter_is_started_again_when_it_is_idle(
    own: InProcess, tmp_path: Path
) -> None:
    from tests.tiny_nemotron import make_adapter

    adapter = make_adapter(tmp_path / "a", base=own.model, modules={"o_proj"}, rank=3)

    async def both() -> tuple[list[Outcome], Outcome]:
        base = [own.ask(f"b {n}", json_schema=LONG, max_output_tokens=3500) for n in range(2)]
        running = [asyncio.ensure_future(one) for one in base]
        await until(2, own)
        adapted = await own.ask(lora=adapter, json_schema=choices(5), max_output_tokens=200)
        assert all(task.done() for task in running), "what was in flight ended first"
        return [task.result() for task in running], adapted

    base, adapted = own.loop.run(both())
    assert all(isinstance(outcome, Answered) for outcome in base)
    assert chosen(adapted) == 5
    (slot,) = own.engine._slots.values()
    assert slot.running is not None
    assert slot.running.arguments["max_lora_rank"] == 8
    assert slot.deaths == 0


def test_after_a_death_all_in_flight_are_answered_and_what_finished_is_not_asked_again(
    own: InProcess, tmp_path: Path
) -> None:
    llm = make_llm(own.engine, tmp_path / "journal", endpoint="vllm")
    quick, long = asks(own, choices(1), range(N_QUICK)), asks(own, LONG, range(N_LONG))

    async def batch() -> list[Success[str] | Failure]:
        task = asyncio.ensure_future(llm.batch([*quick, *long]))
        while len(llm.spent) < N_QUICK:  # noqa: ASYNC110  (another process works)
            await asyncio.sleep(0.005)
        await until(N_LONG, own)
        kill(own)
        return await task

    results = own.loop.run(batch())
    assert all(isinstance(result, Success) for result in results), results
    statuses = [attempts(llm, own, ask.request) for ask in (*quick, *long)]
    assert statuses[:N_QUICK] == [["ok"]] * N_QUICK
    assert statuses[N_QUICK:] == [["EngineDeadError", "ok"]] * N_LONG
    assert [slot.deaths for slot in own.engine._slots.values()] == [1]


def test_a_second_death_is_transient_and_shows_the_engine_s_last_lines(
    own: InProcess, tmp_path: Path
) -> None:
    llm = make_llm(own.engine, tmp_path / "journal", endpoint="vllm")
    lost = asks(own, LONG, range(8))

    async def killed() -> list[Success[str] | Failure | BaseException]:
        single = [asyncio.ensure_future(llm.complete(ask)) for ask in lost]
        await until(len(lost), own)
        kill(own)
        return await asyncio.gather(*single, return_exceptions=True)

    for result in own.loop.run(killed()):
        assert isinstance(result, Failure)
        assert result.transient
        assert "died 2 times" in result.detail
        assert len(result.detail.splitlines()) > 3, "the engine's last log lines are quoted"
        assert isinstance(result.error(), EndpointDown)
    assert llm.spent == []
    with pytest.raises(EndpointDown, match=r"8 of 8 items failed(.|\n)*died 2 times"):
        own.loop.run(llm.batch(lost))


def attempts(llm: LLMClient, own: InProcess, request: Request) -> list[str]:
    """Return the ends of the attempts that a request's record tells of."""
    key = own.engine.key(request)
    record = llm.journal.get(key)
    assert record is not None
    return [attempt.status for attempt in record.attempts]
