"""A tree laid out in a folder once, and from run to run no more than what differs.

What a run may have done to the copy is found by what it cannot forge: a file is as it was laid out
where its number, its length, its mode and the time of its last change are. So a run costs a look at
each file and a write of those that differ, whatever its level.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from nemoflows.sandbox.inside import clearing
from nemoflows.sandbox.trees import Tree

Mark = tuple[int, int, int, int, int]


class Copy:
    """A folder that holds one tree after another."""

    def __init__(self, folder: Path) -> None:
        """Take an empty folder of its own."""
        self._folder = folder
        self._tree = Tree({})
        self._marks: dict[str, Mark] = {}

    def show(self, tree: Tree, *, writable: Collection[str] = (), read_only: bool = False) -> None:
        """Make the folder hold a tree and nothing else.

        Args:
            tree: What it is to hold.
            writable: Files that anybody may write.
            read_only: Whether not even their owner may write the others.

        Raises:
            OSError: There is no room; what is there then is nobody's.
        """
        try:
            self._forget_changed()
        except OSError:  # what a run left cannot even be looked at
            clearing.clear(str(self._folder))
            self._folder.chmod(0o755)
            self._marks.clear()
        kept = {path for path in self._marks if self._is_same(path, tree)}
        for path in self._marks.keys() - kept:
            self._remove(path)
        tree.write(self._folder, but=kept, writable=writable, read_only=read_only)
        for path in tree.files.keys() - kept:
            self._marks[path] = _mark((self._folder / path).lstat())
        self._tree = tree

    def _is_same(self, path: str, tree: Tree) -> bool:
        data, before = tree.files.get(path), self._tree.files.get(path)
        same = data is before or data == before
        return same and (path in tree.executable) == (path in self._tree.executable)

    def _remove(self, path: str) -> None:
        (self._folder / path).unlink()
        del self._marks[path]
        with suppress(OSError):  # the first that is not empty
            for parent in (self._folder / path).parents:
                if parent == self._folder:
                    break
                parent.rmdir()

    def _forget_changed(self) -> None:
        """Remove what was not laid out, and what is no longer as it was."""
        known = folders_of(self._marks)
        found, folders = set(), [""]
        if self._folder.is_symlink():
            raise NotADirectoryError(self._folder)
        while folders:
            folder = folders.pop()
            with os.scandir(self._folder / folder) as entries:
                for entry in list(entries):
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        if path in known and stat.S_IMODE(status.st_mode) & 0o700 == 0o700:
                            folders.append(path)
                        else:
                            clearing.remove(entry.path)
                    elif self._marks.get(path) == _mark(status):
                        found.add(path)
                    else:
                        Path(entry.path).unlink()
        for path in self._marks.keys() - found:
            del self._marks[path]


def folders_of(paths: Iterable[str]) -> set[str]:
    """Return the folders that files lie in, and those above them."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _mark(status: os.stat_result) -> Mark:
    return status.st_ino, status.st_ctime_ns, status.st_size, status.st_mode, status.st_uid
