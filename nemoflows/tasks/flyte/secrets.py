"""Keys as Flyte secrets: named when a task is declared, found when it runs."""

from __future__ import annotations

import os
from collections.abc import Iterable

import flytekit
from flytekit import Secret

from nemoflows.errors import BadModel
from nemoflows.settings import Settings, in_pod
from nemoflows.tasks.flyte.places import namespace

GROUP = "nemoflows"
"""Group of every secret that NEMOFLOWS_SECRETS does not place: a Kubernetes secret's name."""

FOR_WEIGHTS = ("HF_TOKEN", "NGC_API_KEY")
"""Keys that a task with a GPU may hold, where NEMOFLOWS_SECRETS names them: for its weights."""


def place(name: str, settings: Settings) -> tuple[str, str]:
    """Return the group and the key of the secret behind a variable."""
    group, _, key = settings.secrets.get(name, f"{GROUP}/{name}").partition("/")
    return group, key


def requests(names: Iterable[str], settings: Settings) -> list[Secret]:
    """Return what a task asks of Flyte to have these variables set."""
    return [
        Secret(group=group, key=key, env_var=name, mount_requirement=Secret.MountType.ENV_VAR)
        for name in dict.fromkeys(names)
        for group, key in [place(name, settings)]
    ]


def provide(name: str, settings: Settings) -> None:
    """Set a key's variable from the secret, where it is not set yet and the secret is there.

    Flyte sets it in pods; flytekit 1.16 does not in local runs, and older clusters leave the
    secret under a name of their own.

    Raises:
        BadModel: In a pod: the secret is not there.
    """
    if not name or os.environ.get(name):
        return
    group, key = place(name, settings)
    try:
        os.environ[name] = flytekit.current_context().secrets.get(group, key)
    except ValueError:
        if in_pod():  # elsewhere the engine says which variable it misses
            raise BadModel(
                f"The key {name} is not in this pod: the secret {group!r} of the namespace "
                f"{namespace()!r} has no key {key!r}, or the task was registered without it. "
                f"`kubectl create secret generic {group} -n {namespace()} --from-literal={key}=…` "
                "puts it there; NEMOFLOWS_SECRETS names another one. No call was made."
            ) from None
