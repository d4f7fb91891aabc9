"""`nemoflows manifest`: a server of a model for many executions, as Kubernetes takes it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, get_args

import click
import yaml

from nemoflows import settings as settings_module
from nemoflows.cli.gpus import known, tokens
from nemoflows.errors import NemoflowsError, one_line
from nemoflows.gpus import GIB, Plan, plan
from nemoflows.gpus.serving import PERIOD_S, SERVERS, ServerKind, start, start_s
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

NIM_USER = 1000
"""Group that may write a NIM's volume: it does not run as root. Source: NVIDIA's nim-llm chart."""
GRACE_S = 120
"""Time that calls in flight have when the server is taken away. Source: chosen."""


def _label(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", text):
        raise click.BadParameter(f"{text!r} names no service: a-z, 0-9 and -, 63 at most.")
    return text


@click.command()
@click.option("--model", help="Hub id; NEMOFLOWS_EFFICIENT's by default.")
@click.option("--gpu", help="A GPU, with its number if that is given: h100, h100x4.")
@click.option("--server", "kind", type=click.Choice(get_args(ServerKind)), default="vllm")
@click.option("--image", default="", help="Image of the server, with its tag.")
@click.option("--concurrent", type=click.IntRange(min=1), help="Sequences at once.")
@click.option("--context", callback=tokens, help="Tokens of each sequence: 32768, 32k, 1M.")
@click.option("--name", callback=_label, help="Name of all objects; by default the model's.")
@click.option("--namespace", default="default", show_default=True)
@click.option("--replicas", type=click.IntRange(min=1), default=1, show_default=True)
def manifest(
    model: str | None,
    gpu: str | None,
    kind: ServerKind,
    image: str,
    concurrent: int | None,
    context: int | None,
    name: str | None,
    namespace: str,
    replicas: int,
) -> None:
    """Print a warm engine: Deployment, Service, PodDisruptionBudget and the volume of weights.

    `nemoflows manifest --model … --gpu h100 > server.yaml; kubectl apply -f server.yaml`. Its first
    lines say how NEMOFLOWS_ENDPOINTS names it, and what of the plan the server has no counterpart
    for. The key of a gated model comes from the secret `nemoflows`, key HF_TOKEN, and NVIDIA's from
    NGC_API_KEY, if they are there.
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
    warm = Warm(kind, ref, made, loaded, named, namespace, replicas, image)
    objects = json.loads(json.dumps(warm.objects()))
    click.echo(warm.head() + yaml.safe_dump_all(objects, sort_keys=False))


def _name(model: str) -> str:
    short = re.sub(r"[^a-z0-9]+", "-", model.rpartition("/")[2].lower())
    return re.sub(r"^(?![a-z])", "model-", short[:50].strip("-"))


@dataclass(frozen=True)
class Warm:
    """A server that runs on its own, and what Kubernetes is told of it."""

    kind: ServerKind
    model: ModelRef
    plan: Plan
    settings: Settings
    name: str
    namespace: str
    replicas: int
    image: str = ""

    def head(self) -> str:
        """Return the comments that say how it is named, and what it does not get."""
        own = SERVERS[self.kind]
        url = f"http://{self.name}.{self.namespace}.svc.cluster.local:{own.port}/v1"
        endpoint = {self.name: {"dialect": own.dialect, "base_url": url}}
        notes = start(self.kind, self.model, self.plan, self.settings).notes
        lines = [
            str(self.plan),
            f"export NEMOFLOWS_ENDPOINTS='{json.dumps(endpoint)}'",
            f"export NEMOFLOWS_EFFICIENT={self.name}:{self.model.name}",
            *notes,
        ]
        if not self.settings.hardware.pod.node_selector:
            lines.append(
                f"any node with {self.plan.count} GPU may be taken: where some have none of "
                f"{self.plan.gpu.name}, `node_selector` of `pod` in NEMOFLOWS_HARDWARE names those"
            )
        return "".join(f"# {one_line(line)}\n" for line in lines)

    def objects(self) -> list[dict[str, Any]]:
        """Return its objects, each as Kubernetes has it."""
        labels = {"app.kubernetes.io/name": self.name, "app.kubernetes.io/part-of": "nemoflows"}
        meta = {"name": self.name, "namespace": self.namespace, "labels": labels}
        selector, pod = {"matchLabels": labels}, self.settings.hardware.pod
        # Two revisions, and compiled kernels.
        size = f"{2 * self.plan.model.weights_bytes // GIB + 20}Gi"
        claim = {
            "accessModes": ["ReadWriteOnce" if self.replicas == 1 else "ReadWriteMany"],
            "resources": {"requests": {"storage": size}},
        }
        deployment = {
            "replicas": self.replicas,
            # A second server beside the first would need as many GPUs again.
            "strategy": {"type": "Recreate"},
            "selector": selector,
            "template": {
                "metadata": {"labels": labels | pod.labels} | _if("annotations", pod.annotations),
                "spec": self._pod(),
            },
        }
        port = {"name": "http", "port": SERVERS[self.kind].port, "targetPort": "http"}
        made = [
            ("v1", "PersistentVolumeClaim", claim),
            ("apps/v1", "Deployment", deployment),
            ("v1", "Service", {"selector": labels, "ports": [port]}),
            # With one replica a budget that keeps it would keep nodes from being drained, too.
            ("policy/v1", "PodDisruptionBudget", {"maxUnavailable": 1, "selector": selector}),
        ]
        return [
            {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}
            for version, kind, spec in made
        ]

    def _pod(self) -> dict[str, Any]:
        pod = self.settings.hardware.pod
        taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        memory = {"medium": "Memory", "sizeLimit": f"{self.plan.host.shared_memory_gib}Gi"}
        claim = {"claimName": pod.volume_claim or self.name}
        pulled = [{"name": pod.image_pull_secret}] if pod.image_pull_secret else []
        return {
            "terminationGracePeriodSeconds": GRACE_S,
            # A service called vllm would set VLLM_PORT, which vLLM reads as its own.
            "enableServiceLinks": False,
            "containers": [self._container()],
            "tolerations": [*pod.tolerations, taint],
            "volumes": [
                {"name": "cache", "persistentVolumeClaim": claim},
                {"name": "shared-memory", "emptyDir": memory},
            ],
            **_if("nodeSelector", pod.node_selector),
            **_if("imagePullSecrets", pulled),
            **_if("securityContext", {"fsGroup": NIM_USER} if self.kind == "nim" else {}),
        }

    def _container(self) -> dict[str, Any]:
        own, host = SERVERS[self.kind], self.plan.host
        started = start(self.kind, self.model, self.plan, self.settings)
        resources = {
            "cpu": str(host.cpus),
            "memory": f"{host.memory_gib}Gi",
            "nvidia.com/gpu": str(self.plan.count),
        }
        ready = {"httpGet": {"path": own.ready, "port": "http"}, "periodSeconds": PERIOD_S}
        hardware = self.settings.hardware
        theirs = hardware.image if hardware.server == self.kind else ""
        return {
            "name": "server",
            "image": self.image or theirs or own.image,
            **_if("command", [*own.command]),
            **_if("args", started.args),
            "ports": [{"name": "http", "containerPort": own.port}],
            "env": [
                *({"name": name, "value": value} for name, value in started.env.items()),
                *map(self._secret, ("HF_TOKEN", *(["NGC_API_KEY"] if self.kind == "nim" else []))),
            ],
            "resources": {"requests": resources, "limits": resources},
            "startupProbe": ready | {"failureThreshold": round(start_s(self.plan) / PERIOD_S)},
            "readinessProbe": ready | {"timeoutSeconds": PERIOD_S},
            "volumeMounts": [
                {"name": "cache", "mountPath": own.cache},
                {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
            ],
        }

    def _secret(self, name: str) -> dict[str, Any]:
        group, _, key = self.settings.secrets.get(name, f"nemoflows/{name}").partition("/")
        reference = {"name": group, "key": key, "optional": True}
        return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def _if(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}
