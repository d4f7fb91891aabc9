"""The registry of engines: one per endpoint, one per script, made once and closed together."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from nemoflows.calls import Answered
from nemoflows.engines.anthropic.engine import Anthropic
from nemoflows.engines.base import Engine
from nemoflows.engines.builtin import Builtin
from nemoflows.engines.dense import Dense
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.engines.registry import Engines
from nemoflows.engines.vllm import Vllm
from nemoflows.errors import BadModel
from nemoflows.models import Endpoint
from nemoflows.settings import Settings
from nemoflows.types import ModelRef
from tests.loopback import ModelServer
from tests.support import request

NEAR = Endpoint(dialect="openai", base_url="http://127.0.0.1:9/v1")
FAR = Endpoint(dialect="anthropic", base_url="http://127.0.0.1:9")
SETTINGS = Settings(endpoints={"near": NEAR, "other": NEAR, "far": FAR}, deadline_s=7.5)


def ref(spelling: str) -> ModelRef:
    return ModelRef.model_validate(spelling)


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [
        ("builtin", Builtin),
        ("fake:x", FakeEngine),
        ("dense:org/model", Dense),
        ("near:x", OpenAI),
        ("far:x", Anthropic),
        ("vllm:org/model", Vllm),
    ],
)
def test_a_dialect_has_its_engine(spelling: str, kind: type[Engine]) -> None:
    assert type(Engines(SETTINGS).of(ref(spelling))) is kind


def test_models_of_one_endpoint_share_its_engine() -> None:
    engines = Engines(SETTINGS)
    assert engines.of(ref("near:a")) is engines.of(ref("near:b")) is engines.of(ref("near:a#l"))


def test_two_endpoints_have_two_engines_even_at_one_address() -> None:
    engines = Engines(SETTINGS)
    assert engines.of(ref("near:a")) is not engines.of(ref("other:a"))


def test_an_engine_knows_its_endpoints_name_address_and_deadline() -> None:
    engine = Engines(SETTINGS).of(ref("near:a"))
    assert isinstance(engine, OpenAI)
    assert (engine.transport.name, engine.transport.endpoint, engine.transport.deadline_s) == (
        "near",
        NEAR,
        7.5,
    )


def test_every_script_is_an_engine_of_its_own(tmp_path: Path) -> None:
    engines = Engines(SETTINGS)
    for name in ("a", "b"):
        (tmp_path / name).write_text(json.dumps([{"reply": name}]))

    async def said(name: str) -> str:
        model = f"fake:{tmp_path / name}"
        outcome = await engines.of(ref(model)).complete(request(model=model), lambda _: None)
        assert isinstance(outcome, Answered)
        return outcome.reply.text

    async def both() -> list[str]:
        return [await said(name) for name in ("a", "b", "a")]

    assert asyncio.run(both()) == ["a", "b", "a"]
    assert engines.of(ref(f"fake:{tmp_path / 'a'}")) is engines.of(ref(f"fake:{tmp_path / 'a'}"))


def test_a_given_engine_wins_over_the_dialects_own() -> None:
    mine = FakeEngine([Rule(reply="x")])
    engines = Engines(SETTINGS, given={"near": mine, "builtin": mine})
    assert engines.of(ref("near:a")) is engines.of(ref("builtin")) is mine
    assert isinstance(engines.of(ref("far:a")), Anthropic)


def test_a_given_script_answers_for_every_script_of_its_endpoint() -> None:
    mine = FakeEngine([Rule(reply="x")])
    engines = Engines(SETTINGS, given={"fake": mine})
    assert engines.of(ref("fake:a")) is engines.of(ref("fake:b")) is mine


def test_given_engines_are_copied_not_kept() -> None:
    given: dict[str, Engine] = {}
    Engines(SETTINGS, given=given).of(ref("builtin"))
    assert given == {}


def test_an_unknown_endpoint_names_the_known_ones_and_where_to_declare_more() -> None:
    with pytest.raises(BadModel, match=r"'nowhere:x'.*\bfar\b.*\bnear\b.*NEMOFLOWS_ENDPOINTS"):
        Engines(SETTINGS).of(ref("nowhere:x"))


def test_an_engine_alone_declares_no_endpoint() -> None:
    engines = Engines(SETTINGS, given={"nowhere": FakeEngine()})
    with pytest.raises(BadModel, match="No endpoint is called 'nowhere'"):
        engines.of(ref("nowhere:x"))


def test_offline_refuses_a_public_address_at_every_ask() -> None:
    engines = Engines(Settings(offline=True))
    for _ in range(2):
        with pytest.raises(BadModel, match="loopback addresses only"):
            engines.of(ref("openai:gpt-6-luna"))


def test_closing_forgets_the_engines_and_the_next_ask_makes_new_ones() -> None:
    with ModelServer() as server:
        endpoint = Endpoint(dialect="openai", base_url=server.url)
        engines = Engines(Settings(endpoints={"local": endpoint}))

        async def ask_and_close() -> Engine:
            engine = engines.of(ref("local:tiny"))
            asked = request(model="local:tiny")
            assert isinstance(await engine.complete(asked, lambda _: None), Answered)
            await engines.aclose()
            assert isinstance(engine, OpenAI)
            assert engine._client is None
            return engine

        first, second = asyncio.run(ask_and_close()), asyncio.run(ask_and_close())
        assert first is not second


def test_closing_twice_or_unused_is_harmless() -> None:
    engines = Engines(SETTINGS)
    engines.of(ref("builtin"))

    async def close() -> None:
        await engines.aclose()
        await engines.aclose()

    asyncio.run(close())
    assert isinstance(engines.of(ref("builtin")), Builtin)
