"""Read a mail as people do: who wrote it, to whom, when, under what subject, and its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from email import policy
from email.errors import MessageError
from email.message import EmailMessage, MIMEPart
from email.parser import BytesParser

from nemoflows.errors import CorpusError
from nemoflows.search import markup
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import sections

_READ = (".txt", ".md", ".csv")
"""Attached files that are text, whatever their type is said to be."""
_BYTE = re.compile(r"[\udc80-\udcff]")
"""Of a head: a byte beyond ASCII, which is of no declared encoding."""
_SHOWN = ("From", "To", "Cc", "Date", "Subject")

Decode = Callable[[bytes], str]
"""Reads bytes that do not say how; raises `CorpusError` where they are no text."""


def mail(data: bytes, decode: Decode) -> tuple[str, list[Section]]:
    """Return the head's lines and the text of a mail, mails within it too, and its sections.

    Of parts that say the same the plain text is read, else the HTML; attached text is read too.

    Raises:
        CorpusError: It has no head and no text.
    """
    try:
        message = BytesParser(policy=policy.default).parsebytes(data.lstrip())
        text, subject = _whole(message, decode), _line(message, "Subject", decode)
    except (MessageError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise CorpusError(f"a broken mail: {type(error).__name__}: {error}") from error
    return text.replace("\0", "\ufffd"), sections([(0, 1, subject)])


def _whole(message: EmailMessage, decode: Decode) -> str:
    head = [f"{name}: {told}" for name in _SHOWN if (told := _line(message, name, decode))]
    return "\n\n".join(filter(None, ["\n".join(head), *_texts(message, decode)]))


def _line(message: EmailMessage, name: str, decode: Decode) -> str:
    raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
    told = message.get(name, "")
    if _BYTE.search(str(raw)):
        data = str(raw).encode("utf-8", "surrogateescape")
        one_line = "".join(_decoded(data, None, decode).splitlines())
        told = policy.default.header_factory(name, one_line)
    return " ".join(str(told).split())


def _texts(part: MIMEPart, decode: Decode) -> Iterator[str]:
    """Yield the texts of a part of a mail, and the names of what is attached."""
    kind, name = part.get_content_type(), part.get_filename()
    if kind == "multipart/alternative":
        plain_first = sorted(
            part.iter_parts(), key=lambda each: each.get_content_type() != "text/plain"
        )
        said = ([*filter(None, _texts(each, decode))] for each in plain_first)
        yield from next(filter(None, said), [])
    elif part.get_content_maintype() == "multipart":
        inner = list(part.iter_parts())
        for each in inner[: 1 if kind == "multipart/related" else None]:
            yield from _texts(each, decode)
    elif kind == "message/rfc822":
        yield _whole(part.get_content(), decode)
    else:
        if name:
            yield f"Attached: {name}"
        if part.get_content_maintype() == "text" or (name or "").lower().endswith(_READ):
            yield _read(part, decode)


def _read(part: MIMEPart, decode: Decode) -> str:
    payload = part.get_payload(decode=True)
    told = _decoded(
        payload if isinstance(payload, bytes) else b"", part.get_content_charset(), decode
    )
    if part.get_content_subtype() == "html":
        return markup.html(told)[0]
    return told.replace("\r\n", "\n").strip()


def _decoded(data: bytes, charset: str | None, decode: Decode) -> str:
    """Return a text by its declared encoding, where it has one that its bytes are."""
    try:
        return data.decode(charset or "ascii")
    except (LookupError, UnicodeError, ValueError):
        pass
    try:
        return decode(data)
    except CorpusError:
        return data.decode("utf-8", "replace")
