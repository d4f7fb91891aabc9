"""Read a mail as people do: who wrote it, to whom, when, under what subject, and its text."""

from __future__ import annotations

from collections.abc import Iterator
from email import policy
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesParser

from nemoflows.errors import CorpusError
from nemoflows.search import markup
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import sections

_SHOWN = ("From", "To", "Cc", "Date", "Subject")


def mail(data: bytes) -> tuple[str, list[Section]]:
    """Return the head's lines and the text of a mail, mails within it too, and its sections.

    Of parts that say the same the plain text is read, else the HTML.

    Raises:
        CorpusError: It has no head and no text.
    """
    try:
        message = BytesParser(policy=policy.default).parsebytes(data.lstrip())
        head = [f"{name}: {told}" for name in _SHOWN if (told := _line(message, name))]
        parts = ["\n".join(head), *_texts(message)]
    except (MessageError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise CorpusError(f"a broken mail: {type(error).__name__}: {error}") from error
    text = "\n\n".join(filter(None, parts)).replace("\0", "\ufffd")
    return text, sections([(0, 1, _line(message, "Subject"))])


def _line(message: EmailMessage, name: str) -> str:
    return " ".join(str(message.get(name, "")).split())


def _texts(message: EmailMessage) -> Iterator[str]:
    body = message.get_body(("plain", "html"))
    if body is not None:
        told = str(body.get_content())
        html = body.get_content_subtype() == "html"
        yield markup.html(told)[0] if html else told.replace("\r\n", "\n").strip()
    for part in message.iter_attachments():
        if part.get_content_type() == "message/rfc822":
            yield mail(part.get_content().as_bytes())[0]
        elif name := part.get_filename():
            yield f"Attached: {name}"
