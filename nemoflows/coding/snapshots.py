"""Snapshots of a repository, addressed by their content."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

from nemoflows.coding.types import Repository
from nemoflows.errors import BadInput
from nemoflows.sandbox import trees
from nemoflows.sandbox.trees import Tree
from nemoflows.storage.store import open_store


def snapshot(repo: str, *, root: str) -> Repository:
    """Keep a repository's files as they are now, addressed by their content.

    Raises:
        BadInput: The folder is missing, empty or too large.
    """
    folder = Path(repo).expanduser()
    tree, left_out = trees.read(folder)
    return keep(tree, name=folder.resolve().name, root=root, left_out=left_out)


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
