"""What a server sends beside a good answer costs no answer, is not paid twice, and is no credit.

The bodies are sent over real sockets; a few hundred more are read as they would be from a record.
`FUZZ` in the environment reads and sends more of them.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import math
import os
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as chosen
from hypothesis import strategies as st

from nemoflows.calls import Answered, Outcome, Reply, Unusable
from nemoflows.engines.anthropic.engine import Anthropic
from nemoflows.engines.http.engine import RemoteEngine
from nemoflows.engines.http.errors import ErrorReplyError, MalformedReplyError
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.models import Dialect, Endpoint
from nemoflows.money import prices
from nemoflows.money.budgets import Account, Budget
from nemoflows.settings import Settings
from nemoflows.types import ModelRef
from tests.journals import only_record, rewrite
from tests.support import request

N = int(os.environ.get("FUZZ", "300"))
"""Bodies per dialect."""
DIALECTS: tuple[Dialect, ...] = ("compatible", "anthropic")
WORDS = "It is long."
GOOD: dict[str, dict[str, Any]] = {
    "compatible": {
        "id": "c", "object": "chat.completion", "created": 1, "model": "tiny",
        "system_fingerprint": "fp",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": WORDS, "refusal": None},
        }],
        "usage": {
            "prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
            "prompt_tokens_details": {"cached_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    },
    "anthropic": {
        "id": "m", "type": "message", "role": "assistant", "model": "tiny",
        "content": [{"type": "text", "text": WORDS}], "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 990, "output_tokens": 100, "cache_read_input_tokens": 10,
            "cache_creation_input_tokens": 0, "output_tokens_details": {"thinking_tokens": 5},
        },
    },
}  # fmt: skip
USED = {
    "compatible": ("prompt_tokens", "completion_tokens"),
    "anthropic": ("input_tokens", "output_tokens"),
}


class Canned(BaseHTTPRequestHandler):
    """Answers every call with the body that stands for it."""

    protocol_version = "HTTP/1.1"
    body: ClassVar[bytes] = b""
    packing: ClassVar[str] = ""
    charset: ClassVar[str] = "utf-8"
    n_sent: ClassVar[int] = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        Canned.n_sent += 1
        self.send_response(200)
        self.send_header("content-type", f"application/json; charset={self.charset}")
        if self.packing:
            self.send_header("content-encoding", self.packing)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Canned)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def endpoint(dialect: Dialect, url: str) -> Endpoint:
    return Endpoint(dialect=dialect, base_url=url, usd_per_mtok=(1.0, 5.0))


def engine(dialect: Dialect, url: str = "http://127.0.0.1:1") -> RemoteEngine:
    kind = Anthropic if dialect == "anthropic" else OpenAI
    return kind(endpoint(dialect, url), name="near", deadline_s=20)


Result = Success[str] | Failure


def ask(
    dialect: Dialect, url: str, body: bytes, root: Path | str, budget: Budget | None = None
) -> tuple[Result, int, LLMClient]:
    """Return what a new process makes of a body, and how often it asked for it."""
    Canned.body, before = body, Canned.n_sent
    settings = Settings(run="bodies", endpoints={"near": endpoint(dialect, url)})
    llm = LLMClient(Engines(settings), Journal(str(root), run="bodies"), settings=settings)
    account = Account(budget=budget or Budget())
    spec = CallSpec(request(model="near:tiny"), lambda reply, _: reply.text, account=account)

    async def work() -> Result:
        try:
            return await llm.complete(spec)
        finally:
            await llm.aclose()

    return asyncio.run(work()), Canned.n_sent - before, llm


def odd(dialect: Dialect, *path: str | int, value: object) -> bytes:
    """Return the good body with one field of another kind."""
    body = copy.deepcopy(GOOD[dialect])
    at: Any = body
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return json.dumps(body).encode()


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


def kept(body: bytes) -> Reply:
    return Reply(raw=body.decode())


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
