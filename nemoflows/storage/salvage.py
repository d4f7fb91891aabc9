"""What is left in a damaged SQLite file of a journal: rows, read page by page, without its trees.

Source: sqlite.org/fileformat2.html: the database header (1.3), leaf pages and their cells (1.6),
records (2.1), the log (4). A row that was replaced may come back beside the one that replaced it,
so that whoever takes rows must know a whole one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nemoflows.storage.database import PAGE_BYTES

_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 13, 10, 2
_SIZES = {2**n for n in range(9, 17)}
_LOG_HEAD, _FRAME_HEAD = 32, 24
_FIXED = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
"""Bytes of a value by its serial type, below 12."""
Row = list[int | bytes | None]


def files_in(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of what was written whole, and of lines, in no certain order."""
    pages = _Pages(path)
    names: dict[int, str] = {}
    for number, row in pages.rows({_TABLE_LEAF}):
        match row:
            case [None, bytes(name), bytes(data)]:
                yield name.decode("utf-8", "replace"), data
            case [None, bytes(name)]:
                names[number] = name.decode("utf-8", "replace")
    for _, row in pages.rows({_INDEX_LEAF, _INDEX_INTERIOR}):
        match row:
            case [int(segment), int(_), bytes(data)] if segment in names:
                yield names[segment], data


class _Pages:
    """The pages of a file, with those that its log holds and has not moved into it."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        head = self._file.read(100)
        size = int.from_bytes(head[16:18], "big") if len(head) > 18 else 0
        self._size = (
            {1: 2**16}.get(size, size) if {1: 2**16}.get(size, size) in _SIZES else PAGE_BYTES
        )
        self._n = path.stat().st_size // self._size
        self._log = Path(f"{path}-wal")
        self._frames: dict[int, int] = {}
        if self._log.exists():
            self._find_frames()

    def rows(self, kinds: set[int]) -> Iterator[tuple[int, Row]]:
        """Yield the rows of all pages of some kinds with their numbers; what is no row is left."""
        for number in range(1, max([self._n, *self._frames]) + 1):
            page = self._page(number)
            start = 100 if number == 1 else 0
            if len(page) < self._size or page[start] not in kinds:
                continue
            begin = start + (12 if page[start] == _INDEX_INTERIOR else 8)
            n_cells = min(int.from_bytes(page[start + 3 : start + 5], "big"), self._size // 4)
            for cell in range(n_cells):
                at = int.from_bytes(page[begin + 2 * cell : begin + 2 * cell + 2], "big")
                try:
                    yield self._row(page, page[start], at)
                except (IndexError, ValueError, struct.error):
                    continue

    def _find_frames(self) -> None:
        with self._log.open("rb") as log:
            salt = log.read(_LOG_HEAD)[16:24]
            at = _LOG_HEAD
            while len(head := log.read(_FRAME_HEAD)) == _FRAME_HEAD and head[8:16] == salt:
                self._frames[int.from_bytes(head[:4], "big")] = at + _FRAME_HEAD
                at += _FRAME_HEAD + self._size
                log.seek(at)

    def _page(self, number: int) -> bytes:
        if number in self._frames:
            with self._log.open("rb") as log:
                log.seek(self._frames[number])
                return log.read(self._size)
        self._file.seek((number - 1) * self._size)
        return self._file.read(self._size)

    def _row(self, page: bytes, kind: int, at: int) -> tuple[int, Row]:
        at += 4 if kind == _INDEX_INTERIOR else 0
        length, at = _varint(page, at)
        number, at = _varint(page, at) if kind == _TABLE_LEAF else (0, at)
        return number, _values(self._payload(page, kind, length, at))

    def _payload(self, page: bytes, kind: int, length: int, at: int) -> bytes:
        most = self._size - 35 if kind == _TABLE_LEAF else (self._size - 12) * 64 // 255 - 23
        if length <= most:
            return page[at : at + length]
        if length > 2**31:
            raise ValueError
        least = (self._size - 12) * 32 // 255 - 23
        here = least + (length - least) % (self._size - 4)
        here = here if here <= most else least
        data = bytearray(page[at : at + here])
        following, seen = int.from_bytes(page[at + here : at + here + 4], "big"), set[int]()
        while following and len(data) < length and following not in seen:
            seen.add(following)
            more = self._page(following)
            following = int.from_bytes(more[:4], "big")
            data += more[4:]
        return bytes(data[:length])


def _values(payload: bytes) -> Row:
    head, at = _varint(payload, 0)
    kinds, values, data = [], Row(), head
    while at < head:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    for kind in kinds:
        n_bytes = (kind - 12) // 2 if kind >= 12 else _FIXED[kind]
        part, data = payload[data : data + n_bytes], data + n_bytes
        if len(part) < n_bytes:
            raise ValueError
        if kind >= 12:
            values.append(part)
        else:
            told = {0: None, 8: 0, 9: 1}
            values.append(told[kind] if kind in told else int.from_bytes(part, "big", signed=True))
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for step in range(8):
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | data[at + 8], at + 9
