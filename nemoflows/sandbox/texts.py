"""Text of files as Python reads it, and back to the bytes that it came from.

A source's encoding is what its mark of order or its first lines say (PEP 263), every other file's
is UTF-8. Line ends stay as they are.
"""

from __future__ import annotations

import io
import tokenize
from codecs import BOM_UTF8


def decoded(path: str, data: bytes) -> str | None:
    """Return a file's text without a mark of order; None where its bytes are none."""
    try:
        encoding = _encoding(path, data)
        text = data.decode(encoding)
        same = encoding.startswith("utf-8") or text.encode(encoding) == data
    except (LookupError, SyntaxError, ValueError):
        return None
    return text if same else None


def encoded(path: str, text: str, before: bytes = b"") -> bytes:
    """Return a text as bytes, in the encoding that its first lines name now.

    Args:
        before: What the file was, whose mark of order is kept.

    Raises:
        UnicodeEncodeError: That encoding lacks a character.
    """
    data = text.encode()
    if before.startswith(BOM_UTF8):
        return BOM_UTF8 + data
    try:
        encoding = _encoding(path, data)
        return data if encoding.startswith("utf-8") else text.encode(encoding)
    except (LookupError, SyntaxError):
        return data


def _encoding(path: str, data: bytes) -> str:
    if data.startswith(BOM_UTF8):
        return "utf-8-sig"
    if not path.endswith((".py", ".pyw", ".pyi")):
        return "utf-8"
    return tokenize.detect_encoding(io.BytesIO(data[:1000]).readline)[0]
