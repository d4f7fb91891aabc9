"""Errors of remote endpoints: which pass by themselves, and how our texts may quote them.

Read by what the SDKs' errors share: `status_code`, a code or type, headers. Of a provider's own
words only short codes and numbers are kept, for an error may quote the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from nemoflows.errors import NemoflowsError, printable
from nemoflows.models import Endpoint

FINAL_CODES = frozenset(
    {"insufficient_quota", "enforced_spend_limit_reached", "contract_spend_limit_reached"}
)
"""Codes of a 429 that no pause mends. Source: openai 3.54 and anthropic 2.12, error codes."""
TOO_LONG_CODE = "context_length_exceeded"
TOO_LONG_PHRASES = ("maximum context length", "prompt is too long", "context window")
RETRIED_STATUSES = frozenset({408, 409, 429})
"""Statuses below 500 that pass by themselves; all from 500 on do too."""
QUOTED_CHARACTERS = 200
"""Longest quote of a provider's own words in a text of ours."""


class MalformedReplyError(Exception):
    """A reply with status 200 that is not what the dialect promises."""


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
    if isinstance(error, (*connection_errors, MalformedReplyError, ValueError)):
        return True
    status = status_of(error)
    return _is_overloaded(error) or (
        status is not None and (status in RETRIED_STATUSES or status >= 500)
    )


def asks_for_less(error: BaseException) -> bool:
    """Return whether a failure says that too much was asked at once."""
    refused = _is_overloaded(error) or status_of(error) in {429, 503, 529}
    return refused and code_of(error) not in FINAL_CODES


def _is_overloaded(error: BaseException) -> bool:
    return getattr(error, "type", None) == "overloaded_error"


def retry_after_s(error: BaseException) -> float | None:
    """Return the pause that a refusal asks for; None where it asks for none."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None


def too_long_numbers(error: BaseException) -> str:
    """Return the numbers of a refusal of too long a prompt; empty where it is another refusal.

    Source: vLLM 0.32 (`param` is input_tokens), OpenAI (code context_length_exceeded), Anthropic
    ("prompt is too long"); the wording is theirs.
    """
    if status_of(error) not in {400, 413}:
        return ""
    words = str(getattr(error, "message", ""))
    told = getattr(error, "param", None) == "input_tokens" or code_of(error) == TOO_LONG_CODE
    if not told and not any(phrase in words.lower() for phrase in TOO_LONG_PHRASES):
        return ""
    numbers = re.findall(r"[0-9][0-9,]{2,15}", words)[:4]
    return " and ".join(dict.fromkeys(numbers)) + " tokens" if numbers else "no numbers given"


def remedy(error: BaseException, endpoint: Endpoint) -> str:
    """Return what to do about a refusal; empty where the error says it all."""
    status = status_of(error)
    if code_of(error) in FINAL_CODES:
        return "The account's limit of spending is reached: raise it, or name another model."
    if status in {401, 403}:
        return f"Check the key in {endpoint.key_env or 'key_env (none is configured)'}."
    if status is not None and 300 <= status < 400:
        return "It redirects, which is not followed: name the address itself in base_url."
    return "Check the model's name." if status == 404 else ""
