"""The transport to a remote endpoint: deadlines, attempts, keys, what errors may tell."""

from __future__ import annotations

import asyncio
import json
import re
import time

import httpx2
import openai
import pytest

from nemoflows.calls import Attempt, Unanswered
from nemoflows.engines.http import outages
from nemoflows.engines.http import transport as transport_module
from nemoflows.engines.http.errors import (
    ErrorReplyError,
    MalformedReplyError,
    is_free,
)
from nemoflows.engines.http.transport import Transport
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.errors import BadModel, EndpointDown
from nemoflows.journal.records import is_in_doubt
from nemoflows.models import BUILT_IN, Endpoint
from tests.transports import CANARY, URL, error, raising, send, transport_to

pytestmark = pytest.mark.usefixtures("quick")

STATUS = re.compile(r"ok|cancelled|\w+( \d{3})?")


def test_an_error_nobody_knows_is_an_outcome_not_a_crash() -> None:
    done, attempts = send(raising(ZeroDivisionError(CANARY)))
    assert isinstance(done, Unanswered)
    assert "ZeroDivisionError" in done.detail
    assert [attempt.status for attempt in attempts] == ["ZeroDivisionError"]


def test_an_error_of_ours_goes_through_at_once() -> None:
    attempts: list[Attempt] = []
    with pytest.raises(BadModel, match="wrong"):
        asyncio.run(transport_to().send(raising(BadModel("wrong")), attempts.append))
    assert len(attempts) == 1


def test_attempts_are_numbered_from_one_in_order_of_time() -> None:
    _, attempts = send(raising(error(500), error(429), MalformedReplyError(CANARY)))
    assert [attempt.number for attempt in attempts] == [1, 2, 3, 4]
    assert [attempt.status for attempt in attempts] == [
        "APIStatusError 500",
        "RateLimitError 429",
        "MalformedReplyError",
        "ok",
    ]
    moments = [at for each in attempts for at in (each.started_s, each.ended_s)]
    assert moments == sorted(moments)


@pytest.mark.parametrize("told", [error(400), error(401), error(404), error(500)], ids=str)
def test_the_outcome_says_what_the_provider_said_and_attempts_do_not(told: Exception) -> None:
    done, attempts = send(raising(*[told] * 9))
    assert isinstance(done, Unanswered)
    assert f': "{CANARY}".' in done.detail
    assert not any("canary" in attempt.model_dump_json() for attempt in attempts)
    assert all(STATUS.fullmatch(attempt.status) for attempt in attempts)


def test_a_deadline_ends_an_attempt_and_reports_it_as_cancelled() -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return "never"

    done, attempts = send(never, transport_to(deadline_s=0.05))
    assert isinstance(done, Unanswered)
    assert (done.reason, done.transient) == ("deadline", True)
    assert "'near' at http://127.0.0.1:9/v1 gave no reply within 0.05 s" in done.detail
    assert [attempt.status for attempt in attempts] == ["cancelled"]


def test_an_attempt_without_an_answer_is_not_told_as_an_earlier_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outages, "HANGS_S", 0.0)
    refused = [error(503, retry_after="0")]

    async def call() -> str:
        if refused:
            raise refused.pop()
        await asyncio.Event().wait()
        return "never"

    done, attempts = send(call, transport_to(deadline_s=0.2))
    assert isinstance(done, Unanswered)
    assert done.reason == "deadline"
    assert [attempt.status for attempt in attempts] == ["APIStatusError 503", "cancelled"]


@pytest.mark.parametrize("rpm", [None, 1])
def test_a_process_that_ends_waits_out_no_pause(rpm: int | None) -> None:
    near = Endpoint(dialect="openai", base_url=URL, rpm=rpm)
    engine = OpenAI(near, name="near", deadline_s=60)

    async def work() -> list[str | Unanswered]:
        wish = None if rpm else "60"
        calls = [
            engine.transport.send(raising(*told), lambda _: None)
            for told in ([error(429, retry_after=wish)], [])
        ]
        both = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0.05)
        engine.drain()
        return list(await asyncio.wait_for(asyncio.gather(*both), 10))

    assert any(isinstance(d, Unanswered) and d.reason == "cancelled" for d in asyncio.run(work()))


@pytest.mark.parametrize("status", [400, 408, 429, 499, 500, 501, 502, 503, 504, 524, 529])
def test_what_is_surely_free_is_never_in_doubt(status: int) -> None:
    assert is_free(error(status)) is not is_in_doubt(f"APIStatusError {status}")
    assert is_free(error(status)) is (status not in {408, 499, 502, 504, 524})
    assert is_free(ErrorReplyError({"error": {"code": status}}))


def test_a_caller_who_gives_up_is_not_told_of_a_deadline() -> None:
    attempts: list[Attempt] = []

    async def work() -> None:
        begun = asyncio.Event()

        async def hang() -> str:
            begun.set()
            await asyncio.Event().wait()
            return "never"

        task = asyncio.create_task(transport_to().send(hang, attempts.append))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert [attempt.status for attempt in attempts] == ["cancelled"]


def test_an_endpoint_that_names_no_key_needs_none() -> None:
    assert transport_to().key() == "none"


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_key_names_its_variable_and_its_endpoint(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("KEY_A", value)
    with pytest.raises(BadModel, match=r"'near' needs a key in KEY_A.*no call was made"):
        transport_to(key="KEY_A").key()


def test_no_error_text_holds_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "canary-key")
    transport = transport_to(key="KEY_A")
    assert transport.key() == "canary-key"
    done, _ = send(raising(error(401)), transport)
    assert isinstance(done, Unanswered)
    assert "Check the key in KEY_A." in done.detail
    assert "canary" not in done.detail + transport.where()


def test_an_endpoint_is_named_with_its_address() -> None:
    assert transport_to().where() == f"The endpoint 'near' at {URL}"
    assert transport_to("").where() == "The endpoint 'near' at its public address"


@pytest.mark.parametrize("key", ['quo"ted-key', "back\\slash-key", "a/solidus/key", "plain-key"])
def test_a_key_is_taken_out_however_json_spells_it(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_A", key)
    spelt = "".join(f"\\u{ord(c):04x}" for c in key)
    for told in (key, json.dumps(key), key.replace("/", "\\/"), spelt):
        assert (
            transport_to(key="KEY_A").without_key(f"you sent {told}!").strip('"').count("key") == 0
        )


@pytest.mark.parametrize("url", ["http://user:pass@host/v1", "https://host/v1?key=secret"])
def test_an_address_cannot_hold_what_error_texts_must_not(url: str) -> None:
    with pytest.raises(ValueError, match="use key_env"):
        transport_to(url)


def test_an_endpoint_is_the_sdks_own_where_the_sdk_would_ask_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for url in ("", URL):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        own = BUILT_IN["openai"].model_copy(update={"base_url": url})
        assert Transport(own, "openai", 60).is_the_sdks_own()
        assert not Transport(own, "mine", 60).is_the_sdks_own()
        elsewhere = own.model_copy(update={"base_url": "http://127.0.0.1:10/v1"})
        assert not Transport(elsewhere, "openai", 60).is_the_sdks_own()


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("http://127.0.0.1:9/v1", False),
        ("http://localhost/v1", False),
        ("http://[::1]:9/v1", False),
        ("https://models.example/v1", True),
        ("http://localhost.example/v1", True),
        ("", True),
    ],
)
def test_proxies_are_never_used_on_the_way_to_this_machine(url: str, trusted: bool) -> None:
    assert transport_to(url).trusts_proxies is trusted


def test_waiting_for_a_leader_counts_towards_ones_own_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport_module, "PATIENCE", 10)
    transport = transport_to(deadline_s=0.1)

    async def never() -> str:
        await asyncio.Event().wait()
        return "never"

    async def work() -> list[str | Unanswered]:
        calls = (transport.send(never, lambda _: None, prefix="p") for _ in range(20))
        return list(await asyncio.wait_for(asyncio.gather(*calls), 1.5))

    assert {type(done) for done in asyncio.run(work())} == {Unanswered}


def test_a_refused_leader_leaves_the_lead_to_the_next() -> None:
    transport, order = transport_to(), []

    async def one(n: int) -> None:
        async def call() -> str:
            order.append(f"start {n}")
            await asyncio.sleep(0.005)
            order.append(f"end {n}")
            if n == 0:
                raise error(400)
            return "fine"

        await transport.send(call, lambda _: None, prefix="p")

    async def work() -> None:
        await asyncio.gather(*(one(n) for n in range(4)))

    asyncio.run(work())
    assert order[:4] == ["start 0", "end 0", "start 1", "end 1"]
    assert order[4:6] == ["start 2", "start 3"]


BROKEN = openai.APIConnectionError(message=CANARY, request=httpx2.Request("GET", URL))


@pytest.mark.parametrize(
    ("told", "raised", "words"),
    [
        (BROKEN, EndpointDown, r"'near' at .*did not answer .*\(APIConnectionError"),
        (TimeoutError(), EndpointDown, r"\(TimeoutError"),
        (error(503), EndpointDown, "did not answer"),
        (error(401), BadModel, "refuses the key in KEY_A"),
        (error(404), openai.APIStatusError, "canary"),
        (ValueError("x"), ValueError, "x"),
    ],
    ids=repr,
)
def test_a_preflights_failure_is_ours_where_it_tells_something(
    told: Exception, raised: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "FIRST_CONTACT_S", 0.01)

    async def question() -> str:
        raise told

    transport = transport_to(key="KEY_A", deadline_s=0.1)
    with pytest.raises(raised, match=words):
        asyncio.run(transport.ask_free(question))


def test_a_free_question_waits_for_what_heals() -> None:
    transport = transport_to()
    told = [BROKEN, error(503), TimeoutError(), error(429)]
    assert asyncio.run(transport.ask_free(raising(*told))) == "fine"


def test_a_clock_that_is_set_forward_ends_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    true, ahead_s = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: true() + ahead_s[0])
    refused = raising(error(503), error(503))

    async def call() -> str:
        ahead_s[0] += 86_400.0
        return await refused()

    outcome, attempts = send(call)
    assert (outcome, len(attempts)) == ("fine", 3)
