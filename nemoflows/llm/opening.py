"""Opening a client: engines, a journal, and the checks that come before anything is paid."""

from __future__ import annotations

import logging
import time

from nemoflows.calls.thinking import refuse_thinking
from nemoflows.engines.registry import Engines
from nemoflows.errors import BadInput, BadModel
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.models import Endpoint
from nemoflows.money import prices
from nemoflows.settings import Settings, in_pod
from nemoflows.storage.opening import open_records
from nemoflows.types import ModelRef, Policy

log = logging.getLogger("nemoflows")


def open_llm(
    settings: Settings, journal_root: str, *, run: str, many_processes: bool = False
) -> LLMClient:
    """Return the client of a process.

    Args:
        journal_root: Where calls are recorded; empty remembers nothing.
        run: Id of the run.
        many_processes: A run is many processes, as on a cluster.
    """
    notes = open_records(journal_root) if journal_root else None
    return LLMClient(
        Engines(settings, notes=notes),
        Journal(journal_root, run=run),
        settings=settings,
        many_processes=many_processes,
    )


def journal_root(settings: Settings, root: str) -> str:
    """Return where calls are recorded: as the settings say, else below `root`; empty if off."""
    if settings.journal:
        return "" if settings.journal == "off" else settings.journal
    return f"{root}/journal"


def lasting_root(settings: Settings, root: str) -> str:
    """Return `journal_root`; empty where it would be on a pod's own disk, which ends with it."""
    lasts = bool(settings.journal) or not in_pod() or "://" in root
    return journal_root(settings, root) if lasts else ""


def warn_if_forgetful(journal: Journal, settings: Settings, place: str) -> None:
    """Say that nothing is remembered, unless that is what the settings say.

    Args:
        place: What would have to be an object store.
    """
    if not journal.durable and settings.journal != "off":
        log.warning(
            "This run is not durable: %s is no object store and NEMOFLOWS_JOURNAL is not set, so a "
            "restart pays again for every call.",
            place,
        )


def refuse_forgotten_budget(budget_usd: float | None, journal_root: str) -> None:
    """Refuse a budget where what one pod spends is unknown to the next one.

    Raises:
        BadInput: Nothing would remember what was spent.
    """
    if budget_usd is not None and in_pod() and not journal_root:
        raise BadInput(
            f"The budget of ${budget_usd:g} needs a journal: in a pod, what was spent before is "
            "read there. Set NEMOFLOWS_JOURNAL to an object store; no call was made."
        )


def refuse_unfit(model: ModelRef, policy: Policy, settings: Settings) -> Endpoint:
    """Return a model's endpoint, once the policy is known to fit it.

    Raises:
        BadModel: The endpoint is unknown, the model cannot follow an explicit wish, or nobody
            knows what it can cost, and there is a budget.
    """
    endpoint = settings.endpoint(model)
    refuse_thinking(model, endpoint, policy.thinking)
    if policy.budget_usd is not None:
        refuse_unpriced(model, endpoint, policy.budget_usd)
    return endpoint


def refuse_unpriced(model: ModelRef, endpoint: Endpoint, budget_usd: float) -> None:
    """Refuse what a budget cannot bound, before the first call.

    Raises:
        BadModel: Nobody knows what a call can cost.
    """
    worst_usd = prices.worst_usd(model, endpoint, n_input=1, n_output=1, at_s=time.time())
    if worst_usd is None:
        raise BadModel(
            f"Nobody knows what {str(model)!r} costs, and nothing of unknown price is asked under "
            f"the budget of ${budget_usd:g}. Give the endpoint {model.endpoint!r} a price_key, "
            "usd_per_mtok, or usd_per_gpu_hour with tokens_per_s. No call was made."
        )
