"""What tasks are declared with, from the environment: GPUs, images, secrets, variables.

flytekit fixes it all when a task is declared, so it is computed once, when a task's module is
imported, and every pod carries what it needs to compute the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from dataclasses import dataclass
from typing import Any, Literal

from flytekit import FlyteContextManager, Resources
from flytekit.extras import accelerators
from flytekit.extras.accelerators import GPUAccelerator

from nemoflows.coding.git_address import KEY
from nemoflows.errors import BadInput, BadModel
from nemoflows.gpus import Plan, find, planned
from nemoflows.models.hardware import Hardware
from nemoflows.settings import PREFIX, Settings, is_loopback, load
from nemoflows.tasks.flyte import images, pods, sidecar
from nemoflows.tasks.flyte.secrets import FOR_WEIGHTS, requests
from nemoflows.tasks.flyte.session import in_pod
from nemoflows.types import ModelRef, Policy

log = logging.getLogger("nemoflows")

Kind = Literal["cpu", "gpu", "sidecar"]

CPU_RESOURCES = Resources(cpu="1", mem="2Gi")


@dataclass(frozen=True, slots=True)
class Binding:
    """How tasks are declared: what they ask by default, and what the efficient tier runs on."""

    settings: Settings
    policy: Policy
    """Default of the input `policy`."""
    kind: Kind
    """The efficient tier's model is in the task on its GPU, on a server in its pod, or `cpu`: at an
    endpoint, or no model."""
    plan: Plan | None = None
    """None without a GPU, and for a model whose shape nobody knows."""
    is_known: bool = True
    """Whether anything says how tasks are bound: a pod of somebody else's task does not."""


def bound(
    settings: Settings, policy: Policy, *, is_known: bool = True, must_fit: bool = False
) -> Binding:
    """Return how tasks are bound.

    Args:
        is_known: Whether anything says how.
        must_fit: Whether a model that does not fit is refused wherever this is, not only at
            registration.

    Raises:
        BadInput: At registration: something of this machine would travel to pods.
        BadModel: At registration: the model does not fit the GPU.
    """
    made = _bound(settings, policy, is_known=is_known, must_fit=must_fit)
    _made.append(made)
    return made


def _bound(settings: Settings, policy: Policy, *, is_known: bool, must_fit: bool) -> Binding:
    model = policy.efficient
    if registering():
        refuse_what_stays_here(settings, policy)
    if not settings.runs_in_task(model):
        if registering() and settings.hardware.pod.on_gpu_pods:
            log.warning(
                "%s of `pod` in NEMOFLOWS_HARDWARE reach pods with a GPU alone, and %s needs none.",
                ", ".join(settings.hardware.pod.on_gpu_pods),
                model,
            )
        return Binding(settings, policy, "cpu", is_known=is_known)
    kind: Kind = "sidecar" if settings.is_sidecar(model) else "gpu"
    try:
        made = planned(settings, model)
    except (BadInput, BadModel) as error:
        if registering() or must_fit:
            raise
        log.debug("no plan for %s: %s", model, error.message)
        made = None
    if made is None and registering():
        _warn_or_refuse(model, kind)
    return Binding(settings, policy, kind, made, is_known)


_made: list[Binding] = []


def digest(binding: Binding) -> str:
    """Return what tells a binding from another one: variables, resources, placement."""
    words = [environment(binding, efficient=False), str(binding.plan), binding.kind]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def digests() -> list[str]:
    """Return the digests of all bindings of this process, sorted."""
    return sorted({digest(binding) for binding in _made})


def of_environment() -> Binding:
    """Return what the environment says of how tasks are bound; in a pod it may say nothing."""
    settings = load()
    return bound(settings, settings.default_policy(), is_known=is_told(settings))


def is_told(settings: Settings) -> bool:
    """Return whether the environment says how tasks are bound: in a foreign pod it does not."""
    return bool(settings.policy or settings.efficient or settings.frontier) or not in_pod()


def registering() -> bool:
    """Return whether this process registers or packages what it imports."""
    remote = "run" in sys.argv and {"--remote", "-r"} & set(sys.argv)
    loading = FlyteContextManager.current_context().serialization_settings is not None
    return bool(remote or loading) and not in_pod()


def refuse_what_stays_here(settings: Settings, policy: Policy) -> None:
    """Refuse to register what pods could not reach: local paths and loopback addresses.

    Raises:
        BadInput: The message names the setting and what to do.
    """
    named = {"efficient": policy.efficient, "frontier": policy.frontier}
    named |= {"embedder": policy.embedder} if policy.embedder else {}
    for name, model in named.items():
        variable = f"The {name} model {model}"
        places = (model.name, model.lora, settings.endpoint(model).base_url)
        if any(map(_is_local, places)):
            raise BadInput(
                f"{variable} is a path of this machine, which pods do not have. Name a hub id; "
                "where its weights lie on a mounted volume or in a bucket goes into "
                "NEMOFLOWS_HARDWARE as `weights`."
            )
        if not settings.is_sidecar(model) and is_loopback(settings.endpoint(model).base_url):
            raise BadInput(
                f"{variable} is at {settings.endpoint(model).base_url}, which in a pod is the pod "
                f"itself. Give {model.endpoint!r} in NEMOFLOWS_ENDPOINTS an address that pods "
                f"reach, or use a server in the pod: sidecar:{model.name}."
            )
    hardware = settings.hardware
    for name, path in (
        ("weights", hardware.weights),
        ("engine_arguments", _path_in(hardware.engine_arguments)),
    ):
        if _is_local(path):
            raise BadInput(
                f"NEMOFLOWS_HARDWARE has {path!r} in `{name}`, a path of this machine. In pods a "
                f"volume is mounted at {pods.CACHE} (its `pod`, `volume_claim`): put it there, or "
                "into a bucket."
            )


def _path_in(value: Any) -> str:
    """Return the first local path anywhere in a JSON value; empty where there is none."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return next((found for one in inner if (found := _path_in(one))), "")
    return value if isinstance(value, str) and _is_local(value) else ""


def _is_local(text: str) -> bool:
    starts = ("/", "~", "./", "../", "file:")
    inside = text.startswith(f"{pods.CACHE}/") and ".." not in text.split("/")
    return text.startswith(starts) and not inside


def _warn_or_refuse(model: ModelRef, kind: Kind) -> None:
    if kind == "sidecar":
        raise BadModel(
            f"The shape of {model.name!r} is unknown, so that no server can be planned for it. "
            "Name a model of `nemoflows models`, or serve it elsewhere and name the endpoint."
        )
    log.warning(
        "The shape of %r is unknown: its tasks ask for what NEMOFLOWS_GPU names, else for one GPU, "
        "and 32 GiB, unchecked. With a local copy of its config.json, `nemoflows gpus --model "
        "FOLDER` says what it needs.",
        model.name,
    )


def declared(binding: Binding, *, efficient: bool, tests: bool = False) -> dict[str, Any]:
    """Return resources, image and placement of a task; plain CPU where it has no GPU."""
    settings, made = binding.settings, binding.plan
    if not efficient or binding.kind == "cpu":
        return _on_cpu(binding, tests=tests)
    if binding.kind == "sidecar":
        model = binding.policy.efficient
        server = {} if made is None else {
            "pod_template": sidecar.with_server(settings, model, made),
            "accelerator": accelerator(made),
        }  # fmt: skip
        return _on_cpu(binding) | server
    image = images.image(settings, gpu=True, embedder=binding.policy.embedder)
    template = pods.placed(settings)
    more = {"container_image": image} if image else {}
    more |= {"pod_template": template} if template else {}
    return (_unplanned(settings) if made is None else overrides(made)) | more


def _unplanned(settings: Settings) -> dict[str, Any]:
    """Return resources for a model whose shape nobody knows: the GPUs named, else any one."""
    gpu, count = find(settings.gpu) if settings.gpu else (None, None)
    resources = Resources(cpu="4", mem="32Gi", gpu=str(count or 1), ephemeral_storage="100Gi")
    named = {"accelerator": _accelerator(gpu.device, gpu.partition)} if gpu else {}
    return {"requests": resources, "limits": resources, **named}


def _on_cpu(binding: Binding, *, tests: bool = False) -> dict[str, Any]:
    image = images.image(binding.settings, gpu=False, tests=tests, embedder=binding.policy.embedder)
    found: dict[str, Any] = {"requests": CPU_RESOURCES, "limits": CPU_RESOURCES}
    return found | ({"container_image": image} if image else {})


def overrides(plan: Plan) -> dict[str, Any]:
    """Return a plan as `with_overrides` of a node takes it: GPUs, memory, storage.

    A node's variables cannot be overridden, so the engine keeps the arguments that its tasks were
    registered with: give it more memory this way, not another number of GPUs.
    """
    resources = Resources(
        cpu=str(plan.host.cpus),
        mem=f"{plan.host.memory_gib}Gi",
        gpu=str(plan.count),
        ephemeral_storage=f"{plan.host.ephemeral_storage_gib}Gi",
    )
    return {
        "requests": resources,
        "limits": resources,
        "accelerator": accelerator(plan),
        "shared_memory": f"{plan.host.shared_memory_gib}Gi",
    }


def accelerator(plan: Plan) -> Any:
    """Return Flyte's name for the plan's GPU."""
    return _accelerator(plan.gpu.device, plan.gpu.partition)


def _accelerator(device: str, partition: str) -> Any:
    if not partition:
        return GPUAccelerator(device)
    kinds = {"nvidia-tesla-a100": accelerators.A100, "nvidia-a100-80gb": accelerators.A100_80GB}
    return kinds[device].partitioned(partition)


def secrets(
    binding: Binding, *, efficient: bool, frontier: bool, index: bool = False, fetches: bool = False
) -> list[Any]:
    """Return the secrets of a task: keys of the endpoints it asks, and none of others.

    A task with a GPU never gets the frontier's. The frontier's tasks get the efficient endpoint's
    too, whose key they check before anything is spent. Who makes or searches an index gets the
    embedder's, who fetches a repository git's, where NEMOFLOWS_SECRETS names it.
    """
    settings, policy = binding.settings, binding.policy
    asked = [policy.embedder] if index and policy.embedder else []
    names = [KEY] if fetches and KEY in settings.secrets else []
    if efficient and binding.kind != "cpu":
        own = FOR_WEIGHTS if binding.kind == "gpu" else ()
        names += [name for name in own if name in settings.secrets]
    else:
        asked += [policy.efficient] if efficient or frontier else []
        asked += [policy.frontier] if frontier else []
    names += [_key(settings, model) for model in asked]
    return requests([name for name in names if name], settings)


def _key(settings: Settings, model: ModelRef) -> str:
    try:
        return settings.endpoint(model).key_env
    except BadModel:  # told again, and better, before the first call
        return ""


def environment(binding: Binding, *, efficient: bool) -> dict[str, str]:
    """Return the settings that a pod needs to declare its tasks as they were registered.

    Endpoints travel with their address and the name of their key's variable, never a key; a
    loopback address means nothing in a pod and stays behind.
    """
    settings, policy = binding.settings, binding.policy
    endpoints = {
        name: endpoint.model_dump(mode="json", exclude_defaults=True)
        for name, endpoint in settings.endpoints.items()
        if not is_loopback(endpoint.base_url)
    }
    on_gpu = efficient and binding.kind == "gpu"
    hardware = settings.hardware
    if on_gpu:
        hardware = hardware.model_copy(update={"engine_arguments": _engine_arguments(binding)})
    told = {
        "ENDPOINTS": json.dumps(endpoints, sort_keys=True) if endpoints else "",
        "SECRETS": json.dumps(settings.secrets, sort_keys=True) if settings.secrets else "",
        "REGISTRY": settings.registry,
        "GPU": settings.gpu,
        "HARDWARE": ""
        if hardware == Hardware()
        else json.dumps(hardware.model_dump(mode="json", exclude_defaults=True), sort_keys=True),
    }
    told |= _travelling(settings)
    named = {"NEMOFLOWS_POLICY": str(policy)}
    named |= {f"{PREFIX}{name}": text for name, text in told.items() if text}
    if not on_gpu:
        return named
    named |= binding.plan.environment() if binding.plan else {}
    return named | (pods.cache_environment() if hardware.pod.volume_claim else {})


def _travelling(settings: Settings) -> dict[str, str]:
    """Return the other settings that differ from their defaults and mean the same in a pod."""
    given = {
        name.upper(): str(int(value) if isinstance(value, bool) else value)
        for name in _PLAIN
        if (value := getattr(settings, name)) != Settings.model_fields[name].default
    }
    return given | {
        name.upper(): place
        for name in ("journal", "home")
        if "://" in (place := getattr(settings, name)) or place == "off"
    }


_PLAIN = ("tests_image", "run", "offline", "concurrency", "deadline_s")


def _engine_arguments(binding: Binding) -> dict[str, Any]:
    """Return the arguments of the engine in a task: the plan's, and what beats them."""
    hardware = binding.settings.hardware
    arguments: dict[str, Any] = binding.plan.engine_arguments() if binding.plan else {}
    if hardware.weights:
        arguments |= {"model": hardware.weights}
    return arguments | hardware.engine_arguments
