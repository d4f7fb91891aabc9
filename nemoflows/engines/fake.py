"""An engine that answers from a declared script: for tests, demos and dry runs.

A script is a list of rules, in Python or as a JSON file that `fake:PATH` names. The first
rule that matches a request and is not used up answers it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from nemoflows.calls import Answered, Attempt, Outcome, Reply, Request, Unanswered, Unusable, Usage
from nemoflows.calls.wire import render
from nemoflows.engines.base import Engine, OnAttempt
from nemoflows.errors import BadModel
from nemoflows.types import ModelRef, Value

Fault = Literal["", "refused", "truncated", "rate_limited", "down", "rejected", "hang"]


MOST_ASKED = 2_000
"""Requests that are kept, so that memory does not follow the number of calls."""


class Rule(Value):
    """What to answer, to which request, at what price and after how long."""

    purpose: str = ""
    """Matches requests of this purpose; empty matches all."""
    contains: str = ""
    """Matches requests whose rendered text contains this; empty matches all."""
    reply: str = ""
    times: int | None = Field(default=None, gt=0)
    """How often the rule answers; None is without end."""
    usage: Usage = Usage(input_tokens=100, output_tokens=20)
    usd: float | None = Field(default=None, ge=0)
    """What the call costs; None leaves it to the endpoint's price."""
    latency_s: float = Field(default=0.0, ge=0)
    fault: Fault = ""


class FakeEngine(Engine):
    """Declared answers; `asked` keeps the last requests that came."""

    wire_version = "fake-1"

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        *,
        answer: Callable[[Request], str] | None = None,
    ) -> None:
        self._rules, self._answer = list(rules), answer
        self._used = [0] * len(self._rules)
        self.asked: list[Request] = []
        self._said: dict[str, str] = {}

    def model_fingerprint(self, model: ModelRef) -> str:
        """Return the spelling, and what the script says: an edited script is another model."""
        if model.name not in self._said:
            path = Path(model.name)
            said = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            self._said[model.name] = said
        return f"{model} {self._said[model.name]}".strip()

    async def preflight(self, model: ModelRef) -> None:
        """Read the script, where the model's name is a path to one.

        Raises:
            BadModel: There is no such script, or it cannot be read.
        """
        if not self._rules and self._answer is None:
            self._rules = read_script(model.name)
            self._used = [0] * len(self._rules)

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        """Answer by the first rule that matches."""
        await self.preflight(request.model)
        del self.asked[:-MOST_ASKED]
        self.asked.append(request)
        rule = self._rule(request)
        started_s, status = time.time(), "cancelled"
        try:
            if rule.fault == "hang":
                await asyncio.Event().wait()
            if rule.latency_s:
                await asyncio.sleep(rule.latency_s)
            status = rule.fault or "ok"
        finally:
            on_attempt(Attempt(number=1, started_s=started_s, ended_s=time.time(), status=status))
        return _outcome(rule, request)

    def _rule(self, request: Request) -> Rule:
        if self._answer is not None:
            return Rule(reply=self._answer(request))
        for place, rule in enumerate(self._rules):
            fits = rule.purpose in {"", request.purpose}
            fits = fits and (not rule.contains or rule.contains in request_text(request))
            if fits and (rule.times is None or self._used[place] < rule.times):
                self._used[place] += 1
                return rule
        raise BadModel(
            f"The script has no rule for a request of purpose {request.purpose!r} that begins "
            f"{request_text(request)[:80]!r}. Add one."
        )


def request_text(request: Request) -> str:
    """Return all that a model would read of a request."""
    parts = [part for turn in request.messages for part in turn.parts]
    return "\n\n".join(filter(None, [request.system, *map(render, parts)]))


def read_script(path: str) -> list[Rule]:
    """Read a JSON list of rules.

    Raises:
        BadModel: The file is missing or no list of rules.
    """
    try:
        return TypeAdapter(list[Rule]).validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        raise BadModel(
            f"fake:{path} does not name a script: {error}. It must be a JSON list of rules, "
            'such as [{"purpose": "plan", "reply": "{}"}].'
        ) from error


def _outcome(rule: Rule, request: Request) -> Outcome:
    reply = Reply(text=rule.reply, usage=rule.usage, usd=rule.usd, model=request.model.name)
    match rule.fault:
        case "refused":
            refused = reply.model_copy(update={"stop": "refusal"})
            return Unusable(reason="refused", detail="The script refuses.", reply=refused)
        case "truncated":
            cut = reply.model_copy(update={"stop": "length"})
            return Unusable(reason="truncated", detail="The script cuts off.", reply=cut)
        case "rate_limited" | "down":
            detail = f"The script says {rule.fault}."
            return Unanswered(reason=rule.fault, detail=detail, transient=True)
        case "rejected":
            return Unanswered(reason="rejected", detail="The script says no.", transient=False)
        case _:
            return Answered(reply=reply)
