"""What a server says of an error, in whatever shape it says it, and how our texts may quote it.

An error may quote a key or the prompt: both are taken out before anybody reads it.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from nemoflows.calls import Request
from nemoflows.errors import printable

QUOTED_CHARACTERS = 200
"""Longest quote of a provider's own words in a text of ours."""
MIN_KEY_CHARACTERS = 8
"""Length from which a secret is taken out of texts; a shorter one is a word of its own."""
MIN_PROMPT_CHARACTERS = 24
"""Length from which words count as quoted from the prompt."""
MOST_DEPTH = 6
"""Deepest nesting of an error that is read."""

_INSIDE = ("error", "errors", "detail", "details", "fault", "exception", "body")
_STATUSES = ("code", "status", "status_code", "statusCode", "http_status")
_CODES = ("code", "type", "error_code", "status")
_WORDS = ("message", "msg", "error", "detail", "error_description", "title", "reason")
_STATUS_OF = {
    402: "insufficient_quota insufficient_credits insufficient_balance billing_error "
    "billing_hard_limit_reached payment_required",
    401: "invalid_api_key authentication_error authenticationerror unauthorized unauthenticated",
    403: "permission_error permission_denied permissiondeniederror forbidden",
    404: "not_found not_found_error notfounderror model_not_found",
    413: "request_too_large payload_too_large",
    400: "invalid_request invalid_request_error invalid_argument bad_request badrequesterror "
    "context_length_exceeded exceed_context_size_error unsupported_value unsupported_parameter",
    429: "rate_limit_error rate_limit_exceeded rate_limited ratelimiterror too_many_requests "
    "resource_exhausted",
    500: "api_error server_error internal_error internal_server_error internal internalservererror",
    502: "bad_gateway provider_error upstream_error",
    503: "service_unavailable unavailable unavailable_error",
    504: "timeout timeout_error gateway_timeout deadline_exceeded",
    529: "overloaded overloaded_error",
}  # fmt: skip
"""HTTP statuses of codes that stand alone in a body. Source: the APIs of OpenAI, Anthropic, Google
and OpenRouter, vLLM 0.32 and llama.cpp's server, read in November 2026."""
_BY_CODE = {code: status for status, codes in _STATUS_OF.items() for code in codes.split()}
_LOOKS_SECRET = re.compile(
    r"(?i)\b(?:bearer|basic)\s+\S+|\b(?:sk|pk|rk|key|nvapi|hf|gsk|xai|ghp|AIza|or|api)[-_][\w*.-]{6,}"
)
_PAGE_CHARACTERS = 20_000
_TITLE = re.compile(r"(?is)<title\b[^>]*>([^<]*)<")
_NO_WORDS = re.compile(r"(?is)<!--.*?(?:-->|$)|<(script|style|svg)\b.*?(?:</\1[^>]*>|$)")
_TAG = re.compile(r"<[^>]*>?")
_SECRET_NAME = re.compile(r"(?i)(key|token|secret|password|credential)s?$")


class Told(NamedTuple):
    """What a body says of an error."""

    status: int | None = None
    """HTTP status; None where nothing says it."""
    codes: tuple[str, ...] = ()
    """Its codes and types, the innermost first."""
    words: str = ""
    param: str = ""
    """Field of the request that it is about."""
    n_tokens: tuple[int, ...] = ()
    """Tokens of the request and of the context, where they have fields of their own."""


def told_by(body: object) -> Told:
    """Return what a body says of an error, wherever in it that stands."""
    if not isinstance(body, dict | list):
        text = body.strip() if isinstance(body, str) else ""
        return Told(words="" if text.startswith("<") else text)
    found = list(_objects(body, 0))
    codes = [_folded(each.get(name)) for each in found for name in _CODES]
    told = [code for code in dict.fromkeys(codes) if code and code != "error"]
    numbers = (_status(each.get(name)) for each in found for name in _STATUSES)
    by_code = (_BY_CODE.get(code) for code in told)
    status = next(filter(None, numbers), None) or next(filter(None, by_code), None)
    words = [_text(each, name) for each in found for name in _WORDS]
    params = [each["param"] for each in found if isinstance(each.get("param"), str)]
    n_tokens = [each.get(name) for each in found for name in ("n_prompt_tokens", "n_ctx")]
    return Told(
        status,
        tuple(told),
        next(filter(None, words), ""),
        next(iter(params), ""),
        tuple(n for n in n_tokens if isinstance(n, int)),
    )


def page_words(page: str) -> str:
    """Return a web page's title, or its first words where it has none."""
    page = page[:_PAGE_CHARACTERS]
    title = _TITLE.search(page)
    text = title[1] if title and title[1].strip() else _NO_WORDS.sub(" ", page)
    return html.unescape(_TAG.sub(" ", text)).strip()


def is_error(body: dict[str, Any]) -> bool:
    """Return whether a body with status 200 says of itself that it is an error."""
    has_one = any(body.get(name) for name in _INSIDE)
    kind = "error" in (body.get("type"), body.get("object"), body.get("status"))
    return has_one or kind or bool(body.get("message") and told_by(body).status)


def quoted(words: str, key_env: str = "", request: Request | None = None) -> str:
    """Return a provider's own words without secrets and prompt: one short, harmless line."""
    for secret in _secrets(key_env):
        words = words.replace(secret, "[key]")
        words = re.sub(re.escape(secret[: MIN_KEY_CHARACTERS - 2]) + r"\S*", "[key]", words)
    words = " ".join(printable(_LOOKS_SECRET.sub("[key]", words[: 8 * QUOTED_CHARACTERS])).split())
    if request is not None:
        words = _without_prompt(words, request)
    return words[:QUOTED_CHARACTERS]


def _without_prompt(words: str, request: Request) -> str:
    texts = [part.text for turn in request.messages for part in turn.parts]
    prompt = " ".join(" ".join([request.system, *texts]).split())
    for at in range(len(words) - MIN_PROMPT_CHARACTERS + 1):
        if words[at : at + MIN_PROMPT_CHARACTERS] in prompt:
            return f"{words[:at].rstrip()} … (it goes on with words of the prompt)"
    return words


def _secrets(key_env: str) -> list[str]:
    """Return what must not be shown: the endpoint's key, and whatever else is named like one."""
    named = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    known = {os.environ.get(key_env, "") if key_env else "", *named}
    return sorted((s for s in known if len(s) >= MIN_KEY_CHARACTERS), key=len, reverse=True)


def _objects(told: object, depth: int) -> Iterator[dict[str, Any]]:
    """Yield the objects of an error, the innermost first; a few of a list say enough."""
    if depth > MOST_DEPTH:
        return
    if isinstance(told, list):
        for each in told[:4]:
            yield from _objects(each, depth + 1)
    if isinstance(told, dict):
        for name in _INSIDE:
            yield from _objects(told.get(name), depth + 1)
        yield told


def _text(told: dict[str, Any], name: str) -> str:
    text = told.get(name)
    if not isinstance(text, str) or not text.strip():
        return ""
    place = told.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {text}" if where else text


def _folded(code: object) -> str:
    text = code if isinstance(code, str) else ""
    return "" if text.isdigit() else re.sub(r"[\s-]+", "_", text.strip().lower())[:60]


def _status(told: object) -> int | None:
    if isinstance(told, str) and re.fullmatch(r"[45]\d\d", told):
        told = int(told)
    is_one = isinstance(told, int) and not isinstance(told, bool) and 400 <= told < 600
    return told if is_one else None  # type: ignore[return-value]  # a number, as was asked
