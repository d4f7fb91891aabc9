"""What a process keeps between tasks: one event loop, one llm to models, and where things lie."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ParamSpec, TypeVar

from flytekit.core.data_persistence import get_fsspec_storage_options
from flytekit.exceptions.user import FlyteRecoverableException

from nemoflows import settings as settings_module
from nemoflows.errors import NemoflowsError, TransientError, one_line
from nemoflows.llm.client import LLMClient
from nemoflows.llm.concurrency import background_loop
from nemoflows.llm.opening import journal_root, lasting_root, open_llm, warn_if_forgetful
from nemoflows.settings import Settings
from nemoflows.storage.filesystem import open_with
from nemoflows.storage.objects import read_also
from nemoflows.storage.patience import wait_for_stores
from nemoflows.tasks.flyte.places import older_journal, shared_prefix, where_and_what_next
from nemoflows.tasks.flyte.preemption import end_gracefully_on_sigterm

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("nemoflows")
in_pod = settings_module.in_pod


@dataclass(frozen=True, slots=True)
class Session:
    """A process's client, settings and places."""

    settings: Settings
    llm: LLMClient
    index_root: str
    run: str
    fit: set[object] = field(default_factory=set)
    """What was found to fit before: model, tier and what a policy asks of them."""


_NAMED = ("NEMOFLOWS_", "FLYTE_INTERNAL_EXECUTION_", "HOME")
"""Variables that tell one session from another: the settings, and the execution."""

_sessions: dict[tuple[object, ...], Session] = {}

_lock = threading.Lock()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a step on the process's one background loop and wait for it.

    Tasks are sync on purpose: flytekit's async tasks fail inside a workflow run locally, and
    clients and engines belong to one loop for as long as the process lives.
    """
    future = asyncio.run_coroutine_threadsafe(work, background_loop())
    try:
        return future.result()
    except BaseException as error:
        future.cancel()
        if isinstance(error, NemoflowsError):
            _land()
        raise


def translated(function: Callable[P, T]) -> Callable[P, T]:
    """Return a task's body whose errors mean to Flyte what they mean to us.

    Transient errors become FlyteRecoverableException, the only ones that Flyte's `retries` apply
    to; everything else is final. Our own errors lose their frames: the message says it all, and a
    person at a terminal would have to look for it under a screen of trace.
    """

    @functools.wraps(function)
    def body(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except TransientError as error:
            raise FlyteRecoverableException(error.message) from None
        except NemoflowsError as error:
            told = type(error)(f"{error.message}{where_and_what_next()}")
            raise told.with_traceback(None) from None
        finally:
            flush()

    return body


def _land() -> None:
    """Let calls land that others of a failed step have in flight: they are paid."""
    for current in list(_sessions.values()):
        landing = asyncio.run_coroutine_threadsafe(current.llm.in_flight.drain(), background_loop())
        with suppress(NotYet):
            landing.result(timeout=current.settings.hardware.pod.grace_s)


def session() -> Session:
    """Return the process's session; made anew only where the environment has changed."""
    named = tuple(sorted(item for item in os.environ.items() if item[0].startswith(_NAMED)))
    with _lock:
        if named not in _sessions:
            settings = settings_module.load()
            _sessions[named] = _open(settings)
            if in_pod():
                end_gracefully_on_sigterm(
                    _clients, background_loop(), settings.hardware.pod.grace_s
                )
        return _sessions[named]


def _clients() -> list[LLMClient]:
    return [current.llm for current in list(_sessions.values())]


def flush() -> None:
    """Put the receipts that wait; every task does so at its end."""
    for llm in _clients():
        llm.flush()


def root_of(settings: Settings) -> str:
    """Return where indexes and, unless the settings say otherwise, the journal lie."""
    shared = shared_prefix() if in_pod() and not settings.home else ""
    return shared or settings_module.home_root(settings)


def _open(settings: Settings) -> Session:
    log_to_stderr()
    open_with(get_fsspec_storage_options)
    wait_for_stores(lambda: settings.deadline_s if in_pod() else 0.0)
    run_id = settings_module.run_id(settings)
    root = root_of(settings)
    if "://" in root and in_pod() and not settings.home and not settings.journal:
        _read_older(journal_root(settings, root), older_journal(root))
    llm = open_llm(settings, lasting_root(settings, root), run=run_id, many_processes=in_pod())
    warn_if_forgetful(llm.journal, settings, "the pod's raw output prefix")
    return Session(settings=settings, llm=llm, index_root=f"{root}/index", run=run_id)


def _read_older(journal: str, older: str) -> None:
    """Replay from the journal at the bucket's root, too, which earlier versions wrote to."""
    if not older:
        return
    read_also(journal, older)
    log.warning(
        "Calls that %s recorded are replayed; new ones are recorded in %s, of this project and "
        "domain alone. Copy what you need there, then remove the old one.",
        older,
        journal,
    )


class _OneLine(logging.Formatter):
    """Shows a message on one line, whatever names from outside are in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """Return the message as it is shown."""
        return one_line(super().formatMessage(record))


@cache
def log_to_stderr() -> None:
    """Show the library's own log lines, unless the program has set up logging itself."""
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_OneLine("nemoflows: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
