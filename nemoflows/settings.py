"""Where things are and how fast they may go: environment variables `NEMOFLOWS_*`, nothing else.

What changes an answer is a task's input: `NEMOFLOWS_POLICY`, `NEMOFLOWS_EFFICIENT` and
`NEMOFLOWS_FRONTIER` only set what the input `policy` is when nobody gives it, and with that which
tasks get a GPU.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import pwd
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
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
    secret_in,
)
from nemoflows.models.hardware import Hardware, without_secret
from nemoflows.types import ModelRef, Policy, Setting

S = TypeVar("S", bound=Setting)
PREFIX = "NEMOFLOWS_"
EAGER_ROOT = "_F_EE_ROOT"
"""Variable with the execution of the eager task that started this one. Source: flytekit 1.16."""
NO_PATH = "an id of a run is no path that leads elsewhere: leave out / and .."


class Settings(BaseSettings):
    """The environment's part of a run; frozen, built once per process by `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    policy: str = ""
    """Default of the input `policy`: JSON, YAML or the path of such a file."""
    efficient: str = ""
    """Model of the efficient tier in that default, as `endpoint:name`."""
    frontier: str = ""
    """Model of the frontier tier in that default."""
    endpoints: dict[str, Endpoint] = Field(default_factory=dict)
    """Own endpoints, as JSON: name → what `nemoflows.models.Endpoint` holds."""
    journal: str = ""
    """Root of the journal, a path or an fsspec URL; `off` turns it off."""
    home: str = ""
    """Where all else lies, the journal too unless it has its own: a path or an fsspec URL; by
    default ~/.nemoflows, in a pod per project and domain below Flyte's raw output prefix."""
    run: str = ""
    """Id of the run; by default a pod's execution, else a hash of the command."""
    offline: bool = False
    """Refuse every address but loopback."""
    concurrency: int = Field(default=64, gt=0)
    """Calls in flight at once, per process."""
    deadline_s: float = Field(default=600.0, gt=0)
    """Total time one call may take, retries included."""
    gpu: str = ""
    """GPU of the efficient tier, with its number where it must be that: `h100`, `h100x4`."""
    hardware: Hardware = Field(default_factory=Hardware)
    """What else its model runs on, as JSON: what `Hardware` holds."""
    tests_image: str = ""
    """Image of tasks that run tests, before the one in `hardware`: it has pytest and git."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Flyte secrets by the variable they are put into, as JSON: name → `group/key`."""
    registry: str = ""
    """Registry that images are built for and pushed to at registration."""

    @field_validator("efficient", "frontier")
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
        if leads_elsewhere(value):
            raise ValueError(NO_PATH)
        return value

    @field_validator("journal", "home")
    @classmethod
    def _holds_no_secret(cls, value: str) -> str:
        return without_secret(value)

    def default_policy(self) -> Policy:
        """Return the default of the input `policy`.

        Raises:
            BadInput: NEMOFLOWS_POLICY cannot be read.
        """
        named = {"efficient": self.efficient, "frontier": self.frontier}
        models = {tier: ModelRef.model_validate(name) for tier, name in named.items() if name}
        return read_setting(Policy, self.policy, Policy()).model_copy(update=models)

    def priced(self, model: ModelRef) -> Endpoint:
        """Return the endpoint of `model` for its prices alone; of an unknown one, without any."""
        return self._known(model) or Endpoint(dialect="compatible")

    def _known(self, model: ModelRef) -> Endpoint | None:
        return self.endpoints.get(model.endpoint) or BUILT_IN.get(model.endpoint)

    def endpoint(self, model: ModelRef) -> Endpoint:
        """Return the endpoint of `model`, with the SDK's own address where it has one.

        Raises:
            BadModel: Nobody declared the endpoint, or the address is refused when offline.
        """
        found = self._known(model)
        if found is None:
            known = {**BUILT_IN, **self.endpoints}
            raise BadModel(
                f"No endpoint is called {model.endpoint!r} (asked for by {str(model)!r}). Known: "
                f"{', '.join(sorted(known))}. Declare more in NEMOFLOWS_ENDPOINTS."
            )
        if self.is_sidecar(model):
            return SIDECARS[self.hardware.server]
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
        return self._known(model) is BUILT_IN["sidecar"]

    def needs_gpu(self, model: ModelRef) -> bool:
        """Return whether `model` runs inside the task's process; an unknown one does not."""
        found = self._known(model)
        return found is not None and found.dialect in IN_PROCESS

    def embeds_here(self, model: ModelRef) -> bool:
        """Return whether the vectors of `model` are made inside the task's process."""
        found = self._known(model)
        return found is not None and found.dialect == "dense"

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
    return _loaded(variables())


def variables() -> tuple[tuple[str, str], ...]:
    """Return the environment's variables that are settings."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(PREFIX)))


@lru_cache(maxsize=8)
def _loaded(state: tuple[tuple[str, str], ...]) -> Settings:
    """Read the environment; once for each state of it, for every task asks."""
    del state
    try:
        return Settings()
    except (ValidationError, ValueError) as error:
        raise BadInput(
            f"The environment's NEMOFLOWS_* settings: {_without_values(error)}"
        ) from None


def read_setting(kind: type[S], text: str, default: S) -> S:
    """Return settings from JSON, YAML or the name of such a file; what is left out is `default`'s.

    Raises:
        BadInput: The text is none of them, or holds what the settings do not have.
    """
    name = kind.__name__.lower()
    try:
        given = _mapping(text, name)
        return kind.model_validate({**dict(default), **given})
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or name}: {_said(e)}" for e in error.errors()
        )
        raise BadInput(
            f"The {name} cannot be used: {wrong}. It has {', '.join(kind.model_fields)}. No call "
            "was made."
        ) from None


def _said(error: ErrorDetails) -> str:
    """Return what is wrong without the value, which may be a key in the wrong place."""
    return error["msg"].removeprefix("Value error, ").replace(repr(error["input"]), "the value")


def _mapping(text: str, name: str) -> dict[str, Any]:
    stripped = text.strip()
    if re.fullmatch(r"[^\n{}]*\.(ya?ml|json)", stripped):
        try:
            stripped = Path(stripped).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise BadInput(
                f"The {name} is said to be in the file {stripped!r}, and that cannot be read here "
                f"({error.strerror}). A pod has no files of yours: give the text itself. No call "
                "was made."
            ) from None
    given = _parsed(stripped) if stripped else {}
    if not isinstance(given, dict):
        raise BadInput(
            f"The {name} is not JSON or YAML with names and values, nor a file that ends in .yaml, "
            ".yml or .json. No call was made."
        )
    return given


def _parsed(text: str) -> Any:
    """Return what JSON or YAML says, None where it is neither; YAML does not read every JSON."""
    import yaml

    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


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
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def home_root(settings: Settings | None = None) -> str:
    """Return where indexes, reports and the journal of this machine lie."""
    named = (settings or load()).home
    return named if "://" in named else str(Path(named or home() / ".nemoflows").expanduser())


def reports_folder(settings: Settings | None = None) -> Path:
    """Return the folder of the reports that this machine writes: always on its own disk."""
    root = home_root(settings)
    return (home() / ".nemoflows" if "://" in root else Path(root)) / "reports"


def in_pod() -> bool:
    """Return whether Flyte started this process."""
    return bool(os.environ.get("FLYTE_INTERNAL_EXECUTION_ID"))


def leads_elsewhere(run: str) -> bool:
    """Return whether the id of a run would be a path out of the journal's folders."""
    return run.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", run)


def run_id(settings: Settings, run: str = "") -> str:
    """Return the id of the run: as it is named, else a pod's execution, else the command's.

    Args:
        run: The name, where a program gives it.

    Raises:
        BadInput: The name leads out of the journal's folders.
    """
    if leads_elsewhere(run):
        raise BadInput(f"run={run!r}: {NO_PATH}. No call was made.")
    names = ("PROJECT", "DOMAIN", "ID")
    parts = [os.environ.get(f"FLYTE_INTERNAL_EXECUTION_{name}", "") for name in names]
    # What an eager task starts are executions of their own, and of one run with it.
    parts[2] = os.environ.get(EAGER_ROOT) or parts[2]
    return run or settings.run or ("/".join(parts) if in_pod() else command_id())


def command_id() -> str:
    """Return an id of the running command, the same whenever it is started again."""
    words = "\0".join([Path(sys.argv[0]).name, *sys.argv[1:], str(Path.cwd())])
    return "local-" + hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()[:12]
