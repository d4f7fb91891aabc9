"""Where things are and how fast they may go: environment variables `NEMOFLOWS_*`, nothing else.

What changes an answer is a task's input and never read from here. The three defaults
`NEMOFLOWS_EFFICIENT`, `NEMOFLOWS_FRONTIER` and `NEMOFLOWS_EMBEDDER` set what the inputs
`tiers` and `embedder` are when nobody gives them, and which tasks get a GPU.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import pwd
import re
import sys
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nemoflows.errors import BadInput, BadModel
from nemoflows.models import (
    BASE_URL_ENV,
    BUILT_IN,
    DEFAULT_URL,
    IN_PROCESS,
    REMOTE,
    SIDECARS,
    Endpoint,
    SidecarKind,
    secret_in,
)
from nemoflows.types import ModelRef, Tiers, Value


class Pod(Value):
    """Where pods with a GPU run, and what is mounted into them; how alone tests are."""

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
    isolate_tests: bool = False
    """Whether pods that run a repository's tests get no token and the label `nemoflows/tests`, by
    which `examples/test_pods.yaml` closes their network."""


class Settings(BaseSettings):
    """The environment's part of a run; frozen, built once per process by `load`."""

    model_config = SettingsConfigDict(
        env_prefix="NEMOFLOWS_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    efficient: str = "embedded"
    """Default model of the efficient tier, as `endpoint:name`."""
    frontier: str = "embedded"
    """Default model of the frontier tier."""
    embedder: str = ""
    """Default embedding model; empty leaves the search lexical."""
    endpoints: dict[str, Endpoint] = Field(default_factory=dict)
    """Own endpoints, as JSON: name → what `nemoflows.models.Endpoint` holds."""
    journal: str = ""
    """Root of the journal, a path or an fsspec URL; `off` turns it off."""
    index: str = ""
    """Root of the indexes, a path or an fsspec URL."""
    reports: str = ""
    """Folder of the pages that local runs write."""
    run: str = ""
    """Id of the run; by default a pod's execution, else a hash of the command."""
    offline: bool = False
    """Refuse every address but loopback."""
    concurrency: int = Field(default=64, gt=0)
    """Calls in flight at once, per process."""
    deadline_s: float = Field(default=600.0, gt=0)
    """Total time one call may take, retries included."""
    grace_s: float = Field(default=25.0, ge=0)
    """Time that calls in flight have to finish when a pod is taken away (SIGTERM)."""
    vllm: dict[str, Any] = Field(default_factory=dict)
    """Engine arguments of vLLM in process, as JSON; they beat the library's own."""
    gpu: str = ""
    """GPU of the efficient tier, with its number where it must be that: `h100`, `h100x4`."""
    precision: Literal["", "bf16", "fp8", "nvfp4", "mxfp4", "gguf"] = ""
    """Precision of its weights, where the model's name does not say it."""
    agents: int = Field(default=32, gt=0)
    """Agents at once that the GPU is planned for."""
    context_tokens: int = Field(default=32_768, gt=0)
    """Context of one agent that the GPU is planned for."""
    weights: str = ""
    """Where weights lie other than on the hub: a path on the mounted volume, `s3://`, `gs://`."""
    sidecar: SidecarKind = "vllm"
    """The server that the endpoint `sidecar` is: it runs in the task's pod."""
    pod: Pod = Field(default_factory=Pod)
    """Placement of pods with a GPU, as JSON: what `Pod` holds."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Flyte secrets by the variable they are put into, as JSON: name → `group/key`."""
    registry: str = ""
    """Registry that images are built for and pushed to when a workflow is registered."""
    gpu_image: str = ""
    """Image of tasks with a GPU, or of the sidecar."""

    @field_validator("efficient", "frontier", "embedder")
    @classmethod
    def _is_a_model(cls, value: str) -> str:
        try:
            return value and str(ModelRef.model_validate(value))
        except ValueError:  # whose text quotes the value, which may be a key in the wrong place
            raise ValueError("no model is spelled like that: write endpoint:name") from None

    @field_validator("secrets")
    @classmethod
    def _name_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        for name, place in value.items():
            if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) or place.count("/") != 1:
                raise ValueError("secrets are named, never given: variable → group/key")
        return value

    @field_validator("run")
    @classmethod
    def _stays_below_its_root(cls, value: str) -> str:
        if value.startswith(("/", "\\")) or ".." in value.replace("\\", "/").split("/"):
            raise ValueError("an id of a run is no path that leads elsewhere: leave out / and ..")
        return value

    @field_validator("vllm")
    @classmethod
    def _holds_no_key(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, given in value.items():
            if not isinstance(given, str):
                continue
            if re.search(r"token$|key$|secret|password", name):
                raise ValueError(
                    f"{name} may hold a key, and engine arguments are packaged in clear: set "
                    "HF_TOKEN or the like as a secret"
                )
            if "://" in given and secret_in(given):
                raise ValueError(f"the address in {name} must hold no user, password or query")
        return value

    @field_validator("journal", "index", "reports", "weights")
    @classmethod
    def _holds_no_secret(cls, value: str) -> str:
        if any("://" in url and secret_in(url) for url in _chained(value)):
            raise ValueError(
                "an address must hold no user, password or query: stores read their credentials "
                "from their own variables"
            )
        return value

    def tiers(self) -> Tiers:
        """Return the default of the input `tiers`."""
        return Tiers(
            efficient=ModelRef.model_validate(self.efficient),
            frontier=ModelRef.model_validate(self.frontier),
        )

    def priced(self, model: ModelRef) -> Endpoint:
        """Return the endpoint of `model` for its prices alone; of an unknown one, without any."""
        known = {**BUILT_IN, **self.endpoints}
        return known.get(model.endpoint) or Endpoint(dialect="compatible")

    def endpoint(self, model: ModelRef) -> Endpoint:
        """Return the endpoint of `model`, with the SDK's own address where it has one.

        Raises:
            BadModel: Nobody declared the endpoint, or the address is refused when offline.
        """
        known = {**BUILT_IN, **self.endpoints}
        found = known.get(model.endpoint)
        if found is None:
            raise BadModel(
                f"No endpoint is called {model.endpoint!r} (asked for by {str(model)!r}). Known: "
                f"{', '.join(sorted(known))}. Declare more in NEMOFLOWS_ENDPOINTS."
            )
        if self.is_sidecar(model):
            return SIDECARS[self.sidecar]
        if model.endpoint not in self.endpoints and not found.base_url:
            name = BASE_URL_ENV.get(model.endpoint, "")
            url = os.environ.get(name, "")
            if secret_in(url):
                raise BadModel(
                    f"{name} holds user info or a query: keys belong in {found.key_env}."
                )
            found = found.model_copy(update={"base_url": url})
        if not found.base_url and found.dialect in DEFAULT_URL:
            found = found.model_copy(update={"base_url": DEFAULT_URL[found.dialect]})
        if not found.base_url and found.dialect == "compatible":
            raise BadModel(
                f"The endpoint {model.endpoint!r} has the dialect `compatible` and no base_url: "
                "say in NEMOFLOWS_ENDPOINTS where it is. No call was made."
            )
        self._refuse_when_offline(model, found)
        return found

    def is_sidecar(self, model: ModelRef) -> bool:
        """Return whether `model` runs on a server in the task's own pod."""
        return model.endpoint == "sidecar" and "sidecar" not in self.endpoints

    def needs_gpu(self, model: ModelRef) -> bool:
        """Return whether `model` runs inside the task's process; an unknown one does not."""
        found = {**BUILT_IN, **self.endpoints}.get(model.endpoint)
        return found is not None and found.dialect in IN_PROCESS

    def runs_in_task(self, model: ModelRef) -> bool:
        """Return whether `model` runs where the task does: in its process or in its pod."""
        return self.needs_gpu(model) or self.is_sidecar(model)

    def _refuse_when_offline(self, model: ModelRef, endpoint: Endpoint) -> None:
        remote = endpoint.dialect in REMOTE
        if self.offline and remote and not is_loopback(endpoint.base_url):
            raise BadModel(
                f"{str(model)!r} is at {endpoint.base_url or 'its public address'}, and "
                "NEMOFLOWS_OFFLINE=1 allows loopback addresses only. Unset it, or name a local one."
            )


def load() -> Settings:
    """Read the environment.

    Raises:
        BadInput: A variable cannot be read; the message names it, never its value.
    """
    try:
        return Settings()
    except (ValidationError, ValueError) as error:
        raise BadInput(
            f"The environment's NEMOFLOWS_* settings: {_without_values(error)}"
        ) from None


def _chained(value: str) -> list[str]:
    """Return the addresses in one of fsspec's, which may stand one behind the other by `::`."""
    return re.split(r"::(?=[A-Za-z][\w+.-]*://)", value)


def _without_values(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        named = re.search(r'field "(\w+)"', str(error))
        return f"NEMOFLOWS_{named[1].upper()} is not valid JSON" if named else "unreadable"
    return "; ".join(
        f"NEMOFLOWS_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()
    )


def home() -> Path:
    """Return the user's home folder, also where HOME is unset or empty."""
    return Path(os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)


def is_loopback(url: str) -> bool:
    """Return whether `url` points to this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def reports_folder(settings: Settings | None = None) -> Path:
    """Return the folder of the pages that this machine writes."""
    named = (settings or load()).reports
    return Path(named or home() / ".nemoflows" / "reports").expanduser()


def command_id() -> str:
    """Return an id of the running command, the same whenever it is started again."""
    words = "\0".join([Path(sys.argv[0]).name, *sys.argv[1:], str(Path.cwd())])
    return "local-" + hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:12]
