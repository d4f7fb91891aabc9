"""`nemoflows manifest`: a server of a model for many executions, as Kubernetes takes it."""

from __future__ import annotations

import json
import re
from typing import Any

import click
import yaml

from nemoflows import settings as settings_module
from nemoflows.cli.gpus import known, tokens
from nemoflows.errors import NemoflowsError
from nemoflows.gpus import GIB, Plan, plan
from nemoflows.gpus.serving import PERIOD_S, PORT, VLLM_IMAGE, start_s, vllm_command, vllm_flags
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

CACHE = "/root/.cache"
"""Where vLLM's image keeps weights and compiled kernels. Source: Hugging Face's and vLLM's own."""
GRACE_S = 120
"""Time that calls in flight have when the server is taken away. Source: chosen."""


@click.command()
@click.option("--model", help="Hub id; NEMOFLOWS_EFFICIENT's by default.")
@click.option("--gpu", help="A GPU, with its number if that is given: h100, h100x4.")
@click.option("--concurrent", type=click.IntRange(min=1), help="Sequences at once.")
@click.option("--context", callback=tokens, help="Tokens of each sequence: 32768, 32k, 1M.")
@click.option("--name", default="", help="Name of all objects; by default the model's.")
@click.option("--namespace", default="default", show_default=True)
@click.option("--replicas", type=click.IntRange(min=1), default=1, show_default=True)
def manifest(
    model: str | None,
    gpu: str | None,
    concurrent: int | None,
    context: int | None,
    name: str,
    namespace: str,
    replicas: int,
) -> None:
    """Print a warm engine: Deployment, Service, PodDisruptionBudget and the volume of weights.

    `nemoflows manifest --model … --gpu h100 > server.yaml; kubectl apply -f server.yaml`. Its first
    lines say how NEMOFLOWS_ENDPOINTS names it. The key of a gated model comes from the secret
    `nemoflows`, key HF_TOKEN, if it is there.
    """
    try:
        loaded = settings_module.load()
        spelled = model or loaded.default_policy().efficient.name
        weights = known(spelled, loaded.hardware.precision or None)
        made = plan(
            weights,
            gpu=gpu or loaded.gpu,
            context_tokens=context or loaded.hardware.context_tokens,
            concurrent=concurrent or loaded.hardware.concurrent,
        )
    except NemoflowsError as error:
        raise click.ClickException(error.message) from None
    ref = ModelRef.model_validate(f"vllm:{spelled.partition(':')[2] or spelled}")
    named = name or _name(ref.name)
    # Copied, for YAML would write what several objects share as references.
    objects = json.loads(json.dumps(server(ref, made, loaded, named, namespace, replicas)))
    click.echo(_head(ref, made, named, namespace) + yaml.safe_dump_all(objects, sort_keys=False))


def _name(model: str) -> str:
    short = re.sub(r"[^a-z0-9]+", "-", model.rpartition("/")[2].lower())
    return short[:50].strip("-")


def _head(model: ModelRef, made: Plan, name: str, namespace: str) -> str:
    url = f"http://{name}.{namespace}.svc.cluster.local:{PORT}/v1"
    endpoint = {name: {"dialect": "vllm-server", "base_url": url}}
    return (
        f"# {made}\n"
        f"# export NEMOFLOWS_ENDPOINTS='{json.dumps(endpoint)}'\n"
        f"# export NEMOFLOWS_EFFICIENT={name}:{model.name}\n"
    )


def server(
    model: ModelRef, made: Plan, loaded: Settings, name: str, namespace: str, replicas: int
) -> list[dict[str, Any]]:
    """Return the objects of a server, each as Kubernetes has it."""
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "nemoflows"}
    meta = {"name": name, "namespace": namespace, "labels": labels}
    selector = {"matchLabels": labels}
    size = f"{2 * made.model.weights_bytes // GIB + 20}Gi"  # two revisions, and compiled kernels
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": meta,
            "spec": {
                "accessModes": ["ReadWriteOnce" if replicas == 1 else "ReadWriteMany"],
                "resources": {"requests": {"storage": size}},
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "replicas": replicas,
                # A second server beside the first would need as many GPUs again.
                "strategy": {"type": "Recreate"},
                "selector": selector,
                "template": {
                    "metadata": {"labels": labels | loaded.hardware.pod.labels}
                    | _if("annotations", loaded.hardware.pod.annotations),
                    "spec": _pod(model, made, loaded, name),
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                "selector": labels,
                "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": meta,
            # With one replica a budget that keeps it would keep nodes from being drained, too.
            "spec": {"maxUnavailable": 1, "selector": selector},
        },
    ]


def _pod(model: ModelRef, made: Plan, loaded: Settings, name: str) -> dict[str, Any]:
    pod = loaded.hardware.pod
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    memory = {"medium": "Memory", "sizeLimit": f"{made.host.shared_memory_gib}Gi"}
    return {
        "terminationGracePeriodSeconds": GRACE_S,
        "containers": [_container(model, made, loaded)],
        "tolerations": [*pod.tolerations, taint],
        "volumes": [
            {"name": "cache", "persistentVolumeClaim": {"claimName": pod.volume_claim or name}},
            {"name": "shared-memory", "emptyDir": memory},
        ],
        **_if("nodeSelector", pod.node_selector),
        **_if(
            "imagePullSecrets", [{"name": pod.image_pull_secret}] if pod.image_pull_secret else []
        ),
    }


def _container(model: ModelRef, made: Plan, loaded: Settings) -> dict[str, Any]:
    resources = {
        "cpu": str(made.host.cpus),
        "memory": f"{made.host.memory_gib}Gi",
        "nvidia.com/gpu": str(made.count),
    }
    group, _, key = loaded.secrets.get("HF_TOKEN", "nemoflows/HF_TOKEN").partition("/")
    token = {"secretKeyRef": {"name": group, "key": key, "optional": True}}
    variables = {"VLLM_NO_USAGE_STATS": "1", **made.environment()}
    ready = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": PERIOD_S}
    return {
        "name": "server",
        "image": loaded.hardware.image or VLLM_IMAGE,
        "command": vllm_command(),
        "args": vllm_flags(model, made, loaded),
        "ports": [{"name": "http", "containerPort": PORT}],
        "env": [
            *({"name": one, "value": value} for one, value in variables.items()),
            {"name": "HF_TOKEN", "valueFrom": token},
        ],
        "resources": {"requests": resources, "limits": resources},
        "startupProbe": ready | {"failureThreshold": round(start_s(made) / PERIOD_S)},
        "readinessProbe": ready | {"timeoutSeconds": PERIOD_S},
        "volumeMounts": [
            {"name": "cache", "mountPath": CACHE},
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }


def _if(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}
