"""Dialects: each is told what it obeys, under its own names, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nemoflows.calls import Answered, Outcome
from nemoflows.engines.openai.dialects import RULES, effort
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.errors import BadModel
from nemoflows.models import BUILT_IN, CHAT_COMPLETIONS, Dialect, Endpoint
from nemoflows.types import ModelRef
from tests.loopback import ModelServer
from tests.support import request

SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string"}},
    "required": ["summary"],
    "additionalProperties": False,
}
OFF, ON = {"mode": "off"}, {"mode": "on"}
BUDGET = {"mode": "budget", "budget_tokens": 2000}


def asked_of(
    server: ModelServer, dialect: Dialect, model: str = "tiny", **changes: Any
) -> tuple[dict[str, Any], Outcome]:
    """Return what a server of that dialect was sent, and what came back."""

    async def work() -> Outcome:
        endpoint = Endpoint(dialect=dialect, base_url=server.url)
        engine = OpenAI(endpoint, name="near", deadline_s=60)
        asked = request(model=f"near:{model}", **changes)
        try:
            return await engine.complete(asked, lambda _: None)
        finally:
            await engine.aclose()

    outcome = asyncio.run(work())
    return server.requests[-1], outcome


def notes(outcome: Outcome) -> list[str]:
    assert isinstance(outcome, Answered)
    return outcome.reply.notes


def test_every_dialect_of_the_family_has_rules() -> None:
    assert set(RULES) == CHAT_COMPLETIONS
    assert {BUILT_IN[name].dialect for name in ("openai", "nim", "sglang", "deepseek")} == {
        "openai", "nim", "sglang", "deepseek",
    }  # fmt: skip
    assert BUILT_IN["vllm-server"].dialect == "vllm-server"


@pytest.mark.parametrize("dialect", sorted(CHAT_COMPLETIONS))
def test_the_output_limit_has_the_name_that_the_dialect_obeys(
    dialect: Dialect, server: ModelServer
) -> None:
    body, _ = asked_of(server, dialect, max_output_tokens=77)
    names = {"max_tokens", "max_completion_tokens"} & set(body)
    assert names == {RULES[dialect].limit}
    assert body[RULES[dialect].limit] == 77


@pytest.mark.parametrize("dialect", sorted(CHAT_COMPLETIONS))
def test_without_preferences_nothing_beside_the_standard_is_sent(
    dialect: Dialect, server: ModelServer
) -> None:
    body, outcome = asked_of(server, dialect)
    assert set(body) == {"model", "messages", RULES[dialect].limit}
    assert notes(outcome) == []


@pytest.mark.parametrize(
    ("dialect", "model", "thinking", "sent"),
    [
        ("openai", "gpt-6-luna", OFF, {"reasoning_effort": "none"}),
        ("openai", "gpt-6-luna", BUDGET, {"reasoning_effort": "medium"}),
        ("openai", "gpt-6-luna", ON, {}),
        ("openai", "gpt-5-mini", OFF, {"reasoning_effort": "minimal"}),
        ("openai", "gpt-4.1", OFF, {}),
        ("openai", "gpt-4.1", BUDGET, {}),
        ("compatible", "llama3", OFF, {}),
        ("compatible", "llama3", BUDGET, {}),
        ("nim", "n", OFF, {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            "nim", "n", BUDGET,
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_budget": 2000},
        ),
        ("sglang", "n", ON, {"chat_template_kwargs": {"enable_thinking": True}}),
        ("sglang", "n", BUDGET, {"chat_template_kwargs": {"enable_thinking": True}}),
        ("deepseek", "d", OFF, {"thinking": {"type": "disabled"}}),
        ("deepseek", "d", ON, {"thinking": {"type": "enabled"}}),
        (
            "deepseek", "d", {"mode": "budget", "budget_tokens": 500},
            {"thinking": {"type": "enabled"}, "reasoning_effort": "low"},
        ),
        ("vllm-server", "n", OFF, {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            "vllm-server", "n", BUDGET,
            {"chat_template_kwargs": {"enable_thinking": True}, "thinking_token_budget": 2000},
        ),
    ],
)  # fmt: skip
def test_thinking_is_told_in_the_fields_that_the_dialect_obeys(
    dialect: Dialect,
    model: str,
    thinking: dict[str, Any],
    sent: dict[str, Any],
    server: ModelServer,
) -> None:
    plain, _ = asked_of(server, dialect, model)
    body, _ = asked_of(server, dialect, model, thinking=thinking)
    assert {name: body[name] for name in set(body) - set(plain)} == sent


@pytest.mark.parametrize(
    ("dialect", "model", "wish", "noted"),
    [
        ("openai", "gpt-4.1", {"thinking": BUDGET}, "gpt-4.1 has none"),
        ("openai", "gpt-5-mini", {"thinking": OFF}, "thinks minimal"),
        ("openai", "gpt-6-luna", {"thinking": BUDGET}, "an effort, medium, for 2000"),
        ("openai", "gpt-6-luna", {"sampling": {"temperature": 0.5}}, "sampling"),
        ("compatible", "llama3", {"thinking": OFF}, "no field that llama3"),
        ("sglang", "n", {"thinking": BUDGET}, "without one"),
        ("deepseek", "d", {"sampling": {"seed": 3}}, "seed"),
        ("deepseek", "d", {"thinking": BUDGET}, "an effort"),
    ],
)
def test_what_cannot_be_carried_out_is_noted_in_the_reply(
    dialect: Dialect, model: str, wish: dict[str, Any], noted: str, server: ModelServer
) -> None:
    _, outcome = asked_of(server, dialect, model, **wish)
    [note] = notes(outcome)
    assert noted in note


@pytest.mark.parametrize(
    ("dialect", "thinking", "limit"),
    [
        ("vllm-server", BUDGET, 3000),
        ("vllm-server", OFF, 1000),
        ("nim", BUDGET, 3000),
        ("openai", ON, 9192),
    ],
)
def test_thinking_gets_room_of_its_own(
    dialect: Dialect, thinking: dict[str, Any], limit: int, server: ModelServer
) -> None:
    body, _ = asked_of(server, dialect, "gpt-6-luna", thinking=thinking, max_output_tokens=1000)
    assert body[RULES[dialect].limit] == limit


@pytest.mark.parametrize("dialect", sorted(CHAT_COMPLETIONS - {"deepseek"}))
def test_a_schema_is_sent_as_a_schema(dialect: Dialect, server: ModelServer) -> None:
    body, _ = asked_of(server, dialect, json_schema=SCHEMA)
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_a_dialect_that_promises_json_alone_is_told_the_schema_in_words(
    server: ModelServer,
) -> None:
    body, _ = asked_of(server, "deepseek", json_schema=SCHEMA, system="Be brief.")
    assert body["response_format"] == {"type": "json_object"}
    [system] = [turn["content"] for turn in body["messages"] if turn["role"] == "system"]
    assert system.startswith("Be brief.")
    assert '"summary"' in system
    assert "JSON" in system


def test_tools_are_sent_in_the_standard_shape(server: ModelServer) -> None:
    tool = {"name": "f", "description": "d", "schema": {"type": "object"}}
    body, _ = asked_of(server, "vllm-server", tools=[tool], tool_choice="auto")
    [sent] = body["tools"]
    assert (sent["type"], sent["function"]["name"]) == ("function", "f")
    assert body["tool_choice"] == "auto"


@pytest.mark.parametrize(
    ("budget_tokens", "level"), [(1, "low"), (1024, "low"), (1025, "medium"), (9000, "high")]
)
def test_an_effort_stands_for_a_budget(budget_tokens: int, level: str) -> None:
    assert effort(budget_tokens) == level


def preflight(server: ModelServer, dialect: Dialect, model: str = "tiny") -> int | None:
    async def work() -> int | None:
        endpoint = Endpoint(dialect=dialect, base_url=server.url)
        engine = OpenAI(endpoint, name="near", deadline_s=60)
        try:
            return await engine.preflight(ModelRef.model_validate(f"near:{model}"))
        finally:
            await engine.aclose()

    return asyncio.run(work())


def test_a_server_that_refuses_a_schema_that_is_none_reads_schemas(server: ModelServer) -> None:
    server.faults.append("400")
    assert preflight(server, "vllm-server") == server.context_tokens
    [probe] = server.requests
    assert probe["max_completion_tokens"] == 1
    assert probe["response_format"]["json_schema"]["schema"] == {"type": "wibble"}


def test_an_output_limit_is_never_above_the_servers_context(server: ModelServer) -> None:
    server.context_tokens = 4096

    async def work() -> Outcome:
        endpoint = Endpoint(dialect="nim", base_url=server.url)
        engine = OpenAI(endpoint, name="near", deadline_s=60)
        await engine.preflight(ModelRef.model_validate("near:tiny"))
        try:
            asked = request(model="near:tiny", thinking=ON, max_output_tokens=1000)
            return await engine.complete(asked, lambda _: None)
        finally:
            await engine.aclose()

    outcome = asyncio.run(work())
    assert server.requests[0]["max_tokens"] == 4096
    assert "4096 tokens, the server's context" in notes(outcome)[0]


def test_a_server_that_answers_one_passes_over_schemas_and_is_refused(
    server: ModelServer,
) -> None:
    with pytest.raises(BadModel, match=r"passes over schemas.*compatible"):
        preflight(server, "vllm-server")


@pytest.mark.parametrize("fault", ["500", "reset", "text", "malformed"])
def test_a_probe_that_says_nothing_is_no_obstacle(fault: str, server: ModelServer) -> None:
    server.faults.append(fault)
    assert preflight(server, "vllm-server") == server.context_tokens


@pytest.mark.parametrize("dialect", sorted(CHAT_COMPLETIONS - {"vllm-server"}))
def test_other_dialects_are_not_probed(dialect: Dialect, server: ModelServer) -> None:
    assert preflight(server, dialect) == server.context_tokens
    assert server.requests == []


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thoughts_are_read_under_either_name(field: str, server: ModelServer) -> None:
    server.extra_message[field] = "Rivers first."
    _, outcome = asked_of(server, "vllm-server")
    assert isinstance(outcome, Answered)
    assert outcome.reply.reasoning == "Rivers first."
