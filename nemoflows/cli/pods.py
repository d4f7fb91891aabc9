"""What `nemoflows doctor --cluster` has pods look at: tasks that return what they found.

A task here is declared as the library's own of its kind are: the same image, resources, placement,
secrets and variables. It asks no model anything; nothing is paid.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata

from flytekit.core.data_persistence import get_fsspec_storage_options

from nemoflows.cli.checks import in_process, lasting, server
from nemoflows.cli.machine import Check, failed, note, ok, plan, tools_of_tests
from nemoflows.errors import BadModel, NemoflowsError
from nemoflows.llm.opening import lasting_root
from nemoflows.settings import Settings, load
from nemoflows.storage.filesystem import open_with
from nemoflows.tasks.flyte.binding import Binding, secrets
from nemoflows.tasks.flyte.decorator import BINDING, task
from nemoflows.tasks.flyte.places import IMAGE, namespace
from nemoflows.tasks.flyte.registration import code_digest
from nemoflows.tasks.flyte.secrets import provide
from nemoflows.tasks.flyte.session import root_of
from nemoflows.types import Value

PATIENCE_S = 30.0
"""Time for an endpoint to answer; calls of a run wait as long as NEMOFLOWS_DEADLINE_S says."""
DIGITS = 12
KIND = BINDING.kind
"""Where the efficient tier's model runs: what kind of pod there is besides those on CPUs."""


class Installed(Value):
    """What is installed on a machine."""

    library: str
    code: str
    """Digest of the library's files."""
    python: str


class Found(Value):
    """What a pod found."""

    checks: list[Check]


def installed_here() -> Installed:
    """Return what is installed on this machine."""
    return Installed(
        library=metadata.version("nemoflows"),
        code=code_digest()[:DIGITS],
        python=platform.python_version(),
    )


@task(frontier=True, index=True)
def look_at_cpu_pod(here: Installed) -> Found:
    """Look at a pod of tasks without a GPU: what it has, and the endpoints that it reaches."""
    policy, loaded = BINDING.policy, _hasty()
    asked = {"frontier": policy.frontier}
    asked |= {"efficient": policy.efficient} if BINDING.kind == "cpu" else {}
    asked |= {"embedder": policy.embedder} if policy.embedder else {}
    looked = [server(name, model, loaded) for name, model in asked.items() if not model.is_builtin]
    return _found(_pod(here), _secrets(frontier=True), *looked)


@task(efficient=True, index=True)
def look_at_model_pod(here: Installed) -> Found:
    """Look at a pod that has the efficient tier's model, in its process or on a server beside."""
    model, loaded = BINDING.policy.efficient, _hasty()
    if BINDING.kind == "gpu":
        looked = in_process("efficient", model, loaded)
    else:
        looked = iter((plan("efficient", model, loaded), *server("efficient", model, loaded)))
    return _found(_pod(here), _secrets(efficient=True), looked)


@task(tests=True)
def look_at_tests_pod(here: Installed) -> Found:
    """Look at a pod that runs a repository's tests."""
    return _found(_pod(here), tools_of_tests())


def _hasty() -> Settings:
    loaded = load()
    return loaded.model_copy(update={"deadline_s": min(loaded.deadline_s, PATIENCE_S)})


def _found(*looked: Iterator[Check]) -> Found:
    checks: list[Check] = []
    for each in looked:
        try:
            checks += each
        except NemoflowsError as error:
            checks.append(failed("settings", error.message, "Correct it, and register again."))
    return Found(checks=checks)


def _pod(here: Installed) -> Iterator[Check]:
    """Look at what every pod has: the library, Python, an image, and a place for the journal."""
    open_with(get_fsspec_storage_options)
    yield from against(here, installed_here())
    yield ok("image", os.environ.get(IMAGE, "unknown"))
    loaded = load()
    root = root_of(loaded)
    place = loaded.journal or lasting_root(loaded, root)
    if place:
        yield lasting("journal", place)
        return
    remedy = "Configure Flyte's raw output prefix in an object store, or set NEMOFLOWS_JOURNAL."
    yield failed("journal", f"{root} ends with this pod, and so would what was paid for", remedy)


def against(here: Installed, there: Installed) -> Iterator[Check]:
    """Compare what is installed in a pod with what is installed where it was started from."""
    remedy = (
        "Build the image with this nemoflows (`make wheel` in a checkout), or install its here."
    )
    if here.library != there.library:
        yield failed("nemoflows", f"{there.library} there, {here.library} here", remedy)
    elif here.code != there.code:
        told = f"{there.library} there and here, with other code ({there.code}, {here.code} here)"
        yield failed("nemoflows", told, remedy)
    else:
        yield ok("nemoflows", f"{there.library} there and here")
    told = f"{there.python} there, {here.python} here"
    if here.python.split(".")[:2] == there.python.split(".")[:2]:
        yield ok("python", told)
    else:
        remedy = "Nothing of nemoflows minds; what tasks of yours pickle may: take one Python."
        yield note("python", told, remedy)


def _secrets(*, efficient: bool = False, frontier: bool = False) -> Iterator[Check]:
    """Look whether each secret of such a task is there; its value is never shown."""
    binding: Binding = BINDING
    for asked in secrets(binding, efficient=efficient, frontier=frontier, index=True):
        name, place = asked.env_var, f"the secret {asked.group!r}, key {asked.key!r}"
        try:
            provide(name, binding.settings)
        except BadModel:
            yield failed(
                f"secret {name}",
                f"the namespace {namespace()!r} does not have {place}",
                f"kubectl create secret generic {asked.group} -n {namespace()} "
                f"--from-literal={asked.key}=…; NEMOFLOWS_SECRETS names another one.",
            )
        else:
            yield ok(f"secret {name}", f"it is here, from {place}")
