"""A user's own step over rows, and two fake tiers behind one client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from nemoflows.engines.fake import FakeEngine, Rule, request_text
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.money.budgets import Account
from nemoflows.settings import Settings
from nemoflows.typed import steps
from nemoflows.typed.ask import AskStep
from nemoflows.typed.template import Template
from nemoflows.typed.types import Result
from nemoflows.types import Policy

POLICY = Policy.model_validate({"efficient": "near:m", "frontier": "far:m"})


class Triage(BaseModel):
    urgency: Literal["low", "high"]
    team: str = Field(description="The team that it is for")
    due: date | None = None


def triage(urgency: str = "low", team: str = "web", due: str | None = None) -> str:
    return json.dumps({"urgency": urgency, "team": team, "due": due})


class Mail(BaseModel):
    subject: str
    body: str


MAILS = [Mail(subject=f"mail {n}", body=f"This is number {n}.") for n in range(3)]
PROMPT = "How urgent is it?\n{subject}\n{body}"


class Run:
    """Two fake tiers behind one client, as a process has them."""

    def __init__(
        self,
        folder: Path,
        near: FakeEngine,
        far: FakeEngine | None = None,
        policy: Policy = POLICY,
    ) -> None:
        self.near, self.far, self.policy = near, far or says("not wanted"), policy
        endpoints = {
            name: {"dialect": "fake", "usd_per_mtok": price}
            for name, price in (("near", [1.0, 2.0]), ("far", [10.0, 20.0]))
        }
        settings = Settings.model_validate({"run": "typed", "endpoints": endpoints})
        engines = Engines(settings, given={"near": self.near, "far": self.far})
        self.llm = LLMClient(engines, Journal(str(folder), run="typed"), settings=settings)
        self.budget = self.llm.history.open_budget(policy.budget_usd, scope="s", call_keys=[])

    def client(self, tier: Literal["efficient", "frontier"], name: str = "triage") -> BoundClient:
        account = Account(name, tier, self.budget, "s", escalated=tier == "frontier")
        model, n_new = self.policy.model(tier), self.policy.max_resamples
        return BoundClient(self.llm, model, max_resamples=n_new, account=account)

    def first(self, step: Any, rows: Sequence[Any]) -> list[Any]:
        """Ask the efficient tier alone."""
        own = self.client("efficient", step.name)
        return asyncio.run(steps.on_tier(step, rows, own, self.policy, "efficient"))

    def cascade(self, step: Any, rows: Sequence[Any]) -> list[Any]:
        clients = (self.client(tier, step.name) for tier in ("efficient", "frontier"))
        return asyncio.run(steps.cascade(step, rows, steps.Tiers(*clients), self.policy))

    def spent(self, results: Sequence[Result[Any]]) -> Any:
        return self.llm.calls([key for result in results for key in result.calls])


def asking(prompt: Any = PROMPT, returns: Any = Triage, **more: Any) -> AskStep:
    return AskStep("triage", Template(prompt), returns, **more)


def says(*replies: str, **more: Any) -> FakeEngine:
    """Return an engine that says these one after the other, and the last one for ever."""
    *first, last = replies
    rules = [Rule(reply=reply, times=1, **more) for reply in first]
    return FakeEngine([*rules, Rule(reply=last, **more)])


def answers(answer: Callable[[str], str]) -> FakeEngine:
    return FakeEngine(answer=lambda request: answer(request_text(request)))
