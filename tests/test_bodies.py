"""What a server sends beside a good answer costs no answer, is not paid twice, and is no credit.

The bodies are sent over real sockets.
"""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from nemoflows.calls import Answered, Reply
from nemoflows.engines.http.errors import ErrorReplyError
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.journal import Journal
from nemoflows.llm.results import Failure, Success
from nemoflows.models import Dialect
from nemoflows.money.budgets import Budget
from tests.bodies import (
    DIALECTS,
    GOOD,
    USED,
    WORDS,
    Canned,
    ask,
    endpoint,
    engine,
    kept,
    odd,
    serve_canned,
)
from tests.journals import only_record, rewrite
from tests.support import request


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_canned() as served:
        yield served


ODD: list[object] = ["many", 1000.5, -5, True, [1], {"a": 1}, None, 10**400, 2 * 10**7 + 1]


@pytest.mark.parametrize(
    ("field", "value"), [*product((0, 1), ODD), (0, 0)], ids=lambda value: repr(value)[:12]
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_false_count_is_unknown(dialect: Dialect, field: int, value: object) -> None:
    body = odd(dialect, "usage", USED[dialect][field], value=value)
    if dialect == "anthropic":  # where all may be cached
        body = body.replace(b'"cache_read_input_tokens": 10', b'"cache_read_input_tokens": 0')
    outcome = engine(dialect).read(kept(body))
    assert isinstance(outcome, Answered)
    assert (outcome.reply.text, outcome.reply.usage) == (WORDS, None)


def test_thoughts_beyond_what_was_written_are_billed_on_top() -> None:
    body = odd("compatible", "usage", "completion_tokens_details", "reasoning_tokens", value=2000)
    usage = engine("compatible").read(kept(body)).reply.usage  # type: ignore[union-attr]
    assert usage is not None
    assert (usage.output_tokens, usage.reasoning_tokens) == (2100, 2000)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("odd_end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_ends_its_lines_where_events_do(dialect: Dialect, odd_end: str, end: str) -> None:
    said = f"one{odd_end}two"
    message = json.loads(json.dumps(GOOD["compatible"]).replace(WORDS, "half"))
    chunk = message | {"choices": [{"delta": {"content": said}, "finish_reason": "stop"}]}
    told = [chunk | {"detail": {"node": "n1"}, "body": "x"}]
    if dialect == "anthropic":
        told = [
            {"type": "message_start", "message": GOOD["anthropic"] | {"details": {"node": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
            {"type": "content_block_delta", "index": 0, "details": {"node": 1},
             "delta": {"type": "text_delta", "text": said}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        ]  # fmt: skip
    raw = "".join(f"data: {json.dumps(each, ensure_ascii=False)}{end}{end}" for each in told)
    outcome = engine(dialect).read(Reply(raw=raw))
    assert isinstance(outcome, Answered)
    assert outcome.reply.text == said


@pytest.mark.parametrize(
    "told", [{"error": {"message": "no"}}, {"type": "error", "message": "no"}, {"object": "error"}]
)
def test_an_error_in_a_stream_is_free(told: dict[str, Any]) -> None:
    with pytest.raises(ErrorReplyError):
        engine("compatible").read(Reply(raw=f"data: {json.dumps(told)}\n\n"))


def test_a_reply_in_a_list_and_one_of_the_older_api_are_read() -> None:
    good = GOOD["compatible"]
    older = good | {"choices": [{"index": 0, "finish_reason": "stop", "text": WORDS}]}
    for body in ([good], older, [older]):
        outcome = engine("compatible").read(Reply(raw=json.dumps(body)))
        assert isinstance(outcome, Answered)
        assert outcome.reply.text == WORDS
    with pytest.raises(ErrorReplyError):
        engine("compatible").read(Reply(raw='[{"error": {"code": 401, "message": "no"}}]'))


@pytest.mark.parametrize("value", [-1, True, "x", 10.5])
def test_more_cached_than_read_and_odd_counts_are_unknown(value: object) -> None:
    for group, name in (
        ("prompt_tokens_details", "cached_tokens"),
        ("completion_tokens_details", "reasoning_tokens"),
    ):
        body = odd("compatible", "usage", group, name, value=value)
        outcome = engine("compatible").read(kept(body))
        assert isinstance(outcome, Answered)
        assert outcome.reply.usage is None
    body = odd("compatible", "usage", "prompt_tokens_details", "cached_tokens", value=2000)
    assert engine("compatible").read(kept(body)).reply.usage is None  # type: ignore[union-attr]
    body = odd("anthropic", "usage", "cache_read_input_tokens", value=-1)
    assert engine("anthropic").read(kept(body)).reply.usage is None  # type: ignore[union-attr]


ELSEWHERE: list[tuple[Dialect, tuple[str | int, ...], object]] = [
    ("compatible", ("usage",), "lots"),
    ("compatible", ("usage",), [1, 2]),
    ("compatible", ("usage", "prompt_tokens_details"), [3]),
    ("compatible", ("model",), 5),
    ("compatible", ("system_fingerprint",), {"a": 1}),
    ("compatible", ("choices", 0, "finish_reason"), ["x"]),
    ("compatible", ("choices", 0, "message", "tool_calls"), "f()"),
    (
        "compatible",
        ("choices", 0, "message", "tool_calls"),
        [{"id": 5, "type": "custom", "custom": {"name": "x", "input": "y"}}, 7],
    ),
    ("compatible", ("choices", 0, "message", "reasoning_content"), 9),
    ("anthropic", ("usage",), "lots"),
    ("anthropic", ("model",), None),
    ("anthropic", ("stop_reason",), {"a": 1}),
    ("anthropic", ("content",), [{"type": "text", "text": WORDS}, {"type": 4}, "x"]),
    ("anthropic", ("content",), [{"type": "tool_use"}, {"type": "text", "text": WORDS}]),
    ("anthropic", ("content",), WORDS),
]


@pytest.mark.parametrize(("dialect", "path", "value"), ELSEWHERE)
def test_an_odd_field_costs_no_answer_and_is_not_asked_again(
    dialect: Dialect, path: tuple[str | int, ...], value: object, url: str, tmp_path: Path
) -> None:
    body = odd(dialect, *path, value=value)
    for expected in (1, 0):
        found, n_sent, _ = ask(dialect, url, body, tmp_path)
        assert isinstance(found, Success), found
        assert (found.value, n_sent) == (WORDS, expected)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "gzip, gzip": lambda data: gzip.compress(gzip.compress(data)),
    "x-wibble": bytes,
    "identity": bytes,
}


@pytest.mark.parametrize("told", ["as it is", "not at all", "otherwise"])
@pytest.mark.parametrize("packing", PACKED)
def test_a_body_is_read_whatever_its_packing_is_said_to_be(
    packing: str, told: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"gzip": "", "deflate": "gzip"}.get(packing, "deflate")
    monkeypatch.setattr(Canned, "packing", said if told == "otherwise" else packing)
    body = json.dumps(GOOD["compatible"]).encode()
    packed = PACKED[packing](body) if told != "not at all" else body
    for expected in (1, 0):
        result, n_sent, _ = ask("compatible", url, packed, tmp_path)
        assert isinstance(result, Success)
        assert (result.value, n_sent) == (WORDS, expected)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32-le", "utf-8-sig", "latin-1"])
def test_a_body_is_read_in_its_own_encoding(
    encoding: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Canned, "charset", "latin-1")  # true of one of them
    body = json.dumps(GOOD["compatible"], ensure_ascii=False).replace(WORDS, "It is Größe 9.")
    result, n_sent, _ = ask("compatible", url, body.encode(encoding), tmp_path)
    assert isinstance(result, Success), result
    assert (result.value, n_sent) == ("It is Größe 9.", 1)


def test_a_body_that_unpacks_without_end_is_paid_once_and_bounded(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Canned, "packing", "gzip")
    part = gzip.compress(b" " * 2**22)
    packed = part[:10] + zlib.compressobj(9, wbits=-15).compress(b" " * 2**28) + part[10:]
    tracemalloc.start()
    for expected in (1, 0):
        result, n_sent, _ = ask("compatible", url, packed, tmp_path)
        assert isinstance(result, Failure)
        assert (result.reason, n_sent) == ("invalid", expected)
    assert tracemalloc.get_traced_memory()[1] < 2**28, "less than it unpacks to"
    tracemalloc.stop()


def test_a_stream_with_an_odd_index_is_read() -> None:
    start = {"type": "message_start", "message": GOOD["anthropic"] | {"content": []}}
    events: list[dict[str, Any]] = [start]
    odd_ones: list[object] = [[], {}, "0", 0]
    for index in odd_ones:
        block = {"type": "text", "text": ""}
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        delta = {"type": "text_delta", "text": WORDS if index == 0 else "no"}
        events.append({"type": "content_block_delta", "index": index, "delta": delta})
    events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    outcome = engine("anthropic").read(kept(body))
    assert isinstance(outcome, Answered)
    assert outcome.reply.text == WORDS


@pytest.mark.parametrize("dialect", DIALECTS)
def test_digits_without_end_are_read(dialect: Dialect, url: str, tmp_path: Path) -> None:
    body = odd(dialect, "usage", USED[dialect][0], value=7)
    found, n_sent, _ = ask(dialect, url, body.replace(b": 7", b": " + b"9" * 9_000), tmp_path)
    assert isinstance(found, Success), found
    assert n_sent == 1


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("content", [None, 5, [], "[" * 50_000])
def test_a_paid_body_that_says_nothing_is_recorded_once(
    dialect: Dialect, content: object, url: str, tmp_path: Path
) -> None:
    body = dict(GOOD[dialect])
    body["content" if dialect == "anthropic" else "choices"] = content
    told = json.dumps(body).encode()
    if isinstance(content, str):  # nested deeper than a parser goes
        told = json.dumps({"usage": 1, "choices": 0}).replace("0}", content).encode()
    for expected in (1, 0):
        _, n_sent, llm = ask(dialect, url, told, tmp_path)
        assert n_sent == expected
        assert len(llm.journal.keys()) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_unknown_price_counts_at_its_reservation_also_after_a_restart(
    dialect: Dialect, url: str, tmp_path: Path
) -> None:
    body = odd(dialect, "usage", USED[dialect][0], value=-5_000_000)
    for _ in range(2):
        budget = Budget(1.0)
        found, _, llm = ask(dialect, url, body, tmp_path, budget)
        assert isinstance(found, Success)
        [spent] = llm.spent
        assert spent.usd is None
        assert budget.settled_usd == 0
        assert budget.in_doubt_usd == spent.worst_usd == llm.worst_usd(request(model="near:tiny"))
    used = llm.history.open_budget(1.0, scope="", call_keys=found.calls)
    assert used.in_doubt_usd == spent.worst_usd


def test_a_price_below_nothing_in_an_old_record_is_unknown(url: str, tmp_path: Path) -> None:
    ask("compatible", url, json.dumps(GOOD["compatible"]).encode(), tmp_path)
    name, data = only_record(tmp_path)
    record = json.loads(data)
    rewrite(tmp_path, name, json.dumps(record | {"usd": -0.5}).encode())
    outcome = Journal(str(tmp_path)).outcome(record["key"])
    assert outcome is not None
    assert outcome.usd is None


def test_a_record_is_read_anew_from_its_body(url: str, tmp_path: Path) -> None:
    """What an earlier reading lost, or failed at, is found by a later one without paying."""
    ask("compatible", url, json.dumps(GOOD["compatible"]).encode(), tmp_path)
    name, data = only_record(tmp_path)
    record = json.loads(data)
    assert json.loads(record["outcome"]["reply"]["raw"]) == GOOD["compatible"]
    lost = record["outcome"]["reply"] | {"text": ""}
    record["outcome"] = {"kind": "unusable", "reason": "invalid", "detail": "", "reply": lost}
    rewrite(tmp_path, name, json.dumps(record).encode())
    found, n_sent, _ = ask("compatible", url, b"", tmp_path)
    assert isinstance(found, Success)
    assert (found.value, n_sent) == (WORDS, 0)


def test_a_record_without_a_body_replays_as_it_is(url: str, tmp_path: Path) -> None:
    ask("compatible", url, json.dumps(GOOD["compatible"]).encode(), tmp_path)
    name, data = only_record(tmp_path)
    record = json.loads(data)
    del record["outcome"]["reply"]["raw"], record["worst_usd"]
    rewrite(tmp_path, name, json.dumps(record).encode())
    found, n_sent, _ = ask("compatible", url, b"", tmp_path)
    assert isinstance(found, Success)
    assert (found.value, n_sent) == (WORDS, 0)


def test_the_endpoints_own_key_is_not_recorded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", "sk-0123456789")
    near = endpoint("compatible", url).model_copy(update={"key_env": "THE_KEY"})
    told = OpenAI(near, name="near", deadline_s=1).kept('{"you sent": "sk-0123456789"}', [])
    assert told.raw == '{"you sent": "***"}'


# What a fuzz of bodies must hold ----------------------------------------------------------------
