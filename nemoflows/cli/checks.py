"""What `nemoflows doctor` looks at: each check says what it found and, where it failed, a remedy.

Nothing is paid for: endpoints are asked for their health and their list of models only.
"""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from nemoflows import settings as settings_module
from nemoflows.cli.machine import Check, engine, failed, gpu, note, ok, plan, tools_of_tests
from nemoflows.cli.serving import served
from nemoflows.errors import BadModel, NemoflowsError
from nemoflows.models import CHAT_COMPLETIONS, CLAUDE, Endpoint
from nemoflows.models.catalogue import FRONTIER
from nemoflows.models.weights import open_model
from nemoflows.settings import Settings, is_loopback
from nemoflows.storage.opening import open_store
from nemoflows.types import ModelRef

WAIT_S = 5
"""How long an address may take to answer."""
HAS_HEALTH = {"vllm-server", "sglang"}
"""Dialects whose servers have `/health` beside `/v1`."""


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
    for check in tools_of_tests():  # not everybody changes code
        yield note(check.about, check.told, check.remedy) if check.state == "failed" else check
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
    else:
        yield from server(name, model, loaded)
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


def server(name: str, model: ModelRef, loaded: Settings) -> Iterator[Check]:
    """Ask a server for its health, its models and its context; without its key nothing."""
    endpoint = loaded.endpoint(model)
    has_key = not endpoint.key_env or os.environ.get(endpoint.key_env)
    if endpoint.dialect not in CHAT_COMPLETIONS | CLAUDE or not has_key:
        return
    if endpoint.dialect in HAS_HEALTH and (sick := _health(endpoint.base_url)):
        remedy = "Wait until it has loaded its model, or read its log."
        yield failed(f"{name} health", sick, remedy)
        return
    try:
        rows = served(model.endpoint, loaded)
    except NemoflowsError as error:
        remedy = f"Start the server, or correct the base_url of {model.endpoint!r}."
        if isinstance(error, BadModel) and endpoint.key_env:  # it answered
            remedy = f"Correct the key in {endpoint.key_env}, or the base_url."
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
    """Look at vLLM, at the GPU and its driver, at the weights, and whether the model fits."""
    yield engine(name)
    yield plan(name, model, loaded)
    yield gpu(name, model, loaded)
    if "://" in (place := loaded.hardware.weights):
        yield weights(name, place)


def weights(name: str, place: str) -> Check:
    """Look whether a model's weights are where they are said to be."""
    try:
        found = open_store(place).read("config.json")
    except NemoflowsError as error:
        return failed(f"{name} weights", error.message, "Correct its rights, or `weights`.")
    if found is None:
        remedy = "`weights` in NEMOFLOWS_HARDWARE names the folder that holds a model's files."
        return failed(f"{name} weights", f"{place} has no config.json", remedy)
    return ok(f"{name} weights", f"{place} can be read")


def licence(name: str, model: ModelRef) -> Check:
    """Say under which terms the model is used."""
    row = open_model(model.name)
    if row is not None and not row.licence.startswith("other"):
        return ok(f"{name} licence", row.licence)
    if any(one.name == model.name for one in FRONTIER):
        return ok(f"{name} licence", "the provider's terms")
    told = f"nothing is known of the terms of {model.name!r}"
    return note(f"{name} licence", told, "Read its card before you use what it writes.")


def folders(loaded: Settings) -> Iterator[Check]:
    """Look whether the journal and the index can be written."""
    root = settings_module.home_root(loaded)
    yield lasting("journal", loaded.journal or f"{root}/journal")
    yield lasting("home", root)


def lasting(name: str, place: str) -> Check:
    """Write, read and delete a file where calls are recorded or indexes lie."""
    if place == "off":
        told = "off: nothing is recorded, and a run that is started again pays again"
        return note("journal", told)
    if why := _refused(place):
        remedy = (
            f"Give NEMOFLOWS_{name.upper()} a place that can be written, or correct its rights."
        )
        return failed(name, f"{place}: {why}", remedy)
    return ok(name, f"{place} can be written, read and deleted from")


def _refused(place: str) -> str:
    """Return what a place refuses; empty where a file can be written, read and deleted."""
    name = f".doctor-{uuid.uuid4().hex}"
    missing = "://" not in place and not Path(place).exists()
    try:
        store = open_store(place)
        store.write(name, b"written")
        if store.read(name) != b"written":
            return "what was written there is not what is read"
        store.remove(name)
        if store.read(name) is not None:
            return "what was deleted there is still read"
    except NemoflowsError as error:
        return error.message
    if missing:
        Path(place).rmdir()
    return ""


def backend(config: str, loaded: Settings) -> Check:
    """Look whether Flyte's admin service can be reached, where one is configured."""
    if wrong := misnamed(config):
        return wrong
    chosen = config or os.environ.get("FLYTECTL_CONFIG", "")
    if not chosen:
        told = "none is configured (FLYTECTL_CONFIG, or --config): runs are local"
        return note("cluster", told)
    from flytekit.configuration import Config  # warns of a file that is none

    return reached(Config.auto(chosen).platform.endpoint or "", chosen, loaded)


def misnamed(config: str) -> Check | None:
    """Look whether the configuration that is named is there; None where nothing is wrong."""
    chosen = config or os.environ.get("FLYTECTL_CONFIG", "")
    if not chosen or Path(chosen).is_file():
        return None
    return failed("cluster", f"{chosen} is no file", "Correct FLYTECTL_CONFIG or --config.")


def reached(endpoint: str, configured: str, loaded: Settings) -> Check:
    """Look whether anything answers at the address of Flyte's admin service."""
    address = endpoint.removeprefix("dns:///")
    url = urlsplit(address if "//" in address else f"//{address}")
    if loaded.offline and not is_loopback(f"http://{url.netloc}"):
        return note("cluster", f"{endpoint} was not asked: NEMOFLOWS_OFFLINE=1")
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=WAIT_S).close()
    except (OSError, ValueError) as error:
        remedy = f"Start the cluster (`flytectl demo start`), or correct {configured}."
        return failed("cluster", f"{endpoint} does not answer: {error}", remedy)
    return ok("cluster", f"{endpoint} answers")
