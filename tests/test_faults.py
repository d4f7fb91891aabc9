"""What goes wrong at a provider, over real sockets, with both SDKs: always a typed outcome.

Every fault is served by a server on loopback. A fault that passes is followed by a reply, one that
lasts is served again and again; attempts are counted by the server too.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest

from nemoflows.calls import Answered, Attempt, Outcome, Unanswered, Unusable
from nemoflows.engines.anthropic.engine import Anthropic
from nemoflows.engines.base import Engine
from nemoflows.engines.http import transport
from nemoflows.engines.http.told import told_by
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.journal.records import is_in_doubt
from nemoflows.models import Endpoint
from tests.loopback import ModelServer
from tests.support import request

pytestmark = pytest.mark.usefixtures("quick")

SDKS = ("openai", "anthropic")
PASSING = {
    "408": "down",
    "409": "down",
    "429": "rate_limited",
    "429:0": "rate_limited",
    "500": "down",
    "501": "down",
    "502": "down",
    "503": "down",
    "504": "down",
    "529": "down",
    "html:502": "down",
    "html:503": "down",
    "close": "down",
    "reset": "down",
    "reset_body": "down",
    "cut": "down",
    "malformed": "down",
    "empty": "down",
    "text": "down",
    "error200": "down",
    "stream": "down",
}
"""Faults that may pass by themselves, and what they are called when they do not."""
HEALING = {
    "429", "429:0", "502", "503", "504", "529", "html:502", "html:503",
    "close", "reset", "error200", "stream",
}  # fmt: skip
"""Faults that the next minutes may heal: waited for to the call's deadline."""
LASTING = (
    "400", "401", "402", "403", "404", "405", "413", "418", "422", "431", "html:403",
    "shape", "body:null", "body:[1, 2]", "body:{}", 'body:{"success": false, "code": "E1207"}',
    'body:{"response": "It is long.", "done": true}',
    'body:{"message": {"content": "It"}, "done": false}\n{"message": {}, "done": true}',
)  # fmt: skip
"""Refusals that come back until somebody changes something."""
SPENT = {
    "openai": ["429:insufficient_quota"],
    "anthropic": ["429:enforced_spend_limit_reached", "429:contract_spend_limit_reached"],
}
ENDS = {
    "openai": {"length": "truncated", "content_filter": "refused"},
    "anthropic": {
        "max_tokens": "truncated",
        "refusal": "refused",
        "model_context_window_exceeded": "context",
        "pause_turn": "paused",
    },
}


@dataclass(frozen=True)
class Asked:
    """One SDK against a server that fails."""

    sdk: str
    server: ModelServer

    def after(
        self, *faults: str, deadline_s: float = 60, text: str = "hello"
    ) -> tuple[Outcome, list[Attempt]]:
        self.server.faults.extend(faults)
        attempts: list[Attempt] = []

        async def work() -> Outcome:
            engine = self.engine(deadline_s)
            try:
                return await engine.complete(request(text, model="near:tiny"), attempts.append)
            finally:
                await engine.aclose()

        return asyncio.run(work()), attempts

    def engine(self, deadline_s: float) -> Engine:
        if self.sdk == "openai":
            endpoint = Endpoint(dialect="openai", base_url=self.server.url)
            return OpenAI(endpoint, name="near", deadline_s=deadline_s)
        url = self.server.url.removesuffix("/v1")
        endpoint = Endpoint(dialect="anthropic", base_url=url)
        return Anthropic(endpoint, name="near", deadline_s=deadline_s)


@pytest.fixture(params=SDKS)
def asked(request: pytest.FixtureRequest, server: ModelServer) -> Asked:
    return Asked(request.param, server)


def test_there_are_enough_faults() -> None:
    assert len(PASSING) + len(LASTING) + 8 >= 40


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_costs_one_more_attempt(fault: str, asked: Asked) -> None:
    outcome, attempts = asked.after(fault)
    assert isinstance(outcome, Answered), outcome
    assert json.loads(outcome.reply.text) == {"text": "hello"}
    assert len(attempts) == len(asked.server.requests) == 2
    assert [attempt.status == "ok" for attempt in attempts] == [False, True]


@pytest.mark.parametrize("fault", sorted(HEALING))
def test_what_may_heal_is_waited_for_to_the_deadline(fault: str, asked: Asked) -> None:
    outcome, attempts = asked.after(*[fault] * 12)
    assert isinstance(outcome, Answered), outcome
    assert len(attempts) == len(asked.server.requests) == 13
    outcome, attempts = asked.after(*[fault] * 9999, deadline_s=0.4)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == (PASSING[fault], True)
    assert "'near'" in outcome.detail


@pytest.mark.parametrize("fault", sorted(PASSING.keys() - HEALING))
def test_a_fault_that_lasts_ends_typed_after_bounded_attempts(fault: str, asked: Asked) -> None:
    outcome, attempts = asked.after(*[fault] * 9)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == (PASSING[fault], True)
    assert len(attempts) == len(asked.server.requests) == transport.MAX_ATTEMPTS
    assert "'near'" in outcome.detail


@pytest.mark.parametrize("fault", LASTING)
def test_a_refusal_that_lasts_is_not_asked_again(fault: str, asked: Asked) -> None:
    outcome, attempts = asked.after(*[fault] * 3)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == ("rejected", False)
    assert len(attempts) == len(asked.server.requests) == 1


def test_a_spent_account_is_final_and_says_what_to_do(asked: Asked) -> None:
    for fault in SPENT[asked.sdk]:
        asked.server.requests.clear()
        outcome, attempts = asked.after(fault)
        assert isinstance(outcome, Unanswered)
        assert (outcome.reason, outcome.transient) == ("rejected", False)
        assert "limit of spending" in outcome.detail
        assert len(attempts) == len(asked.server.requests) == 1


@pytest.mark.parametrize("fault", ["429:999", "503:999", "529:999"])
def test_too_long_a_pause_is_left_to_the_pods_next_attempt(fault: str, asked: Asked) -> None:
    outcome, attempts = asked.after(fault)
    assert isinstance(outcome, Unanswered)
    assert outcome.transient
    assert len(attempts) == 1


@pytest.mark.parametrize("fault", ["hang:1", "drip:1"])
def test_a_server_that_takes_for_ever_meets_the_deadline(fault: str, asked: Asked) -> None:
    asked.after()  # importing an SDK takes longer than this deadline
    outcome, attempts = asked.after(fault, deadline_s=0.3)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == ("deadline", True)
    assert [attempt.status for attempt in attempts] == ["cancelled"]


def test_too_long_a_prompt_is_an_outcome_with_its_numbers(asked: Asked) -> None:
    outcome, attempts = asked.after("too_long:215000")
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient, len(attempts)) == ("too_long", False, 1)
    assert "215000 and 200000 tokens" in outcome.detail


def test_a_reply_that_cannot_be_used_is_typed_and_keeps_what_it_cost(asked: Asked) -> None:
    for end, reason in ENDS[asked.sdk].items():
        outcome, attempts = asked.after(end)
        assert isinstance(outcome, Unusable)
        assert outcome.reason == reason
        assert outcome.reply.usage is not None
        assert outcome.reply.usage.output_tokens == 30
        assert len(attempts) == 1


def test_a_page_of_a_gateways_is_not_quoted(asked: Asked) -> None:
    outcome, attempts = asked.after(*["html:403"] * 2)
    assert isinstance(outcome, Unanswered)
    assert "gateway" not in outcome.detail
    assert all("gateway" not in attempt.status for attempt in attempts)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("html:200", '"Bad gateway"'),
        ("page:<!DOCTYPE html><title>Sign &amp; go</title><p>Your name?", '"Sign & go"'),
        ("page:<script>let a</script><h1>Blocked</h1> by rule 7", '"Blocked by rule 7"'),
        ("page:The tunnel is closed", '"The tunnel is closed"'),
        ("body:<html><body>Captive portal", '"Captive portal"'),
        ("page:", ""),
    ],
)
def test_a_page_in_place_of_a_reply_is_final_free_and_named(
    page: str, said: str, asked: Asked
) -> None:
    outcome, attempts = asked.after(*[page] * 3)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == ("rejected", False)
    assert [attempt.status for attempt in attempts] == ["PageReplyError"]
    assert said in outcome.detail
    assert "web page" in outcome.detail
    assert not any(is_in_doubt(attempt.status) for attempt in attempts)


def test_a_reply_that_calls_itself_a_page_is_read(asked: Asked) -> None:
    good = {"openai": COMPLETION, "anthropic": MESSAGE}[asked.sdk]
    outcome, _ = asked.after(f"page:{json.dumps(good)}")
    assert isinstance(outcome, Answered), outcome
    assert outcome.reply.text == "It is long."


COMPLETION = {
    "choices": [{"message": {"content": "It is long."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3},
}
MESSAGE = {
    "type": "message",
    "content": [{"type": "text", "text": "It is long."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 9, "output_tokens": 3},
}
TOLD_IN_200 = {
    "402": {"error": {"message": "No funds are left", "code": 402}},
    "402 ": {"error": {"message": "No funds are left", "code": "402"}},
    "402  ": {"error": {"message": "No funds are left", "type": "insufficient_quota"}},
    "401": {"type": "error", "error": {"type": "authentication_error", "message": "Who are you?"}},
    "403": {"detail": {"error": {"message": "Not for you", "status": 403}}},
    "404": {"object": "error", "message": "There is no such model", "code": 404},
    "400": {"errors": [{"message": "Bad form", "code": "invalid_request_error"}]},
}
"""Final errors in the body of a reply with status 200."""
PASSES_IN_200 = {
    "429": {"error": {"message": "Slower, please", "code": "rate_limit_exceeded"}},
    "500": {"error": {"message": "Oh", "type": "api_error"}},
    "502": {"error": {"message": "The upstream failed", "code": 502}},
    "503": {"detail": {"msg": "Not yet", "code": 503}},
    "529": {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}},
    "": {"error": "Something broke"},
}


@pytest.mark.parametrize("status", TOLD_IN_200)
def test_an_error_in_a_reply_ends_as_its_code_says(status: str, asked: Asked) -> None:
    body = TOLD_IN_200[status]
    outcome, attempts = asked.after(*[f"body:{json.dumps(body)}"] * 3)
    assert isinstance(outcome, Unanswered)
    assert (outcome.reason, outcome.transient) == ("rejected", False)
    assert [attempt.status for attempt in attempts] == [f"ErrorReplyError {status.strip()}"]
    assert f'"{told_by(body).words}"' in outcome.detail
    assert not any(is_in_doubt(attempt.status) for attempt in attempts)


@pytest.mark.parametrize("status", PASSES_IN_200)
def test_an_error_in_a_reply_passes_as_its_code_says(status: str, asked: Asked) -> None:
    outcome, attempts = asked.after(f"body:{json.dumps(PASSES_IN_200[status])}")
    assert isinstance(outcome, Answered), outcome
    assert [attempt.status for attempt in attempts] == [f"ErrorReplyError {status}".strip(), "ok"]
    assert not any(is_in_doubt(attempt.status) for attempt in attempts)


def test_what_is_no_reply_of_the_api_is_named(asked: Asked) -> None:
    outcome, attempts = asked.after('body:{"success": false, "message": "The tenant sleeps"}')
    assert isinstance(outcome, Unanswered)
    said = 'answered with the fields success, message and status 200 at attempt 1: "The tenant'
    assert said in outcome.detail
    assert "base_url and the dialect" in outcome.detail
    assert is_in_doubt(attempts[0].status), "it may have been billed all the same"


def test_a_servers_words_are_shown_without_keys_and_prompt(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "q7-very-own-words")
    prompt = "The quick brown fox jumps over the lazy dog, twice."
    said = "Key q7-very-own-words and sk-abc***wxyz refused at once"
    for words in (f"{said}: {prompt}", f"{said}: see \x1b[31mthis"):
        body = json.dumps({"error": {"message": words, "code": 401}})
        outcome, _ = asked.after(f"body:{body}", text=prompt)
        assert isinstance(outcome, Unanswered)
        assert "Key [key] and [key] refused at once" in outcome.detail
        assert "brown fox" not in outcome.detail
        assert "\x1b" not in outcome.detail


def test_a_model_that_loads_is_waited_for(asked: Asked) -> None:
    loading = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    outcome, attempts = asked.after(*[f"503json:{json.dumps(loading)}"] * 12)
    assert isinstance(outcome, Answered)
    assert len(attempts) == 13
    outcome, _ = asked.after(*[f"503json:{json.dumps(loading)}"] * 9999, deadline_s=0.3)
    assert isinstance(outcome, Unanswered)
    assert outcome.transient
    assert "Loading model" in outcome.detail


def test_a_stream_that_nobody_asked_for_is_read(asked: Asked) -> None:
    asked.server.replies["chat"] = "It is blue."
    outcome, attempts = asked.after("sse")
    assert isinstance(outcome, Answered), outcome
    assert outcome.reply.text.strip('{}"') in {"It is blue.", 'text": "hello'}
    assert outcome.reply.usage is not None
    assert outcome.reply.usage.output_tokens == 30
    assert len(attempts) == 1
    outcome, attempts = asked.after("sse:cut")
    assert isinstance(outcome, Answered)
    assert len(attempts) == 2, "a stream that breaks off is no reply"
