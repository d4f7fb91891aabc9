"""Snapshots of a repository, addressed by their content."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Collection, Sequence
from pathlib import Path

from nemoflows.coding.types import Repository
from nemoflows.errors import BadInput
from nemoflows.sandbox import trees
from nemoflows.sandbox.copies import folders_of
from nemoflows.sandbox.listing import NO_FILE, OWN_REPOSITORY, Listing
from nemoflows.sandbox.trees import Tree
from nemoflows.storage.store import open_store

MAX_DEPTH = 16
"""Of repositories within repositories."""


def snapshot(repo: str, *, root: str) -> Repository:
    """Keep a repository's files as they are now, addressed by their content.

    Raises:
        BadInput: The folder is missing, empty or too large, or has code that Python runs at its
            start.
    """
    folder = Path(repo).expanduser()
    tree, left_out = _whole(folder)
    _refuse_start_up(tree)
    kept = keep(tree, name=folder.resolve().name, root=root, left_out=left_out)
    base = Listing(folder.resolve()).base  # git reads diffs from the checkout's top
    update = {"origin": str(folder.resolve()), "prefix": f"{base}/" if base else ""}
    return kept.model_copy(update=update)


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
        left_out=[each.encode("utf-8", "replace").decode() for each in left_out[:100]],
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
        tree = trees.from_archive(data)
    except tarfile.TarError:
        tree = Tree({})
    if tree.hash != repository.tree:
        raise BadInput(
            f"The snapshot {repository.uri} is damaged: its files are not those that were kept. "
            "Remove it and take it again."
        )
    return tree
