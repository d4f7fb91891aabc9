"""Turn one file into documents: decoded text and the headings above each part of it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from nemoflows.errors import CorpusError
from nemoflows.search import outlines
from nemoflows.search.chunks import Section

VERSION = 2
"""Raised whenever the same file would give another text or other headings."""

MAX_TEXT_BYTES = 64 * 2**20
"""A longer text, HTML or PDF file is skipped: no person wrote it and it would fill the memory."""

MAX_TABLE_BYTES = 256 * 2**20
"""The same for a table, whose rows are documents of their own."""

MAX_ROWS = 2**20
"""Of one table: each is a document, with some kilobytes of memory while its file is read."""

_MAX_TABLE_CHARS = 2**28

_TABLES = frozenset({".parquet", ".jsonl", ".ndjson", ".csv", ".tsv"})
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"(?:charset|coding|encoding)\s*[=:]\s*[\"']?([A-Za-z0-9][\w.-]*)")


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the corpus; offsets anywhere are characters of `text`."""

    name: str
    text: str
    sections: Sequence[Section] = ()


def limit_bytes(name: str) -> int:
    """Return the length from which on a file of that name is skipped."""
    return MAX_TABLE_BYTES if is_table(name) else MAX_TEXT_BYTES


def is_table(name: str) -> bool:
    """Tell whether the rows of a file of that name are documents of their own."""
    return _suffix(name) in _TABLES


def documents(name: str, data: bytes) -> Iterable[Document]:
    """Return the documents in a file: one, or one per row of a table.

    Raises:
        CorpusError: The file is binary, broken, encrypted or in an unknown encoding.
    """
    suffix = _suffix(name)
    if suffix in _TABLES:
        from nemoflows.search import tables

        text = None if suffix == ".parquet" else decode(data)
        return [
            Document(f"{name}#{number}", _clean(body), [Section(0, _clean(title))] if title else ())
            for number, (title, body) in enumerate(_bounded(tables.rows(suffix, data, text)))
        ]
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        from nemoflows.search import markup

        return [_document(name, *markup.pdf(data))]
    text = decode(data)
    if suffix in {".html", ".htm", ".xhtml"}:
        from nemoflows.search import markup

        return [_document(name, *markup.html(text))]
    if suffix == ".ipynb":
        from nemoflows.search import notebooks

        return [_document(name, *notebooks.notebook(text.removeprefix("\ufeff")))]
    return [Document(name, text, _OUTLINES.get(suffix, outlines.none)(text, name))]


def _bounded(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Pass rows on while they fit in memory: a few bytes of a table may stand for many rows."""
    length = 0
    for number, (title, body) in enumerate(rows):
        length += len(title) + len(body) + _MAX_TABLE_CHARS // MAX_ROWS
        if length > _MAX_TABLE_CHARS:
            raise CorpusError(
                f"a table of more than {number:,} rows with {_MAX_TABLE_CHARS:,} characters; "
                f"split it (limits: {MAX_ROWS:,} rows, fewer where they are long)"
            )
        yield title, body


def decode(data: bytes) -> str:
    r"""Return the text of `data`: UTF-8, else what its byte order mark or its head declares.

    Line ends stay as they are, and a UTF-8 byte order mark stays a character, so that offsets
    are those of `open(path, encoding="utf-8", newline="").read()`.

    Raises:
        CorpusError: Binary, or in an encoding that nothing declares.
    """
    for encoding in ("utf-8", *_declared(data)):
        try:
            text = data.decode(encoding)
        except (UnicodeError, LookupError, ValueError):
            continue
        at = text.find("\0")
        if at >= 0:
            raise CorpusError(f"binary: a NUL character at {at}")
        return _clean(text)
    raise CorpusError("binary, or text that is not UTF-8 and declares no other encoding")


def _declared(data: bytes) -> list[str]:
    marks = [encoding for mark, encoding in _BOMS if data.startswith(mark)]
    found = _DECLARED.search(data, 0, 2048)
    return [*marks, *([found[1].decode()] if found else [])][:1]


def _document(name: str, text: str, sections: Sequence[Section]) -> Document:
    return Document(name, _clean(text), sections)


def _clean(text: str) -> str:
    """Return `text` as it can be stored; a lone surrogate becomes one other character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


_OUTLINES: dict[str, Callable[[str, str], list[Section]]] = {
    ".md": outlines.markdown,
    ".markdown": outlines.markdown,
    ".mdx": outlines.markdown,
    ".rst": outlines.underlined,
    ".txt": outlines.underlined,
    "": outlines.underlined,
    ".py": outlines.python,
    ".pyi": outlines.python,
}
