"""What registering ships, and what its version stands for.

Pods run the image's nemoflows, whole. A package of code lies before it on a pod's path, so no part
of the library may be in one: half of it would hide the whole. And the version that pyflyte computes
is of that package alone; admin refuses a task of one version with another structure, so that it
must stand for the library's code and for how its tasks are bound, too.

Source: flytekit 1.16's `script_mode.ls_files` and `FlyteRemote._version_from_hash`, which have no
hook of their own.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flytekit.core.node import Node
from flytekit.models.literals import Literal
from flytekit.remote.remote import FlyteRemote
from flytekit.tools import script_mode

from nemoflows.coding.git_address import is_address, read_address
from nemoflows.errors import BadInput
from nemoflows.search.corpus import scan
from nemoflows.storage.filesystem import local_path
from nemoflows.tasks.flyte.binding import digests
from nemoflows.tasks.flyte.places import no_travel
from nemoflows.tasks.flyte.pods import CACHE
from nemoflows.types import Setting

log = logging.getLogger("nemoflows")
PACKAGE = Path(__file__).parents[2]


@functools.cache
def mend_registration() -> None:
    """Have pyflyte and FlyteRemote of this process ship and name what pods run."""
    for name in ("list_imported_modules_as_files", "list_all_files"):
        setattr(script_mode, name, _without_library(getattr(script_mode, name)))
    upstream = Node.upstream_nodes.fget
    # flytekit lists a set of objects: another order in each process is another structure to admin.
    Node.upstream_nodes = property(lambda node: sorted(upstream(node), key=lambda one: one.id))
    own = FlyteRemote._version_from_hash  # noqa: SLF001  (as the module says)
    FlyteRemote._version_from_hash = staticmethod(_of_all(own))  # noqa: SLF001
    FlyteRemote.execute = _with_what_travels(FlyteRemote.execute)


def _without_library(listed: Callable[..., list[str]]) -> Callable[..., list[str]]:
    @functools.wraps(listed)
    def files(*args: Any, **kwargs: Any) -> list[str]:
        return [one for one in listed(*args, **kwargs) if PACKAGE not in Path(one).parents]

    return files


def _of_all(version_from_hash: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(version_from_hash)
    def version(md5: bytes, settings: Any, inputs: Any = None, *context: str) -> str:
        if isinstance(inputs, dict):
            # Pickled, a set of names has another order in each process.
            inputs = {k: str(v) if isinstance(v, Setting) else v for k, v in inputs.items()}
        return version_from_hash(md5, settings, inputs, *context, code_digest(), *digests())

    return version


def _with_what_travels(execute: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(execute)
    def start(remote: Any, entity: Any, inputs: Any = None, *args: Any, **more: Any) -> Any:
        inputs, name = dict(inputs or {}), getattr(getattr(entity, "id", entity), "name", "")
        is_ours = str(name).startswith(("nemoflows.", "workflows."))
        for name in {"corpus", "repo"} & set(inputs) if is_ours else ():
            if path := _on_this_machine(inputs[name], name):
                inputs[name] = _uploaded(path, name, remote)
        return execute(remote, entity, inputs, *args, **more)

    return start


def _on_this_machine(given: object, name: str) -> Path | None:
    """Return a local path that is there, unless it is of a volume that pods mount.

    Raises:
        BadInput: It is not there, and spelled as no path of a pod is; or a git address that no pod
            would take.
    """
    if isinstance(given, Literal):  # what a command line was read into
        primitive = given.scalar.primitive if given.scalar else None
        given = primitive.string_value if primitive else None
    if not isinstance(given, str) or given.startswith(f"{CACHE}/"):
        return None
    if name == "repo" and is_address(given):
        read_address(given)
        return None
    path = local_path(given)
    if path is None or path.exists():
        return path
    if given.startswith("/"):  # it may be in an image
        return None
    raise BadInput(f"{name}={given!r}: there is no {str(path)!r} to upload. Nothing was started.")


def _uploaded(path: Path, name: str, remote: Any) -> str:
    """Return where what a pod is to read lies in Flyte's own store, an address by its content.

    flytekit's own upload of a folder drops the names of the folders in it.

    Raises:
        BadInput: Flyte's store does not keep names below a folder; or there is nothing to read.
    """
    with TemporaryDirectory() as folder:
        if name == "repo":
            from nemoflows.coding.snapshots import packed

            archive, data = packed(str(path))
            Path(folder, archive).write_bytes(data)
            files = {archive: str(Path(folder, archive))}
        else:  # what an index would read: no hidden files, no links out
            files = {one.name: one.path for one in scan(str(path)).files}
        place = _put(files, Path(folder), remote)
    if not place:
        raise BadInput(no_travel(str(path), name))
    log.info("%s: %d files of %s are in %s", name, len(files), path, place)
    return f"{place}/{archive}" if name == "repo" else place


def _put(files: Mapping[str, str], folder: Path, remote: Any) -> str:
    """Return the address below which files lie by their names; empty if they do not."""
    words = [
        f"{name}\0{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
        for name, path in files.items()
    ]
    root, places = hashlib.sha256("\n".join(words).encode()).hexdigest()[:32], set()
    for number, (whole, path) in enumerate(files.items()):
        parent, _, name = whole.rpartition("/")
        copy = Path(folder, str(number), name)  # upload_file wants to write to what it reads
        copy.parent.mkdir()
        shutil.copyfile(path, copy)
        _, uri = remote.upload_file(copy, filename_root=f"{root}/{parent}".rstrip("/"))
        places.add(str(uri).removesuffix(f"/{whole}"))
    return places.pop() if len(places) == 1 else ""


@functools.cache
def code_digest() -> str:
    """Return a digest of the library's own files, the same for a checkout and its wheel."""
    content = hashlib.sha256()
    for path in _files(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        content.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return content.hexdigest()


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(one for one in paths if one.is_file() and "__pycache__" not in one.parts)
