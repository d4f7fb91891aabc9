"""The abstract engine: what an engine that only completes does about everything else."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator

import pytest

from nemoflows.calls import Answered, Outcome, Reply, Request
from nemoflows.engines.base import Engine, OnAttempt
from nemoflows.engines.builtin import Builtin
from nemoflows.engines.dense import Dense
from nemoflows.errors import BadModel
from nemoflows.types import ModelRef
from tests.support import ROOT, request

MODEL = ModelRef.model_validate("mine:x@r1")


class Least(Engine):
    """As little as an engine can be."""

    wire_version = "least-1"

    async def complete(self, request: Request, on_attempt: OnAttempt) -> Outcome:
        del request, on_attempt
        return Answered(reply=Reply(text="fine"))


def test_an_engine_must_complete() -> None:
    with pytest.raises(TypeError, match="complete"):
        Engine()  # type: ignore[abstract]


def test_what_an_engine_does_not_say_has_a_default() -> None:
    engine = Least()
    assert (engine.paid, engine.generates, engine.resumes) == (True, True, False)
    assert engine.model_fingerprint(MODEL) == str(MODEL)
    asked = request(max_output_tokens=7)
    assert engine.limit_tokens(asked) == 7
    assert engine.key(asked) == asked.key(wire_version="least-1")

    async def work() -> None:
        assert await engine.preflight(MODEL) is None
        assert await engine.served() is None
        await engine.load(MODEL)
        engine.recorded("key")
        engine.drain()
        assert isinstance(await engine.complete(asked, lambda _: None), Answered)
        await engine.aclose()

    asyncio.run(work())


def test_an_engine_without_vectors_names_the_model_and_what_has_some() -> None:
    with pytest.raises(
        BadModel, match=r"'mine:x@r1' has no vectors and cannot embed \(2 texts.*dense:"
    ):
        asyncio.run(Least().embed(MODEL, ["a", "b"], query=False))


def test_a_tier_without_a_model_says_so() -> None:
    assert [kind.generates for kind in (Least, Builtin, Dense)] == [True, False, False]
    assert ModelRef().is_builtin
    assert not MODEL.is_builtin


def compared_endpoints(source: str) -> Iterator[int]:
    """Give the lines on which something's `endpoint` is compared with a word."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = any(isinstance(s, ast.Attribute) and s.attr == "endpoint" for s in sides)
            word = any(isinstance(s, ast.Constant | ast.Set | ast.Tuple) for s in sides)
            if named and word:
                yield node.lineno


def test_no_endpoints_name_is_compared_with_a_word() -> None:
    assert list(compared_endpoints("if model.endpoint == 'builtin':\n    pass")) == [1]
    for path in (ROOT / "nemoflows").rglob("*.py"):
        assert list(compared_endpoints(path.read_text())) == [], path
