"""Bodies with a few fields changed at random are read, paid once, and no credit.

`FUZZ` in the environment reads and sends more of them.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as chosen
from hypothesis import strategies as st

from nemoflows.calls import Answered, Outcome, Unusable
from nemoflows.engines.http.errors import MalformedReplyError
from nemoflows.llm.results import Success
from nemoflows.models import Dialect
from nemoflows.money import prices
from nemoflows.money.budgets import Budget
from nemoflows.types import ModelRef
from tests.bodies import DIALECTS, GOOD, WORDS, ask, endpoint, engine, kept, serve_canned

N = int(os.environ.get("FUZZ", "300"))
"""Bodies per dialect."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_canned() as served:
        yield served


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([-1, 0, 10**25, 10**400, math.inf, -math.inf, math.nan, "\ud83d", "1"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def places(body: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the way to every field of a body."""
    items = body.items() if isinstance(body, dict) else enumerate(body)
    found = []
    for name, value in items:
        found.append((*at, name))
        if isinstance(value, dict | list):
            found += places(value, (*at, name))
    return found


@st.composite
def mutated(draw: st.DrawFn, dialect: Dialect) -> tuple[bytes, bool]:
    """Return a good body with a few fields changed, and whether its text was left alone."""
    body = copy.deepcopy(GOOD[dialect])
    whole = True
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(places(body)))
        at: Any = body
        for name in path[:-1]:
            at = at[name]
        if draw(st.booleans()) and isinstance(at, dict):
            del at[path[-1]]
        else:
            at[path[-1]] = draw(VALUES)
        whole = whole and path[0] not in {"choices", "content", "stop_reason"}
        if not isinstance(body, dict) or not places(body):
            break
    return json.dumps(body).encode(), whole


def holds(dialect: Dialect, outcome: Outcome, *, whole: bool) -> None:
    assert isinstance(outcome, Answered | Unusable)
    if whole:
        assert isinstance(outcome, Answered)
        assert outcome.reply.text == WORDS
    if outcome.reply.usage is not None:
        usd = prices.price_usd(
            ModelRef.model_validate("near:tiny"),
            endpoint(dialect, ""),
            outcome.reply.usage,
            at_s=1.0,
        )
        assert usd is not None
        assert 0 <= usd < math.inf


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whatever_a_body_holds_it_is_read(dialect: Dialect) -> None:
    reader = engine(dialect)

    @chosen(max_examples=N, deadline=None)
    @given(mutated(dialect))
    def check(found: tuple[bytes, bool]) -> None:
        body, whole = found
        try:
            outcome = reader.read(kept(body))
        except MalformedReplyError:
            assert not whole
            return
        holds(dialect, outcome, whole=whole)
        outcome.model_dump_json()

    check()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whatever_a_server_sends_is_paid_once_and_is_no_credit(
    dialect: Dialect, url: str, tmp_path: Path
) -> None:
    count = iter(range(10**9))

    @chosen(max_examples=N // 10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(mutated(dialect).filter(lambda found: found[1]))
    def check(found: tuple[bytes, bool]) -> None:
        budget, root = Budget(1.0), tmp_path / str(next(count))
        told, n_sent, llm = ask(dialect, url, found[0], root, budget)
        assert isinstance(told, Success), told
        assert n_sent == 1
        assert 0 <= budget.settled_usd < math.inf
        assert 0 < budget.used_usd < math.inf
        assert llm.journal.durable
        assert ask(dialect, url, found[0], root)[1] == 0

    check()
