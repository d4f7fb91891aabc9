"""What a failed start of vLLM's engine means: a wrong model, or a fault that may pass."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import pytest

from nemoflows.engines.vllm import Vllm, running
from nemoflows.engines.vllm import engine as engine_module
from nemoflows.errors import BadModel, EndpointDown
from nemoflows.types import ModelRef

MODEL = ModelRef.model_validate("vllm:org/model")


def named(name: str, status: int | None = None) -> Exception:
    """Return an error of a library that need not be installed."""
    error = type(name, (OSError,), {})("hub")
    if status is not None:
        error.response = SimpleNamespace(status_code=status)
    return error  # type: ignore[no-any-return]


def caused_by(cause: Exception) -> Exception:
    """Return the error that transformers makes of the hub's."""
    error = OSError("We could not connect to the hub")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError("no such model"), BadModel),
        (RuntimeError("out of memory"), BadModel),
        (named("ConnectionError"), EndpointDown),
        (named("ConnectTimeout"), EndpointDown),
        (caused_by(named("ReadTimeout")), EndpointDown),
        (caused_by(caused_by(named("HTTPError"))), EndpointDown),
        (caused_by(named("HfHubHTTPError", 503)), EndpointDown),
        (named("HfHubHTTPError", 429), EndpointDown),
        (caused_by(named("RepositoryNotFoundError", 404)), BadModel),
        (named("HfHubHTTPError", 401), BadModel),
        (named("OfflineModeIsEnabled"), BadModel),
    ],
    ids=repr,
)
def test_a_hub_that_is_not_reached_is_no_fault_of_the_models(
    error: Exception, raised: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    for name in ("vllm", "vllm.engine", "vllm.engine.arg_utils", "vllm.v1", "vllm.v1.engine"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    arg_utils: Any = sys.modules["vllm.engine.arg_utils"]
    arg_utils.AsyncEngineArgs = fail
    async_llm: Any = ModuleType("vllm.v1.engine.async_llm")
    async_llm.AsyncLLM = SimpleNamespace(from_engine_args=fail)
    monkeypatch.setitem(sys.modules, "vllm.v1.engine.async_llm", async_llm)
    monkeypatch.setattr(running, "_engine_arguments", lambda *_: {})
    monkeypatch.setattr("os.environ", {})
    with pytest.raises(raised, match="cannot start 'vllm:org/model'"):
        running.start(MODEL, {}, tmp_path / "engine.log")


def test_a_start_that_fails_after_a_death_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    dead: Any = SimpleNamespace(
        engine=SimpleNamespace(errored=True), stop=lambda: None, arguments={}
    )

    def fail(*_: object) -> NoReturn:
        raise BadModel("no memory left by the one that died")

    monkeypatch.setattr(engine_module, "start", fail)
    made = Vllm({}, deadline_s=1)
    slot = made._slot(MODEL)
    with pytest.raises(BadModel):
        asyncio.run(made._engine(slot, MODEL, 0))
    slot.running = dead
    with pytest.raises(EndpointDown, match="no memory left"):
        asyncio.run(made._engine(slot, MODEL, 0))
