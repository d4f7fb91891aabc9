r"""A client for plain Python: ask models about anything, recorded, priced and within a budget.

    with nemoflows.open_client(policy) as client:
        triage = client.ask("How urgent is this?\n{text}", row=mail, returns=Triage, step="triage")
        print(triage, client.ledger)

The same by `async with` and `await`. A program that is killed and started again with the same
words pays for no call twice; `nemoflows runs` and `nemoflows report` know it by its run.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from nemoflows import settings as settings_module
from nemoflows.calls import Purpose
from nemoflows.errors import BadInput, BadReply, OverBudget
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.client import LLMClient
from nemoflows.llm.concurrency import run_here
from nemoflows.llm.opening import (
    lasting_root,
    open_llm,
    refuse_forgotten_budget,
    refuse_unfit,
    warn_if_forgetful,
)
from nemoflows.llm.results import OVER_BUDGET
from nemoflows.llm.shadow import ask_both, refuse_forgotten_sample
from nemoflows.money.budgets import Account
from nemoflows.money.ledger import Ledger, fold, total
from nemoflows.money.savings import ShadowSample
from nemoflows.schemas import bounded
from nemoflows.typed.ask import OUTPUT_TOKENS, AskStep
from nemoflows.typed.classify import SAMPLES, THRESHOLD, ClassifyStep
from nemoflows.typed.extract import ExtractStep
from nemoflows.typed.prompts import FIELDS
from nemoflows.typed.steps import Check, RowStep, Tiers, cascade, skips_efficient
from nemoflows.typed.template import Prompt, Template
from nemoflows.typed.types import Extraction, Result
from nemoflows.types import Passage, Policy, Tier

V = TypeVar("V")
M = TypeVar("M", bound=BaseModel)
_NAME = TypeAdapter[str](Purpose)
SHADOW = "shadow"
"""Name under which the shadow sample asks."""


def open_client(policy: Policy | None = None, *, run: str = "") -> Opening:
    """Return what `with` and `async with` open: a client that asks as a policy says.

    Args:
        policy: How models are asked; None is what the environment says.
        run: Id of the run; by default NEMOFLOWS_RUN, else a pod's execution, else a hash of
            the command.

    Raises:
        BadInput: The environment's settings cannot be read, the run's name is a path, or nothing
            remembers what is spent of a budget or drawn for a shadow sample.
        BadModel: An endpoint is unknown, has no price under a budget, or a model cannot follow the
            policy.
    """
    settings = settings_module.load()
    asked = settings.default_policy() if policy is None else policy
    for model in (asked.efficient, asked.frontier):
        refuse_unfit(model, asked, settings)
    root = lasting_root(settings, settings_module.home_root(settings))
    refuse_forgotten_budget(asked.budget_usd, root)
    if asked.shadow_share and asked.next_model is not None:
        refuse_forgotten_sample(root)
    named, in_pod = settings_module.run_id(settings, run), settings_module.in_pod()
    llm = open_llm(settings, root, run=named, many_processes=in_pod)
    warn_if_forgetful(llm.journal, settings, "NEMOFLOWS_HOME")
    return Opening(AsyncClient(asked, llm))


class AsyncClient:
    """Asks models within one run; `async with nemoflows.open_client(policy)` gives one."""

    def __init__(self, policy: Policy, llm: LLMClient) -> None:
        self.policy, self.run, self.llm = policy, llm.journal.run, llm
        words = "\0".join(("client", policy.cache_salt))
        self._scope = hashlib.sha256(words.encode()).hexdigest()[:16]
        self._budget = self.llm.history.open_budget(
            policy.budget_usd, scope=self._scope, call_keys=[]
        )
        self._keys: dict[str, None] = {}
        self._shadow = ShadowSample()

    async def ask(
        self,
        prompt: Prompt,
        *,
        returns: type[V],
        row: Any = None,
        step: str = "ask",
        check: Check | None = None,
        output_tokens: int = OUTPUT_TOKENS,
    ) -> V:
        """Return the value that a model gives to a prompt.

        Args:
            prompt: A template over the row's fields, or a function from the row to parts.
            returns: A pydantic model, or `str`.
            row: What the prompt is about: a text, a mapping or a pydantic model; data, delimited.
            step: The step's name in ledger and report.
            check: Your own gate: what it names goes to the frontier.
            output_tokens: Room for the reply.

        Raises:
            BadInput: The prompt names a field that the row lacks, or the step's name is not
                allowed; no call was made.
            BadReply: No tier gave a usable reply; what came is recorded.
            OverBudget: The call does not fit the budget; it was not made.
        """
        [result] = await self.ask_each(
            prompt,
            [{} if row is None else row],
            returns=returns,
            step=step,
            check=check,
            output_tokens=output_tokens,
        )
        if result.value is None:
            kind = OverBudget if result.problem.startswith(OVER_BUDGET) else BadReply
            raise kind(f"The step {step!r} has no value: {result.problem}")
        return result.value

    async def ask_each(
        self,
        prompt: Prompt,
        rows: Sequence[Any],
        *,
        returns: type[V],
        step: str = "ask",
        check: Check | None = None,
        output_tokens: int = OUTPUT_TOKENS,
    ) -> list[Result[V]]:
        """Return a result per row, in order; failures are data. As `ask` otherwise."""
        own = AskStep(step, Template(prompt), returns, Any, check, output_tokens)
        return await self._cascade(own, rows)

    async def classify_each(
        self,
        label: Any,
        rows: Sequence[Any],
        *,
        step: str = "classify",
        prompt: Prompt = "",
        examples: Mapping[str, Sequence[str]] | None = None,
        samples: int = SAMPLES,
        threshold: float = THRESHOLD,
    ) -> list[Result[Any]]:
        """Return a label per row, with the agreement of samples as its confidence.

        Args:
            label: An Enum, or a Literal of texts.
            rows: Texts, mappings or pydantic models.
            step: The step's name in ledger and report.
            prompt: A template over the rows' fields; empty shows the whole row.
            examples: Texts by label.
            samples: Replies per row.
            threshold: Confidence below which the frontier looks.
        """
        template = Template(prompt)
        own = ClassifyStep(step, template, label, Any, examples, samples, threshold)
        return await self._cascade(own, rows)

    async def extract_each(
        self,
        model: type[M],
        passages: Sequence[Passage],
        *,
        step: str = "extract",
        check: Check | None = None,
        output_tokens: int = FIELDS.output_tokens,
    ) -> list[Extraction[M]]:
        """Return a record per passage, each value with the span that it was read from."""
        own = ExtractStep(step, bounded(model, output_tokens=output_tokens), check)
        found: list[Any] = await self._cascade(own, passages)
        return found

    @property
    def ledger(self) -> Ledger:
        """Return what the calls so far cost, each key once; those that only measured apart."""
        keys, spent = self._own_keys(), [call.key for call in self.llm.spent]
        measuring = dict.fromkeys([*self._shadow.calls, *spent])
        calls, in_doubt = self.llm.calls(list(keys)), self.llm.in_doubt()
        return fold(
            calls,
            shadow=self.llm.calls([key for key in measuring if key not in keys]),
            n_unrecorded=len(keys) - len(calls),
            n_in_doubt=len(in_doubt),
            in_doubt_usd=total([attempt.reserved_usd for attempt in in_doubt]),
        )

    def _own_keys(self) -> dict[str, None]:
        """Return the keys of the calls so far, without those that only measured."""
        spent = (call.key for call in self.llm.spent if call.task != SHADOW)
        return dict.fromkeys([*self._keys, *spent])

    async def aclose(self) -> None:
        """Let what is in flight be recorded, note what the report shows, close the engines."""
        await self.llm.land(self.llm.settings.hardware.pod.grace_s)
        self.llm.journal.note_story(self._notes())
        self.llm.flush()
        await self.llm.aclose()

    async def _cascade(self, step: RowStep, rows: Sequence[Any]) -> list[Any]:
        _refuse_misnamed(step.name)
        again = not skips_efficient(step.name, self.policy)
        far = None if self.policy.next_model is None else self._bound("frontier", step.name, again)
        tiers = Tiers(self._bound("efficient", step.name), far)
        results = await cascade(step, rows, tiers, self.policy)
        keys = [key for result in results for key in result.calls]
        self._keys |= dict.fromkeys(keys)
        if self.policy.shadow_share and far is not None:
            await self._measure(keys)
        return results

    async def _measure(self, keys: Sequence[str]) -> None:
        sample = await ask_both(
            keys,
            efficient=self.policy.efficient,
            client=self._bound("frontier", SHADOW),
            share=self.policy.shadow_share,
        )
        self._shadow = self._shadow + sample

    def _bound(self, tier: Tier, step: str, escalated: bool = False) -> BoundClient:
        account = Account(step, tier, self._budget, self._scope, escalated)
        return BoundClient.under(self.policy, tier, self.llm, account)

    def _notes(self) -> str:
        """Return what `nemoflows report` shows beside the calls, as its `ReportNotes` reads it."""
        policy = self.policy
        return json.dumps(
            {
                "tiers": {"efficient": str(policy.efficient), "frontier": str(policy.frontier)},
                "budget_usd": policy.budget_usd,
                "shadow": self._shadow.model_dump(mode="json"),
                "call_keys": list(self._own_keys()),
            }
        )


def _refuse_misnamed(step: str) -> None:
    """Refuse a name that calls cannot have, or that the shadow sample has.

    Raises:
        BadInput: It is such a name.
    """
    try:
        is_name = _NAME.validate_python(step) != SHADOW
    except ValidationError:
        is_name = False
    if not is_name:
        raise BadInput(
            f"step={step!r} cannot be a step's name: up to 100 of a-z, 0-9, `_`, `.` and `-`, a "
            f"letter first, and not {SHADOW!r}. No call was made."
        )


class Client:
    """The same for programs without an event loop; `with nemoflows.open_client(policy)` gives one.

    Its methods take and return what `AsyncClient`'s do.
    """

    def __init__(self, inner: AsyncClient) -> None:
        self._inner = inner

    def ask(self, prompt: Prompt, *, returns: type[V], **more: Any) -> V:
        """Return the value that a model gives to a prompt: `AsyncClient.ask`."""
        return run_here(self._inner.ask(prompt, returns=returns, **more))

    def ask_each(
        self, prompt: Prompt, rows: Sequence[Any], *, returns: type[V], **more: Any
    ) -> list[Result[V]]:
        """Return a result per row: `AsyncClient.ask_each`."""
        return run_here(self._inner.ask_each(prompt, rows, returns=returns, **more))

    def classify_each(self, label: Any, rows: Sequence[Any], **more: Any) -> list[Result[Any]]:
        """Return a label per row: `AsyncClient.classify_each`."""
        return run_here(self._inner.classify_each(label, rows, **more))

    def extract_each(
        self, model: type[M], passages: Sequence[Passage], **more: Any
    ) -> list[Extraction[M]]:
        """Return a record per passage: `AsyncClient.extract_each`."""
        return run_here(self._inner.extract_each(model, passages, **more))

    @property
    def ledger(self) -> Ledger:
        """Return what the calls so far cost, each key once."""
        return self._inner.ledger

    @property
    def run(self) -> str:
        """Return the id by which `nemoflows report` knows what was asked."""
        return self._inner.run


class Opening:
    """What `open_client` returns: enter it with `with` or with `async with`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def __enter__(self) -> Client:
        return Client(self._client)

    def __exit__(self, *error: object) -> None:
        run_here(self._client.aclose())

    async def __aenter__(self) -> AsyncClient:
        return self._client

    async def __aexit__(self, *error: object) -> None:
        await asyncio.shield(self._client.aclose())
