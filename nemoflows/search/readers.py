"""Turn one file into documents: decoded text and the headings above each part of it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from nemoflows.errors import CorpusError
from nemoflows.search import outlines
from nemoflows.search.chunks import Section

VERSION = 8
"""Raised whenever the same file would give another text or other headings."""

MAX_TEXT_BYTES = 64 * 2**20
"""A longer text, HTML or PDF file is skipped: no person wrote it and it would fill the memory."""

MAX_TABLE_BYTES = 256 * 2**20
"""The same for a table, whose rows are documents of their own."""

MAX_ROWS = 2**20
"""Of one table: each is a document, with some kilobytes of memory while its file is read."""

_MAX_TABLE_CHARS = 2**28

MAX_NOTES = 20
"""Of lines of one table that were left out."""

Note = Callable[[str], None]

_OFFICE = frozenset({".docx", ".pptx", ".xlsx"})
_HTML = frozenset({".html", ".htm", ".xhtml", ".svg"})
_JSON = frozenset({".json", ".geojson", ".jsonld"})
_XML = frozenset({".xml", ".rss", ".atom", ".kml", ".gpx", ".plist"})
_FOLDED = frozenset({".ics", ".ifb", ".vcf", ".vcard"})
_FOLD = re.compile(rb"\r?\n[ \t]")
"""In a line that goes on, at times within a character. Source: RFC 5545, 3.1; RFC 6350, 3.2."""
_TABLES = frozenset({".parquet", ".jsonl", ".ndjson", ".csv", ".tsv"})
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = (
    re.compile(rb"\s*<\?xml[^>]*?\bencoding\s*=\s*[\"']([\w.-]+)"),
    re.compile(rb"\s*@charset\s*[\"']([\w.-]+)"),
    re.compile(
        rb"(?:[^\n]*\n)?[ \t\f]*(?:#|//|/\*|;|%|\"|\.\.|--|<!--)[^\n]*?coding[:=][ \t]*([\w.-]+)"
    ),
    re.compile(
        rb"(?:[\w-]+:[^\n]*\n(?:[ \t][^\n]*\n)*)*?content-type:[^\n]*charset=\"?([\w.-]+)",
        re.IGNORECASE,
    ),
)
"""Where a file's beginning declares its encoding: XML, style sheets, a comment in one of the first
two lines (PEP 263), the head of a mail. Elsewhere the same words are prose."""
_DECLARED_HTML = re.compile(rb"<meta\b[^>]*?\bcharset\s*=\s*[\"']?([\w.-]+)", re.IGNORECASE)
_HEAD_BYTES = 2048
_ASCII = bytes(set(range(32, 127)) - set(b"\\~"))
"""But for two letters of which some encodings made other signs."""
_MEANT = {
    "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949",
}  # fmt: skip
"""What is written under an older name. Source: WHATWG, Encoding Standard, labels."""
_LEAST_WIDE, _NULS = 4, 0.5
"""Least characters of a text in UTF-16 without a mark, and share of them that have a NUL."""
_ESCAPED = re.compile(r"[\udc80-\udcff]")
_NO_TEXT = re.compile(r"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f\x80-\x9f]")
_BEYOND_ASCII = 0.3
"""Most characters beyond ASCII in a text that is believed to be of a Latin script."""


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
    return suffix_of(name) in _TABLES


def documents(name: str, data: bytes, note: Note = lambda _: None) -> Iterable[Document]:
    """Return the documents in a file: one, or one per row of a table.

    Args:
        note: Told what of the file was left out, and what had to be guessed.

    Raises:
        CorpusError: The file is binary, broken, encrypted or in an unknown encoding.
    """
    suffix = suffix_of(name)
    if suffix in _TABLES:
        return _rows(name, suffix, data, note)
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        from nemoflows.search import pdf

        return [_document(name, *pdf.read(data))]
    if suffix in _OFFICE or suffix == ".eml":
        from nemoflows.search import mail, office

        read = mail.mail(data, decode) if suffix == ".eml" else office.read(suffix, data, note)
        return [_document(name, *read)]
    text = decode(_FOLD.sub(b"", data) if suffix in _FOLDED else data, name, note)
    if suffix in _HTML:
        from nemoflows.search import markup

        return [_document(name, *markup.html(text))]
    if suffix == ".ipynb":
        from nemoflows.search import notebooks

        return [_document(name, *notebooks.notebook(text.removeprefix("\ufeff"), note))]
    return [_nested(name, suffix, text) if suffix in _JSON | _XML else _outlined(name, text)]


def _nested(name: str, suffix: str, text: str) -> Document:
    from nemoflows.search import nested

    read = nested.json_text(text) if suffix in _JSON else nested.xml_text(text)
    return _document(name, *read) if read else _outlined(name, text)


def _outlined(name: str, text: str) -> Document:
    return Document(name, text, _OUTLINES.get(suffix_of(name), outlines.none)(text, name))


def _rows(name: str, suffix: str, data: bytes, note: Note) -> list[Document]:
    from nemoflows.search import tables

    text = None if suffix == ".parquet" else decode(data, name, note)
    skipped: list[str] = []
    found = [
        Document(f"{name}#{number}", _clean(body), [Section(0, _clean(title))] if title else ())
        for number, (title, body) in enumerate(
            _bounded(tables.rows(suffix, data, text, skipped.append))
        )
    ]
    if skipped and not found:
        raise CorpusError(f"a broken table: {skipped[0]}")
    for reason in skipped[:MAX_NOTES]:
        note(reason)
    if len(skipped) > MAX_NOTES:
        note(f"and {len(skipped) - MAX_NOTES:,} more lines")
    return found


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


def decode(data: bytes, name: str = "", note: Note = lambda _: None) -> str:
    r"""Return the text of `data`: UTF-8, else what its byte order mark or its head declares.

    What declares nothing, or something that its bytes are not, is read as windows-1252 where it
    then reads as a text of a Latin script. Line ends stay as they are, and a UTF-8 byte order mark
    stays a character, so that offsets are those of
    `open(path, encoding="utf-8", newline="").read()`.

    Args:
        note: Told how a file was read that does not say how.

    Raises:
        CorpusError: Binary, or in an encoding that nothing declares.
    """
    mark = next((encoding for mark, encoding in _BOMS if data.startswith(mark)), _wide(data))
    declared = "" if mark else _declared(data, name)
    for encoding in filter(None, (mark, "utf-8", declared, "cp1252", "latin-1")):
        if encoding == "cp1252" and (mended := _mended(data)):
            note("some of its bytes are no UTF-8: these are read as cp1252")
            return _clean(mended)
        try:
            text = data.decode(encoding)
        except (UnicodeError, LookupError, ValueError):
            continue
        at = text.find("\0")
        if at >= 0:
            raise CorpusError(f"binary: a NUL character at {at}")
        if encoding in {mark, "utf-8", declared}:
            return _clean(text)
        if _is_latin(text):
            said = f"declares {declared}, which its bytes are not" if declared else "declares none"
            note(f"its encoding is not UTF-8, and it {said}: read as {encoding}")
            return _clean(text)
    raise CorpusError("binary, or text that is not UTF-8 and declares no other encoding")


def _wide(data: bytes) -> str:
    """Return UTF-16 where a text has no mark of it, but every other byte is NUL, as in Latin."""
    n = len(data[:_HEAD_BYTES]) // 2
    high, low = (data[place:_HEAD_BYTES:2].count(0) for place in (0, 1))
    if n < _LEAST_WIDE or high + low < _NULS * n or (high and low):
        return ""
    wide = "utf-16-be" if high else "utf-16-le"
    return "" if _NO_TEXT.search(data[:_HEAD_BYTES].decode(wide, "replace")) else wide


def _mended(data: bytes) -> str:
    """Return a UTF-8 text in which a few bytes are none; "" for a text that is none of it."""
    text = data.decode("utf-8", "surrogateescape")
    odd = len(_ESCAPED.findall(text))
    if sum(not character.isascii() for character in text) < 2 * odd:
        return ""
    return _ESCAPED.sub(lambda at: bytes([ord(at[0]) - 0xDC00]).decode("cp1252", "replace"), text)


def _declared(data: bytes, name: str) -> str:
    """Return the encoding that a file declares of itself; "" for none that can be meant.

    The declaration was read as ASCII, so that one of another kind (UTF-16) contradicts itself;
    what calls itself Latin-1 and holds no control characters of it is windows-1252.
    """
    head = data[:_HEAD_BYTES]
    found = next(filter(None, (pattern.match(head) for pattern in _DECLARED)), None)
    if found is None and (suffix_of(name) in _HTML or head.lstrip()[:1] == b"<"):
        found = _DECLARED_HTML.search(head)
    encoding = found[1].decode("ascii", "replace").lower() if found else ""
    try:
        known = codecs.lookup(encoding).name if encoding else ""
        if not known or _ASCII.decode(known) != _ASCII.decode():
            return ""
    except LookupError:
        return encoding
    except (UnicodeError, ValueError):
        return ""
    if known == "iso8859-1" and not re.search(rb"[\x80-\x9f]", data):
        return encoding
    return _MEANT.get(known, encoding)


def _is_latin(text: str) -> bool:
    """Tell whether what was decoded by guess reads as text."""
    seen = "".join(text[: 2**20].split())
    beyond = sum(not character.isascii() for character in seen)
    return not _NO_TEXT.search(text) and beyond <= max(2, _BEYOND_ASCII * len(seen))


def _document(name: str, text: str, sections: Sequence[Section]) -> Document:
    return Document(name, _clean(text), sections)


def _clean(text: str) -> str:
    """Return `text` as it can be stored; a lone surrogate becomes one other character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def suffix_of(name: str) -> str:
    """Return what a name ends with from its last dot on, in small letters, as a path's suffix."""
    base = name.rpartition("/")[2]
    dot = base.rfind(".")
    return base[dot:].lower() if 0 < dot < len(base) - 1 else ""


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
