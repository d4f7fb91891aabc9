"""A model's server beside a task, in its pod: vLLM, NIM or Ollama.

The inference plugin of flytekit 1.16 makes such pods too. Its vLLM has no environment, no shared
memory and 1 GiB of ephemeral storage, too little for any model's weights; its images carry no tag;
its numbers break kubernetes 37. So all three servers come from here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flytekit import PodTemplate

from nemoflows.errors import BadInput
from nemoflows.gpus import Plan
from nemoflows.gpus.serving import PERIOD_S, SERVERS, VLLM_IMAGE, nim_variables, start, start_s
from nemoflows.models import SIDECARS
from nemoflows.settings import Settings
from nemoflows.tasks.flyte.pods import CACHE, cache_environment, mounts, placement
from nemoflows.tasks.flyte.secrets import FOR_WEIGHTS, place
from nemoflows.types import ModelRef

_READY = {"ollama": "/"} | {kind: own.ready for kind, own in SERVERS.items()}
"""Paths that answer once a server can be asked."""

_PULL_THEN_SERVE = (
    "export OLLAMA_HOST=127.0.0.1:11435; ollama serve & server=$!; "
    "until ollama list; do sleep 1; done; "
    'ollama pull "$MODEL" && kill $server && OLLAMA_HOST=0.0.0.0:11434 exec ollama serve'
)
"""Ollama answers long before it has a model: it listens where it is asked only with the model."""


_AS_FLYTE_OPENS = (
    'if [ -n "$FLYTE_AWS_ENDPOINT" ]; then export AWS_ENDPOINT_URL="$FLYTE_AWS_ENDPOINT" '
    'RUNAI_STREAMER_S3_ENDPOINT="$FLYTE_AWS_ENDPOINT" RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING=0 '
    "AWS_EC2_METADATA_DISABLED=true; fi; "
    'if [ -n "$FLYTE_AWS_ACCESS_KEY_ID" ]; then '
    'export AWS_ACCESS_KEY_ID="$FLYTE_AWS_ACCESS_KEY_ID" '
    'AWS_SECRET_ACCESS_KEY="$FLYTE_AWS_SECRET_ACCESS_KEY"; fi; exec "$@"'
)
"""Gives vLLM's streamer of weights what Flyte opens S3 with, in containers that are told it.

Source: vLLM's documentation of its Run:ai loader, for S3-compatible stores.
"""


def with_server(settings: Settings, model: ModelRef, plan: Plan) -> PodTemplate:
    """Return the template of a task whose model runs on a server beside it.

    The server is a container that starts first and runs as long as the task (an init container
    that restarts: Kubernetes 1.29); the task starts once its probe passes.

    Raises:
        BadInput: NIM and Ollama need an image by name.
    """
    from kubernetes.client import V1Container, V1PodSpec

    where = placement(settings, server=True)
    where["volumes"] = [*(where["volumes"] or []), _shared_memory(plan)]
    spec = V1PodSpec(
        containers=[V1Container(name="primary")],
        init_containers=[_server(settings, model, plan)],
        **where,
    )
    return PodTemplate(
        pod_spec=spec,
        labels=settings.hardware.pod.labels,
        annotations=settings.hardware.pod.annotations,
    )


def server_image(settings: Settings) -> str:
    """Return the image of the server beside a task.

    Raises:
        BadInput: NIM and Ollama need an image by name.
    """
    if settings.hardware.image:
        return settings.hardware.image
    if settings.hardware.server == "vllm":
        return VLLM_IMAGE
    raise BadInput(
        f"The server {settings.hardware.server!r} needs its image, with a tag, as `image` in "
        "NEMOFLOWS_HARDWARE: nvcr.io/nim/nvidia/… from NVIDIA's catalogue, or ollama/ollama:…"
    )


def _server(settings: Settings, model: ModelRef, plan: Plan) -> Any:
    from kubernetes.client import (
        V1Container,
        V1ContainerPort,
        V1ResourceRequirements,
        V1VolumeMount,
    )

    resources = {
        "cpu": str(plan.host.cpus),
        "memory": f"{plan.host.memory_gib}Gi",
        "ephemeral-storage": f"{plan.host.ephemeral_storage_gib}Gi",
        "nvidia.com/gpu": str(plan.count),
    }
    port = urlsplit(SIDECARS[settings.hardware.server].base_url).port or 0
    command, arguments = _command(settings, model, plan)
    return V1Container(
        name="model-server",
        image=server_image(settings),
        restart_policy="Always",
        ports=[V1ContainerPort(container_port=port)],
        resources=V1ResourceRequirements(requests=resources, limits=resources),
        env=_variables(settings, model, plan),
        startup_probe=_probe(settings, plan, port),
        volume_mounts=[
            *mounts(settings),
            V1VolumeMount(name="shared-memory", mount_path="/dev/shm"),  # noqa: S108
        ],
        command=command,
        args=arguments,
    )


def _command(
    settings: Settings, model: ModelRef, plan: Plan
) -> tuple[list[str] | None, list[str] | None]:
    """Return a container's command and arguments; None leaves the image's own."""
    if settings.hardware.server == "vllm":
        is_in_s3 = settings.hardware.weights.startswith("s3://")
        opening = ["/bin/sh", "-c", _AS_FLYTE_OPENS, "sh"] if is_in_s3 else []
        command = [*opening, *SERVERS["vllm"].command]
        return command, start("vllm", model, plan, settings).args
    if settings.hardware.server == "ollama":
        return ["/bin/sh", "-c", _PULL_THEN_SERVE], None
    return None, None


def _probe(settings: Settings, plan: Plan, port: int) -> Any:
    from kubernetes.client import V1HTTPGetAction, V1Probe

    return V1Probe(
        http_get=V1HTTPGetAction(path=_READY[settings.hardware.server], port=port),
        period_seconds=PERIOD_S,
        failure_threshold=round(start_s(plan) / PERIOD_S),
    )


def _variables(settings: Settings, model: ModelRef, plan: Plan) -> list[Any]:
    from kubernetes.client import V1EnvVar, V1EnvVarSource, V1SecretKeySelector

    named: dict[str, str] = {}
    if settings.hardware.server == "vllm":
        named = start("vllm", model, plan, settings).env
        named |= cache_environment() if settings.hardware.pod.volume_claim else {}
    elif settings.hardware.server == "nim":
        named = nim_variables(model, plan, CACHE)
    else:
        named = {"MODEL": model.name, "OLLAMA_CONTEXT_LENGTH": str(plan.context_tokens)}
        named |= {"OLLAMA_MODELS": f"{CACHE}/ollama"} if settings.hardware.pod.volume_claim else {}
    variables = [V1EnvVar(name=name, value=value) for name, value in named.items()]
    for name in (one for one in FOR_WEIGHTS if one in settings.secrets):
        group, key = place(name, settings)
        reference = V1SecretKeySelector(name=group, key=key)
        source = V1EnvVarSource(secret_key_ref=reference)
        variables.append(V1EnvVar(name=name, value_from=source))
    return variables


def _shared_memory(plan: Plan) -> Any:
    from kubernetes.client import V1EmptyDirVolumeSource, V1Volume

    limit = f"{plan.host.shared_memory_gib}Gi"
    source = V1EmptyDirVolumeSource(medium="Memory", size_limit=limit)
    return V1Volume(name="shared-memory", empty_dir=source)
