"""Snapshots of a repository, addressed by their content."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pydantic import Field, field_validator

from nemoflows.coding.git_address import is_address, read_address
from nemoflows.coding.types import Repository
from nemoflows.errors import BadInput
from nemoflows.sandbox import trees
from nemoflows.sandbox.archives import COMMIT, ENDINGS, Unpacked, unpack
from nemoflows.sandbox.buckets import read_bucket
from nemoflows.sandbox.copies import folders_of
from nemoflows.sandbox.listing import NO_FILE, OWN_REPOSITORY, Listing, is_plain
from nemoflows.sandbox.trees import Tree
from nemoflows.storage.filesystem import filesystem, local_path
from nemoflows.storage.opening import open_store
from nemoflows.storage.store import translated
from nemoflows.types import Value

MAX_DEPTH = 16
"""Of repositories within repositories."""
MAX_LEFT_OUT = 100
"""Files that are told to be left out."""
_ABOUT = "nemoflows.about"
"""Head of an archive of ours, with what is known of its files."""


def snapshot(repo: str, *, root: str, key: str = "", offline: bool = False) -> Repository:
    """Keep a repository's files as they are now, addressed by their content.

    Args:
        repo: A folder or an archive, on a disk or in a bucket, or a git address with a commit.
        root: Where they are kept.
        key: What opens the git address.
        offline: Whether a git address must be of this machine.

    Raises:
        BadInput: The repository is missing, empty or too large, or has code that Python runs at its
            start.
        EndpointDown: The server at the git address does not answer.
    """
    found = _read(repo, key=key, offline=offline)
    tree = found.tree
    _refuse_start_up(tree)
    if not tree.files:
        raise BadInput(f"The repository {found.about.name!r} holds no files. Nothing was run.")
    own = found.about.model_dump(exclude={"name", "left_out"})
    kept = keep(tree, name=found.about.name, root=root, left_out=found.about.left_out)
    return kept.model_copy(update=own | {"origin": found.origin, "source": found.source})


def packed(repo: str) -> tuple[str, bytes]:
    """Return a folder or an archive of this machine as it travels: a name and an archive.

    It holds what a snapshot would, and says what a snapshot would say of it.

    Raises:
        BadInput: As `snapshot` does.
    """
    found = _read(repo)
    _refuse_start_up(found.tree)
    about = {_ABOUT: found.about.model_dump_json()}
    name = re.sub(r"[^\w.-]+", "-", found.about.name, flags=re.ASCII).strip("-.") or "repository"
    return f"{name}.tar.gz", gzip.compress(found.tree.archive(about), mtime=0)


class _About(Value):
    """What is known of a repository's files besides themselves."""

    name: str = Field(max_length=255)
    prefix: str = ""
    commit: str = Field(default="", pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$")
    left_out: list[str] = Field(default_factory=list, max_length=MAX_LEFT_OUT)

    @field_validator("prefix")
    @classmethod
    def _is_below(cls, value: str) -> str:
        if value and not (value.endswith("/") and is_plain(value[:-1])):
            raise ValueError("it names no folder below")
        return value


class _Reading(NamedTuple):
    tree: Tree
    about: _About
    origin: str = ""
    source: str = ""


def _read(repo: str, *, key: str = "", offline: bool = False) -> _Reading:
    if is_address(repo):
        address = read_address(repo, offline=offline)
        from nemoflows.coding.git_fetch import fetch

        fetched = fetch(address, key=key)
        about = _about(address.name, fetched.left_out, commit=address.commit)
        return _Reading(fetched.tree, about, source=address.url)
    folder = local_path(repo)
    if repo.lower().endswith(ENDINGS) and not (folder and folder.is_dir()):
        return _of_archive(repo)
    if folder is None:
        return _laid_out(read_bucket(repo), repo.rstrip("/").rpartition("/")[2], repo)
    folder = folder.resolve()
    tree, left_out = _whole(folder)
    listing = Listing(folder)
    base = listing.base  # git reads diffs from the checkout's top
    prefix = f"{base}/" if base else ""
    about = _about(folder.name, left_out, commit=listing.commit(), prefix=prefix)
    return _Reading(tree, about, origin=str(folder))


def _about(name: str, left_out: Sequence[str], **more: str) -> _About:
    told = [one.encode("utf-8", "replace").decode() for one in left_out[:MAX_LEFT_OUT]]
    return _About(name=name[:255], left_out=told, **more)


def _of_archive(uri: str) -> _Reading:
    """Read an archive as the folder that it holds would be, or as `packed` made it."""
    found = unpack(_bytes_at(uri))
    name = re.sub(
        r"(\.tar|\.tar\.gz|\.tgz|\.zip)$", "", uri.rpartition("/")[2], flags=re.IGNORECASE
    )
    if _ABOUT in found.about:
        try:
            about = _About.model_validate_json(found.about[_ABOUT])
        except ValueError:
            raise BadInput(f"The archive {uri!r} says of itself what cannot be.") from None
        return _Reading(found.tree, about, source=uri)
    return _laid_out(found, name, uri)


def _laid_out(found: Unpacked, name: str, uri: str) -> _Reading:
    """Read what came from elsewhere as the folder that it was; its ignore rules are obeyed."""
    comment = found.about.get("comment", "")
    commit = comment if COMMIT.fullmatch(comment) else ""
    with TemporaryDirectory(prefix="nemoflows-archive-") as place:
        top = Path(place).resolve()
        try:
            found.tree.write(top)
        except (OSError, ValueError) as error:
            raise BadInput(f"The repository {uri!r} cannot be laid out: {error}.") from error
        folder = _only_folder(top)
        _make_checkout(folder)
        tree, left_out = _whole(folder)
        commit = commit or Listing(folder).commit()
    about = _about(name, [*found.left_out, *left_out], commit=commit)
    return _Reading(tree, about, source=uri)


def _only_folder(top: Path) -> Path:
    """Return the folder that an archive puts all else into; the top where there is none."""
    entries = list(top.iterdir())
    is_one = len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink()
    return entries[0] if is_one and not (entries[0] / "__init__.py").exists() else top


def _make_checkout(folder: Path) -> None:
    """Have the ignore rules of a folder obeyed, whose archive came without git's own files."""
    git = folder / ".git"
    if not git.is_dir():
        git.unlink(missing_ok=True)  # a file of that name leads elsewhere
    if not (git / "HEAD").is_file() and (folder / ".gitignore").is_file():
        git.mkdir(exist_ok=True)
        (git / "HEAD").touch()


def _bytes_at(uri: str) -> bytes:
    """Return a file's bytes, of which there may be no more than a repository may have.

    Raises:
        BadInput: It is not there, or is too long.
    """
    with translated(f"The archive {uri!r} cannot be read"):
        files, path = filesystem(str(local_path(uri) or uri), bulk=True)
        with files.open(path, "rb") as file:
            data: bytes = file.read(trees.MAX_BYTES + 1)
    trees.refuse_large(0, len(data))
    return data


def _refuse_start_up(tree: Tree) -> None:
    """Refuse what an interpreter runs before the sandbox is there, where it finds the repository.

    Raises:
        BadInput: There is a module that Python's `site` imports by itself.
    """
    names = {"sitecustomize", "usercustomize"}
    found = [p for p in tree.files if {part.partition(".")[0] for part in p.split("/")} & names]
    if found:
        raise BadInput(
            f"The repository has {found[0]}, which Python runs whenever it starts, before the "
            "sandbox is there. Take it out for this run. Nothing was run."
        )


def _whole(folder: Path, depth: int = 0) -> tuple[Tree, list[str]]:
    """Read a folder with its submodules, and the links that stay inside."""
    tree, reasons = trees.read(folder)
    files, executable, links = dict(tree.files), set(tree.executable), dict[str, str]()
    left_out, maybe_links = [], []
    for entry in reasons:
        path = entry.removesuffix(f": {OWN_REPOSITORY}").removesuffix(f": {NO_FILE}")
        place = folder / path
        if entry.endswith(f": {OWN_REPOSITORY}") and depth < MAX_DEPTH:
            below, more = _whole(place, depth + 1)
            files |= {f"{path}/{name}": data for name, data in below.files.items()}
            executable |= {f"{path}/{name}" for name in below.executable}
            links |= {f"{path}/{name}": target for name, target in below.links.items()}
            left_out += [f"{path}/{each}" for each in more]
        elif entry.endswith(f": {NO_FILE}") and place.is_symlink():
            maybe_links.append(path)
        elif entry.endswith(f": {NO_FILE}") and place.is_dir():
            left_out.append(f"{path}: a submodule that is not there (git submodule update --init)")
        else:  # with a link on its way, which leads anywhere
            left_out.append(entry)
    known = {*files, *folders_of(files)}
    for path in maybe_links:
        links |= (kept := _link(folder.resolve(), path, known))
        left_out += [] if kept else [f"{path}: a link that leads to nothing in the copy"]
    trees.refuse_large(len(files), sum(map(len, files.values())))
    return Tree(files, frozenset(executable), links), left_out


def _link(folder: Path, path: str, known: Collection[str]) -> dict[str, str]:
    """Return a link with where it leads, if that is in the copy."""
    place = folder / path
    try:
        inside = place.resolve(strict=True).relative_to(folder).as_posix()
    except (OSError, RuntimeError, ValueError):
        return {}
    return {path: os.path.relpath(folder / inside, place.parent)} if inside in known else {}


def keep(tree: Tree, *, name: str, root: str, left_out: Sequence[str] = ()) -> Repository:
    """Keep a tree below `root`, once."""
    store, archive = open_store(root), f"trees/{tree.hash}.tar"
    if store.read(archive) is None:
        store.write(archive, tree.archive())
    return Repository(
        uri=f"{root.rstrip('/')}/{archive}",
        name=name,
        tree=tree.hash,
        n_files=len(tree.files),
        left_out=[*left_out],
    )


def with_tree(repository: Repository, tree: Tree) -> Repository:
    """Keep another tree of a repository beside its snapshot."""
    root = repository.uri.rpartition("/trees/")[0]
    kept = keep(tree, name=repository.name, root=root)
    update = {"uri": kept.uri, "tree": kept.tree, "n_files": kept.n_files}
    return repository.model_copy(update=update)


def opened(repository: Repository) -> Tree:
    """Return a snapshot's tree.

    Raises:
        BadInput: The archive is gone, or not what was kept.
    """
    root, _, name = repository.uri.rpartition("/trees/")
    data = open_store(root).read(f"trees/{name}")
    if data is None:
        raise BadInput(f"The snapshot {repository.uri} is gone; take it again.")
    try:
        tree = unpack(data).tree
    except BadInput:
        tree = Tree({})
    if tree.hash != repository.tree:
        raise BadInput(
            f"The snapshot {repository.uri} is damaged: its files are not those that were kept. "
            "Remove it and take it again."
        )
    return tree
