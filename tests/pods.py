"""Run a task as a pod would: its own serialized command, on files, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyteidl.core import errors_pb2, literals_pb2
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.type_engine import TypeEngine
from flytekit.models.literals import LiteralMap
from flytekit.tools.translator import get_serializable

from tests.support import BIN, ROOT

SETTINGS = SerializationSettings(
    project="p",
    domain="d",
    version="v",
    image_config=ImageConfig(default_image=Image(name="default", fqn="image", tag="t")),
)


@dataclass
class Finished:
    """What a pod left behind."""

    outputs: dict[str, Any] | None
    error: Any | None
    log: str
    status: int = 0


def spec(task: Any) -> Any:
    """Return the task as it would be registered."""
    return get_serializable(OrderedDict(), SETTINGS, task).to_flyte_idl()


def run_pod(
    task: Any, folder: Path, /, env: Mapping[str, str] | None = None, raw: Any = "", **inputs: Any
) -> Finished:
    """Start the task's container command on local paths, as propeller fills them in.

    Args:
        raw: The raw output prefix, where it is no folder.
    """
    command, places = prepare_pod(task, folder, env=env, raw=raw, **inputs)
    done = subprocess.run(
        command, **places, stderr=subprocess.STDOUT, text=True, timeout=240, check=False
    )
    found = outputs_of(task, folder / "out"), error_of(folder / "out")
    return Finished(*found, done.stdout, done.returncode)


def prepare_pod(
    task: Any, folder: Path, /, env: Mapping[str, str] | None = None, raw: Any = "", **inputs: Any
) -> tuple[list[str], dict[str, Any]]:
    """Return the task's container command on local paths, and where and how to start it."""
    folder.mkdir(parents=True)
    context = FlyteContextManager.current_context()
    literals = TypeEngine.dict_to_literal_map(context, inputs, task.python_interface.inputs)
    (folder / "inputs.pb").write_bytes(literals.to_flyte_idl().SerializeToString())
    for name in ("out", "raw", "checkpoint"):
        (folder / name).mkdir()
    places = {
        "{{.input}}": str(folder / "inputs.pb"),
        "{{.outputPrefix}}": str(folder / "out"),
        "{{.rawOutputDataPrefix}}": raw or str(folder / "raw"),
        "{{.checkpointOutputPrefix}}": str(folder / "checkpoint"),
        "{{.prevCheckpointPrefix}}": '""',
    }
    container = spec(task).template.container
    command, *words = [places.get(word, word) for word in container.args]
    started = {
        "cwd": ROOT,
        "env": {**_environment(container), **(env or {})},
        "stdout": subprocess.PIPE,
    }
    return [sys.executable, str(BIN / command), *words], started


def _environment(container: Any) -> dict[str, str]:
    execution = {"PROJECT": "p", "DOMAIN": "d", "ID": "execution1"}
    own = {pair.key: pair.value for pair in container.env}
    pod = {f"FLYTE_INTERNAL_EXECUTION_{name}": value for name, value in execution.items()}
    return {**os.environ, **own, **pod}


def outputs_of(task: Any, folder: Path) -> dict[str, Any] | None:
    """Return what a pod left in its output folder, decoded; None where it did not finish."""
    path = folder / "outputs.pb"
    if not path.exists():
        return None
    found = literals_pb2.LiteralMap()
    found.ParseFromString(path.read_bytes())
    context = FlyteContextManager.current_context()
    kinds = task.python_interface.outputs
    named: dict[str, Any] = TypeEngine.literal_map_to_kwargs(
        context, LiteralMap.from_flyte_idl(found), kinds
    )
    return named


def error_of(folder: Path) -> Any | None:
    """Return why a pod failed, as it says itself; None where it says nothing."""
    path = folder / "error.pb"
    if not path.exists():
        return None
    document = errors_pb2.ErrorDocument()
    document.ParseFromString(path.read_bytes())
    return document.error
