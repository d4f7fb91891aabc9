"""What a server refuses of a request's form is learned from its 400: once, said, not fatal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from nemoflows.calls import Answered, Attempt, Outcome
from nemoflows.engines.anthropic.engine import Anthropic
from nemoflows.engines.base import Engine
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.models import Dialect, Endpoint, cannot_stop_thinking, openai_abilities
from tests.loopback import ModelServer
from tests.support import request

SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string"}},
    "required": ["summary"],
    "additionalProperties": False,
}
OFF = {"mode": "off"}
Refuses = Callable[[dict[str, Any]], dict[str, Any] | None]
"""From a request to the error that it is refused with, if it is."""


def asked_of(
    server: ModelServer, dialect: Dialect, refuses: Refuses, n: int = 2, **changes: Any
) -> tuple[list[Outcome], list[Attempt]]:
    """Ask a server that refuses some requests for `n` replies, one after the other."""
    server.refuses = refuses
    attempts: list[Attempt] = []

    async def work() -> list[Outcome]:
        url = server.url.removesuffix("/v1") if dialect == "anthropic" else server.url
        make: Callable[..., Engine] = Anthropic if dialect == "anthropic" else OpenAI
        engine = make(Endpoint(dialect=dialect, base_url=url), name="near", deadline_s=60)
        name = changes.pop("name", "tiny")
        asked = request(model=f"near:{name}", json_schema=SCHEMA, **changes)
        try:
            return [await engine.complete(asked, attempts.append) for _ in range(n)]
        finally:
            await engine.aclose()

    return asyncio.run(work()), attempts


def refusing(field: str, value: object = None, *, words: str = "", param: str = "") -> Refuses:
    """Return a server that refuses a field, or one value of it."""

    def refuses(body: dict[str, Any]) -> dict[str, Any] | None:
        if field not in body or (value is not None and body[field] != value):
            return None
        said = words or f"Unsupported parameter: '{field}' is not supported with this model."
        return {"message": said, "type": "invalid_request_error", "param": param or None}

    return refuses


def no_schema(body: dict[str, Any]) -> dict[str, Any] | None:
    kind = body.get("response_format", {}).get("type")
    if kind != "json_schema":
        return None
    return {"message": f"{kind} is not a response_format of this model", "code": 400}


def no_format(body: dict[str, Any]) -> dict[str, Any] | None:
    if "response_format" not in body:
        return None
    return {"message": "structured outputs are not built in"}


def no_system(body: dict[str, Any]) -> dict[str, Any] | None:
    if body["messages"][0]["role"] != "system":
        return None
    return {"message": "Conversation roles must alternate: System role not supported"}


EFFORT = "Unsupported value: 'reasoning_effort' does not support 'none' with this model."
CASES: dict[str, tuple[Dialect, Refuses, dict[str, Any], int, str]] = {
    "no schemas": ("compatible", no_schema, {}, 1, ""),
    "no formats": ("compatible", no_format, {}, 2, ""),
    "no schemas of a good server": ("vllm-server", no_schema, {}, 1, ""),
    "no temperature": (
        "compatible", refusing("temperature"), {"sampling": {"temperature": 0.0}}, 1, "temperature",
    ),
    "another temperature": (
        "compatible",
        refusing("temperature", 0.0, words="Only 1 is supported", param="temperature"),
        {"sampling": {"temperature": 0.0}}, 1, "temperature",
    ),
    "no effort none": (
        "openai", refusing("reasoning_effort", "none", words=EFFORT),
        {"thinking": OFF, "name": "gpt-6-new"}, 1, "reasoning_effort: minimal",
    ),
    "no effort": (
        "openai", refusing("reasoning_effort"),
        {"thinking": OFF, "name": "gpt-5.9"}, 5, "reasoning_effort: not sent",
    ),
    "another limit": (
        "compatible",
        refusing("max_tokens", words="Use 'max_completion_tokens' instead of 'max_tokens'."),
        {}, 1, "",
    ),
    "the older limit": ("openai", refusing("max_completion_tokens"), {}, 1, ""),
    "no template": (
        "nim", refusing("chat_template_kwargs", words="Extra inputs are not permitted: "
        "chat_template_kwargs"), {"thinking": OFF}, 1, "chat_template_kwargs",
    ),
    "no system turn": ("compatible", no_system, {"system": "Be brief."}, 1, ""),
    "no output format": (
        "anthropic", refusing("output_config", words="output_config: not permitted"),
        {}, 1, "output_config",
    ),
    "no thinking": (
        "anthropic", refusing("thinking", words="adaptive thinking is not supported"),
        {"thinking": {"mode": "on"}}, 1, "thinking",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_refused_is_left_out_and_said(
    case: tuple[Dialect, Refuses, dict[str, Any], int, str],
    server: ModelServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dialect, refuses, changes, n_refused, note = case
    outcomes, attempts = asked_of(server, dialect, refuses, **dict(changes))
    for outcome in outcomes:
        assert isinstance(outcome, Answered), outcome
        assert note in " ".join(outcome.reply.notes)
        assert outcome.reply.text
    assert len(server.requests) == n_refused + 2, "learned once"
    assert [attempt.status for attempt in attempts] == ["ok", "ok"]
    assert 1 <= len(caplog.messages) <= n_refused
    assert "refused a request's form: " in caplog.messages[0]
    words = json.dumps(server.requests[-1])
    assert words.count("summary"), "the schema is told in words where it has no field"


def test_a_limit_that_is_too_high_is_lowered(server: ModelServer) -> None:
    def refuses(body: dict[str, Any]) -> dict[str, Any] | None:
        said = f"max_tokens is too large: {body['max_tokens']}. At most 512 are supported."
        return {"message": said} if body["max_tokens"] > 512 else None

    outcomes, _ = asked_of(server, "compatible", refuses, max_output_tokens=1024)
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert [body["max_tokens"] for body in server.requests] == [1024, 512, 512]


@pytest.mark.parametrize(
    "model", ["gpt-5-2025-08-07", "llama-70b", "request 1f-0042-77", "v2.11", "at 10:42:07"]
)
def test_a_number_of_a_name_or_a_date_is_no_limit(model: str, server: ModelServer) -> None:
    said = f"max_tokens is not supported with {model}."
    outcomes, _ = asked_of(server, "compatible", refusing("max_tokens", words=said))
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert "max_tokens" not in server.requests[-1]
    assert server.requests[-1]["max_completion_tokens"] == server.requests[0]["max_tokens"]


def test_a_limit_that_has_another_name_keeps_its_height(server: ModelServer) -> None:
    said = "Use max_completion_tokens instead of max_tokens (code 42)."
    outcomes, _ = asked_of(server, "compatible", refusing("max_tokens", words=said))
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert server.requests[-1]["max_completion_tokens"] == server.requests[0]["max_tokens"]


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens or max_completion_tokens is too large: 1024 > 512",
        "{} has to be within 1-512",
        "{}: Input should be less than or equal to 512",
    ],
)
def test_a_limit_is_lowered_whatever_names_it(said: str, server: ModelServer) -> None:
    def refuses(body: dict[str, Any]) -> dict[str, Any] | None:
        name = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
        return {"message": said.format(name)} if body[name] > 512 else None

    outcomes, _ = asked_of(server, "compatible", refuses, max_output_tokens=1024)
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert 512 in server.requests[-1].values()


@pytest.mark.parametrize(
    "said", ["The model does not exist", "messages: at least one is required", "Bad request"]
)
def test_a_refusal_of_anything_else_is_final_at_once(said: str, server: ModelServer) -> None:
    outcomes, attempts = asked_of(server, "compatible", lambda _: {"message": said}, n=1)
    assert outcomes[0].kind == "unanswered"
    assert said in outcomes[0].detail
    assert [attempt.status for attempt in attempts] == ["BadRequestError 400"]
    assert len(server.requests) == 1


def test_a_server_that_refuses_everything_is_not_asked_for_ever(server: ModelServer) -> None:
    said = "max_tokens, temperature, response_format, system role: none is supported"
    sampling = {"temperature": 0.0}
    outcomes, _ = asked_of(
        server, "compatible", lambda _: {"message": said}, n=1, sampling=sampling, system="Be."
    )
    assert outcomes[0].kind == "unanswered"
    assert len(server.requests) <= 8


def test_models_that_refuse_no_effort_are_known() -> None:
    assert openai_abilities("gpt-6.2-astra").off == "low"
    assert openai_abilities("gpt-6-luna").off == "none"
    assert cannot_stop_thinking("openai", "gpt-6.2-sol")
