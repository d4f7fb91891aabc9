"""The engines that the conformance suite is run against, each made, asked and made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from nemoflows.calls import Answered, Attempt, Outcome, Reply, Request
from nemoflows.engines.anthropic.engine import Anthropic
from nemoflows.engines.base import Engine
from nemoflows.engines.builtin import Builtin
from nemoflows.engines.fake import FakeEngine, Fault, Rule, request_text
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.engines.vllm import Vllm
from nemoflows.models import Endpoint
from nemoflows.types import ModelRef
from tests.engines import LONG, InProcess, choices, n_running
from tests.loopback import ModelServer, completion
from tests.support import request

T = TypeVar("T")
LOOPBACK = ("openai", "anthropic")
"""The real SDKs against the tests' own server."""
SENSIBLE = ("builtin", "fake", *LOOPBACK)
VLLM = ("vllm", "vllm-openai", "vllm-messages")
"""Real vLLM: in this process, and its server through both SDKs."""
DIALECTS = {"vllm-openai": "vllm-server", "vllm-messages": "anthropic"}
FAULTS = {
    "openai": {"truncated": "length", "refused": "content_filter"},
    "anthropic": {"truncated": "max_tokens", "refused": "refusal"},
}
"""How the server's replies end where they cannot be used."""


@dataclass(frozen=True)
class Subject:
    """An engine under test: how it is made, asked and made to fail."""

    name: str
    server: ModelServer
    rules: list[Rule]
    """What the script says before it answers sensibly."""
    in_process: InProcess | None = None
    vllm_url: str = ""

    @property
    def is_random(self) -> bool:
        return self.name in VLLM

    @property
    def is_remote(self) -> bool:
        return self.name in LOOPBACK or bool(self.vllm_url)

    @property
    def dialect(self) -> str:
        return DIALECTS.get(self.name, self.name)

    @property
    def model(self) -> ModelRef:
        name = "claude-haiku-4-5" if self.dialect == "anthropic" else "t"
        if self.in_process is not None:
            name = str(self.in_process.model)
        spelling = "builtin" if self.name == "builtin" else f"{self.dialect}:{name}"
        return ModelRef.model_validate(spelling)

    @property
    def address(self) -> str:
        return self.vllm_url or self.server.url.removesuffix("/v1")

    def must_be_sensible(self) -> None:
        if self.is_random:
            pytest.skip("random weights write nonsense of the right shape")

    def make(self, *, deadline_s: float = 60) -> Engine:
        match self.dialect:
            case "builtin":
                return Builtin()
            case "fake":
                return FakeEngine(self.rules) if self.rules else FakeEngine(answer=sensible)
            case "vllm":
                assert self.in_process is not None
                made = Vllm(self.in_process.engine._arguments, deadline_s=deadline_s)
                made._slots = self.in_process.engine._slots
                return made
            case "anthropic":
                endpoint = Endpoint(dialect="anthropic", base_url=self.address)
                return Anthropic(endpoint, name="anthropic", deadline_s=deadline_s)
            case "vllm-server":
                endpoint = Endpoint(dialect="vllm-server", base_url=f"{self.address}/v1")
                return OpenAI(endpoint, name="vllm-server", deadline_s=deadline_s)
            case _:
                endpoint = Endpoint(dialect="openai", base_url=f"{self.address}/v1")
                return OpenAI(endpoint, name="openai", deadline_s=deadline_s)

    def drive(
        self, work: Callable[[Engine], Coroutine[Any, Any, T]], *, deadline_s: float = 60
    ) -> T:
        """Use a new engine on one loop and close it there; vLLM's own loop and engine stay."""

        async def whole() -> T:
            engine = self.make(deadline_s=deadline_s)
            try:
                return await work(engine)
            finally:
                if self.in_process is None:
                    await engine.aclose()

        return self.run(whole())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work) if self.in_process is None else self.in_process.loop.run(work)

    def complete(self, asked: Request, *, deadline_s: float = 60) -> tuple[Outcome, list[Attempt]]:
        attempts: list[Attempt] = []

        async def work(engine: Engine) -> Outcome:
            return await engine.complete(asked, attempts.append)

        return self.drive(work, deadline_s=deadline_s), attempts

    def answer(self, asked: Request) -> Reply:
        outcome, _ = self.complete(asked)
        assert isinstance(outcome, Answered), outcome
        return outcome.reply

    def of(self, asked: Request) -> Request:
        """Return a step's request as a client names the model in it."""
        return asked.model_copy(update={"model": self.model})

    def ask(self, text: str, **changes: Any) -> Request:
        """Return a request that every engine ends by itself: random weights end a schema alone."""
        ends = {"json_schema": choices(1), "max_output_tokens": 400, **self._brief}
        ends = ends if self.is_random else {}
        given: dict[str, Any] = {"model": str(self.model), "purpose": "chat", **ends}
        return request(text, **(given | changes))

    @property
    def _brief(self) -> dict[str, Any]:
        """Return what keeps random weights from thinking without end."""
        return {"thinking": {"mode": "off"}} if self.is_random else {}

    def structured(self, n: int = 1, **changes: Any) -> Request:
        """Return a request whose only valid reply says `n`, in a shape that code can check."""
        given = {"json_schema": choices(n), "max_output_tokens": 200, **self._brief}
        return request(f"number {n}", model=str(self.model), purpose="chat", **(given | changes))

    def ask_long(self) -> Request:
        """Return a request that takes long; random weights are held to it by the schema."""
        writes = {"json_schema": LONG, "max_output_tokens": 3500, **self._brief}
        long = writes if self.is_random else {}
        return request("tell me all", model=str(self.model), purpose="chat", **long)

    def n_in_flight(self) -> int:
        """Return how many requests the other side has."""
        if self.in_process is not None:
            return self.in_process.n_unfinished()
        return n_running(self.vllm_url) if self.vllm_url else len(self.server.requests)

    def fail(self, asked: Request, reason: Fault) -> Request:
        """Make the next call end in `reason`, or skip where the engine cannot."""
        if self.name == "fake":
            self.rules.append(Rule(fault=reason, times=1))
            self.rules.append(Rule(reply="{}"))
        elif self.name in FAULTS:
            self.server.faults.append(FAULTS[self.name][reason])
        elif reason == "refused":
            pytest.skip("nobody refuses: neither the builtin tier nor random weights can")
        else:
            return asked.model_copy(update={"max_output_tokens": 2})
        return asked


def sensible(asked: Request) -> str:
    """Return what the server on loopback would reply."""
    schema = {"json_schema": {"schema": asked.json_schema or {}}}
    turns = [{"content": request_text(asked)}]
    body = {"model": "t", "messages": turns, "response_format": schema}
    return str(completion(body, {}, finish="")["choices"][0]["message"]["content"])
