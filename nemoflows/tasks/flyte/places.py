"""Where pods put what they share: below the raw-output prefix of their project and domain.

Flyte 1 gives each attempt PREFIX/<two letters>/<execution>-<node>-<attempt>, with a hash in its
place where that would be long; Flyte 2 PREFIX/<two letters>/<project>/<domain>/<run>/<action>/
<attempt>, which flytekit does not know. Source: seen on both, August 2026.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from pathlib import Path

from flytekit import FlyteContextManager

from nemoflows.errors import BadInput, NemoflowsError
from nemoflows.settings import in_pod
from nemoflows.storage.filesystem import local_path
from nemoflows.storage.objects import ObjectStore
from nemoflows.storage.opening import open_store

IMAGE = "FLYTE_INTERNAL_IMAGE"
"""Variable with a pod's image, as flytekit reads it; our tasks set it."""
_HOME = ("PROJECT", "DOMAIN")
_SHARD = "[0-9a-z]{2}"


def namespace() -> str:
    """Return the Kubernetes namespace of a pod, as Flyte names it unless it is told otherwise."""
    return "-".join(os.environ.get(f"FLYTE_INTERNAL_EXECUTION_{one}", "") for one in _HOME)


def where_and_what_next() -> str:
    """Return what a person must know to mend what failed in a pod; empty elsewhere."""
    if not in_pod():
        return ""
    project, domain, execution = (
        os.environ.get(f"FLYTE_INTERNAL_EXECUTION_{name}", "") for name in (*_HOME, "ID")
    )
    image = os.environ.get(IMAGE, "")
    return (
        f" (A pod{f' of the image {image}' if image else ''} in the namespace {namespace()}. Once "
        f"that is mended, `pyflyte execution -p {project} -d {domain} --execution-id {execution} "
        "recover` goes on from here, and what is recorded is not paid again.)"
    )


def refuse_laptops_path(path: str, name: str) -> None:
    """Refuse a path that is not in this pod: it can only be one of somebody's own machine.

    Raises:
        BadInput: There is no such file or folder here.
    """
    found = local_path(path)
    if in_pod() and found is not None and not found.exists():
        raise BadInput(no_travel(path, name))


def no_travel(path: str, name: str) -> str:
    """Return the sentence that helps whoever gives a path of their own machine to a pod."""
    other = (
        "Give a git address with a commit (https://HOST/PATH.git@COMMIT), an archive or a folder "
        "in a bucket (s3://BUCKET/x.tar.gz, s3://BUCKET/x)"
        if name == "repo"
        else f"Put it into a bucket that they read (`aws s3 cp --recursive {path} s3://BUCKET/…`)"
    )
    return (
        f"{name}={path!r} is a path of your own machine, which pods do not have. {other} or what "
        "lies on a volume that is mounted there; `pyflyte run --remote` of the library's own "
        "workflows uploads a folder that is there. No call was made."
    )


def shared_prefix() -> str:
    """Return where the pods of a project and domain share things."""
    project, domain, execution = (
        os.environ.get(f"FLYTE_INTERNAL_EXECUTION_{name}", "")
        for name in ("PROJECT", "DOMAIN", "ID")
    )
    raw = _raw_data_path()
    own = f"{project}/{domain}" if raw else execution
    raw = raw or str(FlyteContextManager.current_context().file_access.raw_output_prefix)
    scheme, found, rest = raw.partition("://")
    if not found or scheme == "file":
        return str(Path(rest or raw) / "nemoflows")
    return f"{scheme}://{_configured(rest.strip('/'), own)}/nemoflows/{project}/{domain}"


def older_journal(shared: str) -> str:
    """Return where earlier versions recorded calls, if any are there: at the bucket's root."""
    bucket = shared.partition("://")[2].partition("/")[0]
    older = f"{shared.partition('://')[0]}://{bucket}/nemoflows/journal"
    try:
        store = open_store(older)
        return older if isinstance(store, ObjectStore) and store.has("calls") else ""
    except NemoflowsError:  # it may not be read, or the store is away, which is told elsewhere
        return ""


def _raw_data_path() -> str:
    """Return what Flyte 2 puts into a pod's command alone; empty in a pod of Flyte 1."""
    words = sys.argv if "_U_RUN_BASE" in os.environ else []
    return dict(itertools.pairwise(words)).get("--raw-data-path", "")


def _configured(path: str, own: str) -> str:
    """Return what was configured of a pod's prefix: what stands before its shard.

    Args:
        own: What the part after the shard begins with, unless that is a hash.
    """
    named = (
        re.match(rf"(.+?)(?:/{_SHARD})?/{re.escape(own)}(?:[-/]|$)", f"{path}/") if own else None
    )
    hashed = re.match(rf"(.+)/{_SHARD}/[^/]+$", path)
    found = named or hashed
    # What every attempt has in common, whatever stands behind it.
    return found[1] if found else path.partition("/")[0]
