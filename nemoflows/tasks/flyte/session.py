"""What a process keeps between tasks: one event loop, one door to models, and where things lie."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from flytekit import FlyteContextManager

from nemoflows import settings as settings_module
from nemoflows.engines.registry import Engines
from nemoflows.errors import NemoflowsError
from nemoflows.journal import Journal
from nemoflows.llm.client import Door
from nemoflows.settings import Settings
from nemoflows.tasks.flyte.preemption import end_gracefully_on_sigterm

T = TypeVar("T")


log = logging.getLogger("nemoflows")


@dataclass(frozen=True, slots=True)
class Session:
    """A process's door, settings and places."""

    settings: Settings
    door: Door
    index_root: str
    run: str

    @property
    def forgets(self) -> bool:
        """Return whether what a task spends is unknown to the next one: pods without a journal."""
        return in_pod() and not self.door.journal.root


_sessions: dict[tuple[str, str], Session] = {}


_lock = threading.Lock()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a step on the process's one background loop and wait for it.

    Tasks are sync on purpose: flytekit's async tasks fail inside a workflow run locally, and
    clients and engines belong to one loop for as long as the process lives.
    """
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException as error:
        future.cancel()
        if isinstance(error, NemoflowsError):
            _land()
        raise


def _land() -> None:
    """Let calls land that others of a failed step have in flight: they are paid."""
    for current in list(_sessions.values()):
        landing = asyncio.run_coroutine_threadsafe(current.door.runway.land(), _loop())
        with suppress(NotYet):
            landing.result(timeout=current.settings.grace_s)


def session() -> Session:
    """Return the process's session; made anew only where the environment has changed."""
    settings = settings_module.load()
    shared = _shared_prefix()
    with _lock:
        place = (settings.model_dump_json(), shared)
        if place not in _sessions:
            _sessions[place] = _open(settings, shared)
            if in_pod():
                end_gracefully_on_sigterm(_doors, _loop(), settings.grace_s)
        return _sessions[place]


def _doors() -> list[Door]:
    return [current.door for current in list(_sessions.values())]


def flush() -> None:
    """Put the receipts that wait; every task does so at its end."""
    for door in _doors():
        door.flush()


def in_pod() -> bool:
    """Return whether Flyte started this process."""
    return bool(os.environ.get("FLYTE_INTERNAL_EXECUTION_ID"))


def _open(settings: Settings, shared: str) -> Session:
    log_to_stderr()
    run_id = settings.run or _execution() or settings_module.command_id()
    journal = Journal(_journal_root(settings, shared), run=run_id)
    if not journal.durable and settings.journal != "off":
        log.warning(
            "This run is not durable: the pod's raw output prefix is no object store and "
            "NEMOFLOWS_JOURNAL is not set, so a restart pays again for every call."
        )
    index_root = settings.index or f"{shared or settings_module.home() / '.nemoflows'}/index"
    door = Door(Engines(settings), journal, settings=settings, many_processes=in_pod())
    return Session(settings=settings, door=door, index_root=index_root, run=run_id)


def _journal_root(settings: Settings, shared: str) -> str:
    if settings.journal:
        return "" if settings.journal == "off" else settings.journal
    if not in_pod():
        return str(settings_module.home() / ".nemoflows" / "journal")
    return f"{shared}/journal" if "://" in shared else ""


def _shared_prefix() -> str:
    """Return where pods of one project share things; empty outside a pod."""
    if not in_pod():
        return ""
    raw = str(FlyteContextManager.current_context().file_access.raw_output_prefix)
    scheme, found, rest = raw.partition("://")
    if found and scheme != "file":
        return f"{scheme}://{rest.split('/', 1)[0]}/nemoflows"
    return str(Path(rest or raw) / "nemoflows")


def _execution() -> str:
    names = ("PROJECT", "DOMAIN", "ID")
    parts = [os.environ.get(f"FLYTE_INTERNAL_EXECUTION_{name}", "") for name in names]
    return "/".join(parts) if parts[-1] else ""


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="nemoflows", daemon=True).start()
    return loop


@cache
def log_to_stderr() -> None:
    """Show the library's own log lines, unless the program has set up logging itself."""
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("nemoflows: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
