"""Errors of remote endpoints: which pass by themselves, and how our texts may quote them.

Read by what the SDKs' errors share: `status_code`, a code or type, headers, the body.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime

from nemoflows.calls.values import REFUSED
from nemoflows.engines.http.told import QUOTED_CHARACTERS, Told, is_error, page_words, told_by
from nemoflows.errors import NemoflowsError, printable
from nemoflows.models import Endpoint

FINAL_CODES = frozenset(
    {"insufficient_quota", "enforced_spend_limit_reached", "contract_spend_limit_reached"}
)
"""Codes of a 429 that no pause mends. Source: openai 3.54 and anthropic 2.12, error codes."""
TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
TOO_LONG_PHRASES = (
    "maximum context length",
    "prompt is too long",
    "context window",
    "available context size",
)
RETRIED_STATUSES = frozenset({408, 409, 429})
"""Statuses below 500 that pass by themselves; all from 500 on do too."""
HEALING_STATUSES = frozenset({429, 502, 503, 504, 529})
"""Statuses of what the next seconds or minutes may mend: too much at once, a server that is away
behind its gateway, a model that is being loaded."""


class MalformedReplyError(Exception):
    """A reply with status 200 that is not what the dialect promises."""


class ErrorReplyError(MalformedReplyError):
    """A reply with status 200 that says itself that it is an error: nothing was billed."""

    def __init__(self, body: object) -> None:
        super().__init__("status 200 with an error")
        self.body = body
        told = told_by(body)
        self.status_code, self.param, self.message = told.status, told.param, told.words
        self.code = next(iter(told.codes), None)


class PageReplyError(MalformedReplyError):
    """A web page with status 200: a proxy's, a login's; the model was not asked, and not paid."""

    def __init__(self, page: str) -> None:
        super().__init__("status 200 with a web page")
        self.message = page_words(page)
        self.remedy = (
            "It is a web page, as of a proxy or a login, and no reply: nothing was billed. Open "
            "base_url to see what answers there, and mend it or the settings of the proxy."
        )


class ForeignReplyError(MalformedReplyError):
    """A whole reply with status 200 that is none of this API: the next one would be none either."""

    def __init__(self, body: object) -> None:
        self.message = told_by(body).words
        names = ", ".join(map(str, [*body][:8])) if isinstance(body, dict) else ""
        shape = f"the fields {names or 'none'}" if isinstance(body, dict) else "no object"
        super().__init__(f"status 200 with {sanitised(shape)}")
        self.remedy = (
            "It is whole JSON and no reply of this API, so that asking again would bring the same: "
            "check base_url and the dialect."
        )


_PAGE = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)\b", re.IGNORECASE)
_NO_PAGE = re.compile(r"\s*(?:[{\[:]|data:|event:|<think)")


def is_page(content_type: str, body: str) -> bool:
    """Tell whether a body that could not be read is a page: its type or its beginning says so."""
    said = "html" in content_type.lower() and _NO_PAGE.match(body) is None
    return said or _PAGE.match(body) is not None


def no_reply(body: dict[str, object]) -> MalformedReplyError:
    """Return the error of a body with status 200 that is no reply, so that nothing was paid."""
    if is_error(body):
        return ErrorReplyError(body)
    return ForeignReplyError(body)


def told_of(error: BaseException) -> Told:
    """Return what the server says of an error; nothing where no body came."""
    return told_by(getattr(error, "body", None) or getattr(error, "message", ""))


def sanitised(told: object) -> str:
    """Return a provider's own words as our texts may quote them: one short, harmless line."""
    return " ".join(printable(str(told)[:QUOTED_CHARACTERS]).split())


def status_of(error: BaseException) -> int | None:
    """Return an error's HTTP status; None where it has none."""
    return getattr(error, "status_code", None)


def code_of(error: BaseException, clean: Callable[[str], str] = str) -> str:
    """Return what stands where a provider puts its own code for an error, cleaned and sanitised."""
    told = getattr(error, "error_code", None) or getattr(error, "code", None) or ""
    return sanitised(clean(str(told)))


def is_transient(error: BaseException, connection_errors: tuple[type[Exception], ...]) -> bool:
    """Return whether a failure may pass by itself, here or in the pod's next attempt."""
    if code_of(error) in FINAL_CODES or isinstance(error, NemoflowsError):
        return False
    status = status_of(error)
    if isinstance(error, PageReplyError | ForeignReplyError):
        return False
    if isinstance(error, ErrorReplyError):
        return status is None or status in RETRIED_STATUSES or status >= 500
    if isinstance(error, (*connection_errors, MalformedReplyError, ValueError)):
        return True
    return _is_overloaded(error) or (
        status is not None and (status in RETRIED_STATUSES or status >= 500)
    )


_NOT_CONNECTED = frozenset({"ClientConnectorError", "ClientConnectorDNSError", "ConnectError"})
_BROKE_OFF = frozenset({"ReadError", "ClientPayloadError", "RemoteProtocolError"})
"""Names of what lies behind the SDKs' errors for a connection. Source: aiohttp 3, httpx2; run."""


def _behind(error: BaseException | None) -> Iterator[str]:
    """Yield the names of an error and of those behind it."""
    for _ in range(9):
        if error is None:
            return
        yield type(error).__name__
        error = error.__cause__ or error.__context__


def kind_of(error: BaseException) -> str:
    """Return an error's class, as attempts tell it; that nothing was sent is told as such."""
    never = status_of(error) is None and not _NOT_CONNECTED.isdisjoint(_behind(error))
    return "NotConnected" if never else type(error).__name__


def ending(error: BaseException) -> str:
    """Return how an attempt ended that failed, as attempts tell it."""
    return f"{kind_of(error)} {status_of(error) or ''}".strip()


def is_free(error: BaseException) -> bool:
    """Return whether an attempt surely cost nothing: it was refused, or never sent."""
    return REFUSED.fullmatch(ending(error)) is not None


def is_heard(error: BaseException) -> bool:
    """Return whether the endpoint itself said something, and not its gateway, or nobody."""
    status = status_of(error)
    if status is not None:
        return status not in {502, 504}
    return isinstance(error, MalformedReplyError) or not _BROKE_OFF.isdisjoint(_behind(error))


def heals(error: BaseException, connection_errors: tuple[type[Exception], ...]) -> bool:
    """Return whether the next seconds or minutes may mend a failure, so that it is waited for."""
    if code_of(error) in FINAL_CODES:
        return False
    away = isinstance(error, (*connection_errors, TimeoutError))
    if away and not _BROKE_OFF.isdisjoint(_behind(error)):
        return False  # a reply had begun and is paid, so that there is an end to asking again
    return away or _is_overloaded(error) or status_of(error) in HEALING_STATUSES


def asks_for_less(error: BaseException) -> bool:
    """Return whether a failure says that too much was asked at once."""
    refused = _is_overloaded(error) or status_of(error) in {429, 503, 529}
    return refused and code_of(error) not in FINAL_CODES


def _is_overloaded(error: BaseException) -> bool:
    return getattr(error, "type", None) == "overloaded_error"


def retry_after_s(error: BaseException) -> float | None:
    """Return the pause that a refusal asks for; None where it asks for none."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    with suppress(ValueError):
        return max(0.0, float(headers.get("retry-after-ms", "")) / 1000)
    asked = headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(asked))
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    return None


def too_long_numbers(error: BaseException) -> str:
    """Return the numbers of a refusal of too long a prompt; empty where it is another refusal.

    Source: vLLM 0.32 (`param` is input_tokens), OpenAI (code context_length_exceeded), Anthropic
    ("prompt is too long"), llama.cpp's server (exceed_context_size_error); the wording is theirs.
    """
    if status_of(error) not in {400, 413}:
        return ""
    told = told_of(error)
    words = told.words or str(getattr(error, "message", ""))
    known = told.param == "input_tokens" or not TOO_LONG_CODES.isdisjoint(told.codes)
    if not known and not any(phrase in words.lower() for phrase in TOO_LONG_PHRASES):
        return ""
    numbers = [str(n) for n in told.n_tokens] or re.findall(r"[0-9][0-9,]{2,15}", words)[:4]
    return " and ".join(dict.fromkeys(numbers)) + " tokens" if numbers else "no numbers given"


def remedy(error: BaseException, endpoint: Endpoint) -> str:
    """Return what to do about a refusal; empty where the error says it all."""
    status = status_of(error)
    if isinstance(error, PageReplyError | ForeignReplyError):
        return error.remedy
    if code_of(error) in FINAL_CODES:
        return "The account's limit of spending is reached: raise it, or name another model."
    if status == 402:
        return "The account has no credit left: pay some in, or name another model."
    if status in {401, 403}:
        return f"Check the key in {endpoint.key_env or 'key_env (none is configured)'}."
    if status is not None and 300 <= status < 400:
        return "It redirects, which is not followed: name the address itself in base_url."
    return "Check the model's name and the address." if status == 404 else ""
