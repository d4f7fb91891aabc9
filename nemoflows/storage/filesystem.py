"""Where a URI leads: to a local path, or to a file system of fsspec's; and what it raises."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nemoflows.storage.patience import PatientFiles

HOME = ".nemoflows"
"""The folder in a user's home that everything lies in by default."""


def local_path(uri: str) -> Path | None:
    """Return the path that a URI without a scheme, or a `file://` one, names; None if remote."""
    scheme, found, path = uri.partition("://")
    if found and scheme not in {"file", "local"}:
        return None
    expanded = os.path.expanduser(path if found else uri)  # noqa: PTH111  (Path raises at ~nobody)
    return Path(expanded).absolute()


Options = Callable[[str], dict[str, Any]]
"""Returns the options of fsspec's file system for a scheme; empty for fsspec's own defaults."""

_S3 = ("FLYTE_AWS_ACCESS_KEY_ID", "FLYTE_AWS_SECRET_ACCESS_KEY", "FLYTE_AWS_ENDPOINT")
_CONFIG = ("_FLYTECTL_CONFIG_PYFLYTE_OVERRIDE", "FLYTECTL_CONFIG")
"""Variables with the path of Flyte's configuration. Source: flytekit 1.16."""
_S3FS = {"s3", "s3a"}
_SAME = {"s3a": "s3", "gcs": "gs", "az": "abfs"}
"""Other spellings of a scheme that Flyte knows options for."""


def options_of_pod(scheme: str) -> dict[str, Any]:
    """Return what a pod's own variables say of a scheme: the sandbox's MinIO, and its like."""
    key, secret, endpoint = (os.environ.get(name, "") for name in _S3)
    found: dict[str, Any] = {"key": key, "secret": secret} if key else {}
    found |= {"client_kwargs": {"endpoint_url": endpoint}} if endpoint else {}
    return found if scheme == "s3" else {}


_options: list[Options] = [options_of_pod]


def open_with(options: Options) -> None:
    """Have every store of the process opened as Flyte opens its own."""
    _options[0] = options


def filesystem(uri: str, *, bulk: bool = False) -> tuple[Any, str]:
    """Return the fsspec file system of a URI and the path in it; no other function makes one.

    Args:
        uri: A path or an fsspec URL.
        bulk: The files are long: S3 is asked for parts of one at the same time. That takes a look
            at its length first, which small records are better off without.
    """
    import fsspec

    schemes = re.findall(r"(?:^|::)([\w+.-]+)://", uri)
    given = {scheme: _options_of(scheme, bulk=bulk) for scheme in schemes}
    if len(schemes) != 1 or "::" in uri:
        chained, path = fsspec.core.url_to_fs(uri, **given)
        return (PatientFiles(chained, _server(uri)) if schemes else chained), path
    kind, options = _class_of(schemes[0]), given[schemes[0]]
    # As fsspec's own `url_to_fs`, which would take the class that is registered.
    files = kind(**{**kind._get_kwargs_from_urls(uri), **options})  # noqa: SLF001
    return PatientFiles(files, _server(uri)), kind._strip_protocol(uri)  # noqa: SLF001


def _server(uri: str) -> str:
    """Return what texts call a store: its scheme and its bucket."""
    return "/".join(uri.split("/", 3)[:3])


def _options_of(scheme: str, *, bulk: bool) -> dict[str, Any]:
    options = dict(_options[0](_SAME.get(scheme, scheme)))
    # Flyte's own wish, for buckets of other regions: a request more, and a right more to have.
    options.pop("cache_regions", None)
    return options | ({"max_concurrency": 1} if scheme in _S3FS and not bulk else {})


def _class_of(scheme: str) -> Any:
    """Return the file system's class; of S3 the one that takes our options.

    Flyte 2 registers another one for `s3`, which its own uploads need.
    """
    import fsspec

    if scheme not in _S3FS:
        return fsspec.get_filesystem_class(scheme)
    from s3fs import S3FileSystem

    return S3FileSystem


def credentials(error: BaseException) -> str:
    """Return which credentials were looked for and where, for a store's refusal; empty if none.

    Only names are told, never a value.
    """
    packages, cause = set(), error
    while cause is not None:
        packages.add(type(cause).__module__.partition(".")[0])
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    flyte = next((os.environ[name] for name in _CONFIG if os.environ.get(name)), "")
    flyte = f"Flyte's configuration ({flyte or 'FLYTECTL_CONFIG is not set'})"
    for needed, names, then in _LOOKED_FOR:
        if packages & needed:
            return f"Credentials were looked for in {_told(*names)}; in {flyte}; then {then}."
    return ""


_LOOKED_FOR = (
    (
        {"botocore", "aiobotocore"},
        (*_S3, "AWS_ACCESS_KEY_ID", "AWS_PROFILE"),
        "as AWS does, in ~/.aws and the role of the pod's service account",
    ),
    (
        {"gcsfs", "google"},
        ("GOOGLE_APPLICATION_CREDENTIALS",),
        "as Google does, in gcloud's login and the pod's service account",
    ),
    (
        {"azure", "adlfs"},
        ("FLYTE_AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_NAME"),
        "as Azure does, with the pod's workload identity",
    ),
)
"""Packages that a store's error comes from, variables that were looked at, and what came after."""


def _told(*names: str) -> str:
    return ", ".join(f"{one} ({'set' if os.environ.get(one) else 'not set'})" for one in names)


def close_to_others(path: Path) -> None:
    """Close the home folder to others where an earlier version left it open."""
    home = next((each for each in (path, *path.parents) if each.name == HOME), None)
    with suppress(OSError):
        if home is not None and home.stat().st_mode & 0o077:
            home.chmod(0o700)


_NETWORKS = (
    "nfs", "cifs", "smb", "fuse", "9p", "lustre", "ceph", "afs", "auristorfs", "beegfs", "gpfs",
    "mmfs", "gfs2", "ocfs2", "orangefs", "pvfs2", "panfs", "glusterfs", "virtiofs", "vboxsf",
    "prl_fs", "vmhgfs", "ncp", "coda", "davfs", "acfs", "wekafs", "juicefs",
)  # fmt: skip
"""How kinds of file systems begin that several machines may share, or that no kernel's locks hold
on. Source: Linux' Documentation/filesystems, and the vendors' own mounts."""


def network_of(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the kind of network file system that a path lies on; empty where it is none.

    Source: proc(5), mountinfo. Where there is no such file (macOS) every path counts as a disk's.
    """
    where, longest, kind = f"{os.path.realpath(path)}/", -1, ""
    with suppress(OSError):
        for line in mounts.read_text("utf-8", "surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            place = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before.split()[4])
            if where.startswith(f"{place.rstrip('/')}/") and len(place) >= longest:
                longest, kind = len(place), after.split()[0]
    return kind if kind.startswith(_NETWORKS) else ""
