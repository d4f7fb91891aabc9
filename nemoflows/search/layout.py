"""Which segments an index consists of, and which of their passages count.

Files that are new go to a segment of their own, together with the segments that are smaller: one
is written anew where it has at most twice as many files as all smaller ones and the new files
together, unless it is full. So there are about log3(files) segments besides full ones, and a file
that came is written anew that often at most, over all builds to come. A segment of which at least
half the files are gone is written anew too. Nothing else is: adding one file costs that file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemoflows.search import lexical, segments
from nemoflows.search.merge import merge
from nemoflows.storage import integrity
from nemoflows.storage.blobs import offsets_path
from nemoflows.storage.store import Store

FOLDER = "indexes"
RANKS, COPIES = "ranks", "copies"

SETTINGS = f"{segments.FORMAT}/{lexical.K1}/{lexical.B}"
"""What decides an index besides its fragments and its embedder."""
GROWTH = 2

Progress = Callable[[str, int, int], None]
"""Called with the stage (read, embed, merge), what is done and what there is to do."""


def address(embedder: str, keys: Sequence[str]) -> str:
    """Return the name of an index, or of a segment, of these fragments."""
    said = hashlib.sha256("\n".join((SETTINGS, embedder)).encode())
    for key in keys:
        said.update(f"\n{key}".encode())
    return said.hexdigest()


@dataclass(frozen=True, slots=True)
class Known:
    """A segment that is there whole."""

    name: str
    keys: Sequence[str]
    """Of the fragments that it was made of."""
    is_full: bool


def kept(base: Sequence[Known], keys: Sequence[str]) -> tuple[list[Known], list[str]]:
    """Return the segments that stay as they are, and the keys of what is to be written."""
    left = dict.fromkeys(keys)
    sizes: list[tuple[int, Known, list[str]]] = []
    for segment in base:
        live = [key for key in segment.keys if key in left]
        for key in live:
            del left[key]
        sizes.append((len(live), segment, live))
    staying, total = [], len(left)
    for n_live, segment, live in sorted(sizes, key=lambda size: (size[0], size[1].name)):
        small = not segment.is_full and n_live <= GROWTH * total
        if small or 2 * n_live <= len(segment.keys):
            left.update(dict.fromkeys(live))
            total += n_live
        else:
            staying.append(segment)
    return staying, [key for key in keys if key in left]


def written(
    store: Store,
    keys: Sequence[str],
    embedder: str,
    known: Callable[[str], Known | None],
    report: Progress,
) -> Iterator[Known]:
    """Write fragments as segments, as many as they fill, and yield them.

    One that is there is not made again.

    Raises:
        Damaged: A fragment is not what was written.
    """
    done = 0
    while done < len(keys):
        # How many of the keys a segment takes follows from them: they can name it before.
        name, start = address(embedder, keys[done:]), done
        if found := known(name):
            store.touch(f"{segments.FOLDER}/{name}/{segments.MANIFEST}")
            done += len(found.keys)
        else:
            for _ in merge(store, name, keys[done:], embedder):
                done += 1
                report("merge", done, len(keys))
        yield Known(name, keys[start:done], is_full=done < len(keys))


@dataclass(slots=True)
class Sums:
    """What an index knows of its segments together."""

    ranks: list[NDArray[np.int32]] = field(default_factory=list)
    """By segment and file: the place of its name among all; -1 where the file is gone."""
    copies: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    """Places of passages with the same text: the first one's, another's; see `place`."""
    totals: dict[str, int] = field(default_factory=dict)


def place(segment: int, rows: Any) -> Any:
    """Return numbers that name passages by segment and row."""
    return (segment << 40) + rows


def summed(parts: Sequence[tuple[Path, Sequence[str]]], keys: Sequence[str]) -> Sums:
    """Look through segments that hold these fragments.

    Args:
        parts: The segments' small files, and the keys of their fragments.
        keys: In the order of the files' names.
    """
    sums, left = Sums(), {key: rank for rank, key in enumerate(keys)}
    totals = np.zeros(4, np.int64)
    rows: list[NDArray[np.int64]] = []
    for number, (folder, own) in enumerate(parts):
        files, passages = (segments.array(folder / n) for n in (segments.FILES, segments.ROWS))
        ranks = np.array([left.pop(key, -1) for key in own], np.int32)
        sums.ranks.append(ranks)
        live, per_file = ranks >= 0, np.diff(files[:, :2], axis=0)
        starts = segments.array(offsets_path(folder / segments.DOCUMENTS))[:, 0]
        n_bytes = np.diff(starts[files[:, 0]])
        by_row = np.repeat(live, per_file[:, 1])
        totals += [*per_file[live].sum(axis=0), passages[by_row, 2].sum(), n_bytes[live].sum()]
        table = np.empty((int(by_row.sum()), 5), np.int64)
        table[:, :3] = passages[by_row]
        table[:, 3] = np.repeat(ranks, per_file[:, 1])[by_row]
        table[:, 4] = place(number, np.flatnonzero(by_row))
        rows.append(table)
    table = np.concatenate(rows)
    sums.copies, n_terms = _copies(table)
    names = ("n_documents", "n_passages", "n_terms", "n_bytes")
    sums.totals = dict(
        zip(names, (totals - [0, len(sums.copies), n_terms, 0]).tolist(), strict=True)
    )
    return sums


def _copies(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the places of equal texts, the first of each beside the others; their terms."""
    first_half = np.sort(rows[:, 0])
    twice = np.unique(first_half[1:][first_half[1:] == first_half[:-1]])
    rows = rows[np.isin(rows[:, 0], twice)]
    rows = rows[np.lexsort((rows[:, 4], rows[:, 3], rows[:, 1], rows[:, 0]))]
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:, :2] != rows[:-1, :2]).any(axis=1)
    first = rows[np.flatnonzero(new)][np.cumsum(new) - 1, 4] if len(rows) else rows[:, 4]
    copies = np.stack([first, rows[:, 4]], axis=1)[~new]
    # By the first one's place; those of one text stay in the order of the files.
    return copies[np.argsort(copies[:, 0], kind="stable")], int(rows[~new, 2].sum())


def write(
    store: Store, folder: str, embedder: str, names: Sequence[str], sums: Sums
) -> dict[str, Any]:
    """Write an index of these segments, its manifest last; return that.

    Raises:
        Damaged: A segment is gone since.
    """
    parts = [segments.read_manifest(store, f"{segments.FOLDER}/{name}") for name in names]
    with store.folder(folder, last=segments.MANIFEST) as work:
        _save(work, RANKS, np.concatenate(sums.ranks))
        _save(work, COPIES, sums.copies)
        manifest = {
            "format": segments.FORMAT,
            "corpus_hash": folder.rpartition("/")[2],
            "embedder": embedder,
            "n_dimensions": parts[0]["n_dimensions"],
            **sums.totals,
            "segments": list(names),
            "files": integrity.sums(work),
        }
        (work / segments.MANIFEST).write_bytes(segments.with_checksum(manifest))
    return manifest


def _save(work: Path, kind: str, array: NDArray[Any]) -> None:
    """Write an array under a name that its content decides: builds at once write no mixture."""
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
    np.save(work / f"{kind}-{digest}.npy", array)
