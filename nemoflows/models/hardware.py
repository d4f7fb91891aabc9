"""What is wished of the hardware and the pods that a model runs on; facts of it are in `gpus`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator

from nemoflows.models.endpoints import SidecarKind, secret_in
from nemoflows.types import Value


class Pod(Value):
    """Where pods with a GPU run, and what is mounted into them; how alone tests are.

    Pods without a GPU get none of it, labels and annotations neither, but the last two.
    """

    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, str]] = Field(default_factory=list)
    """As Kubernetes has them: `key`, `operator`, `value`, `effect`."""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    spot: bool = True
    """Whether a node may be taken away: what was answered until then is recorded."""
    volume_claim: str = ""
    """Claim of a volume that keeps weights and compiled kernels between pods."""
    image_pull_secret: str = ""
    """Secret for the registry of a sidecar's image, such as NVIDIA's."""
    grace_s: float = Field(default=25.0, ge=0)
    """Time that calls in flight have to finish when a pod is taken away (SIGTERM), and at the end
    of a failed step or a run."""
    isolate_tests: bool = False
    """Whether pods that run a repository's tests get no token and the label `nemoflows/tests`, by
    which `examples/test_pods.yaml` closes their network."""

    @property
    def on_gpu_pods(self) -> list[str]:
        """Return the names of what is set and reaches pods with a GPU alone."""
        return sorted(self.model_dump(exclude_defaults=True, exclude={"grace_s", "isolate_tests"}))


class Hardware(Value):
    """What the efficient tier's model runs on where it runs in the task: wishes and placement."""

    precision: Literal["", "bf16", "fp8", "nvfp4", "mxfp4", "gguf"] = ""
    """Precision of its weights, where the model's name does not say it."""
    concurrent: int = Field(default=32, gt=0)
    """Sequences at once that the GPU is planned for."""
    context_tokens: int = Field(default=32_768, gt=0)
    """Context of one sequence that the GPU is planned for."""
    weights: str = ""
    """Where weights lie other than on the hub: a path on the mounted volume, `s3://`, `gs://`."""
    server: SidecarKind = "vllm"
    """The server that the endpoint `sidecar` is: it runs in the task's pod."""
    engine_arguments: dict[str, Any] = Field(default_factory=dict)
    """Engine arguments of vLLM; they beat the library's own."""
    pod: Pod = Field(default_factory=Pod)
    """Placement of pods with a GPU."""
    image: str = ""
    """Image of tasks with a GPU, or of the server beside them."""
    tests_image: str = ""
    """Image of tasks that run a repository's tests: it has what the tests need, pytest and git."""

    @field_validator("engine_arguments")
    @classmethod
    def _holds_no_key(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, given in _texts(value):
            if re.search(r"token$|key$|secret|password", name, re.IGNORECASE):
                raise ValueError(
                    f"{name} may hold a key, and engine arguments are packaged in clear: set "
                    "HF_TOKEN or the like as a secret"
                )
            if "://" in given and secret_in(given):
                raise ValueError(f"the address in {name} must hold no user, password or query")
        return value

    @field_validator("weights")
    @classmethod
    def _holds_no_secret(cls, value: str) -> str:
        return without_secret(value)


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text anywhere in a JSON value, with the name it has."""
    if isinstance(value, str):
        yield name, value
    for inner in value.items() if isinstance(value, dict) else ():
        yield from _texts(inner[1], str(inner[0]))
    for one in value if isinstance(value, list) else ():
        yield from _texts(one, name)


def without_secret(value: str) -> str:
    """Return an address as it is.

    Raises:
        ValueError: It holds a user, a password or a query.
    """
    if any("://" in url and secret_in(url) for url in _chained(value)):
        raise ValueError(
            "an address must hold no user, password or query: stores read their credentials "
            "from their own variables"
        )
    return value


def _chained(value: str) -> list[str]:
    """Return the addresses in one of fsspec's, which may stand one behind the other by `::`."""
    return re.split(r"::(?=[A-Za-z][\w+.-]*://)", value)
