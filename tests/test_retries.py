"""What the transport to a remote endpoint tries again, after which pause, and how it tells."""

from __future__ import annotations

import asyncio
import re
import time
from email.utils import formatdate

import httpx2
import openai
import pytest

from nemoflows.calls import Attempt, Unanswered
from nemoflows.engines.http import outages
from nemoflows.engines.http.errors import (
    FINAL_CODES,
    MalformedReplyError,
    is_transient,
    retry_after_s,
)
from nemoflows.engines.http.transport import MAX_ATTEMPTS, RETRY_AFTER_CAP_S
from tests.transports import CANARY, URL, error, raising, send, transport_to

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("-5", 0.0),
        ("nan", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_a_retry_after_is_read_where_it_is_a_number(
    header: str | None, pause_s: float | None
) -> None:
    assert retry_after_s(error(429, retry_after=header)) == pause_s


def test_a_retry_after_may_be_a_date_or_milliseconds() -> None:
    told = error(429, retry_after=formatdate(time.time() + 600, usegmt=True))
    assert 500 < (retry_after_s(told) or 0) <= 600
    told.response.headers["retry-after-ms"] = "1500"
    assert retry_after_s(told) == 1.5


def test_an_error_without_a_response_asks_for_no_pause() -> None:
    assert retry_after_s(ValueError("x")) is None


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "soon", "-5", "nan"])
def test_an_odd_retry_after_does_not_end_the_retries(header: str) -> None:
    done, attempts = send(raising(error(429, retry_after=header)))
    assert done == "fine"
    assert len(attempts) == 2


@pytest.mark.parametrize("asked", [str(RETRY_AFTER_CAP_S + 1), "inf"])
def test_a_pause_beyond_the_cap_is_left_to_the_pods_next_attempt(asked: str) -> None:
    refused = error(429, retry_after=asked)
    assert not transport_to()._is_retried(refused)
    done, attempts = send(raising(refused))
    assert isinstance(done, Unanswered)
    assert (done.reason, done.transient, len(attempts)) == ("rate_limited", True, 1)


def test_a_pause_at_the_cap_is_still_waited_for() -> None:
    assert is_transient(error(429, retry_after=f"{RETRY_AFTER_CAP_S:g}"), ())


def test_a_pause_holds_back_everybody_on_the_line_and_nobody_elsewhere() -> None:
    busy, free = transport_to(), transport_to(name="far")
    told, asked = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def refused() -> str:
        order.append("first")
        asyncio.get_running_loop().call_soon(told.set)
        raise error(429, retry_after="60")

    async def second() -> str:
        order.append("second")
        return "fine"

    async def elsewhere() -> str:
        order.append("elsewhere")
        asked.set()
        return "fine"

    async def work() -> None:
        first = asyncio.create_task(busy.send(refused, lambda _: None))
        await told.wait()
        held = asyncio.create_task(busy.send(second, lambda _: None))
        await free.send(elsewhere, lambda _: None)
        await asked.wait()
        for task in (first, held):
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(work())
    assert order == ["first", "elsewhere"]


def test_after_a_shared_pause_everybody_goes_on() -> None:
    transport = transport_to()

    async def work() -> list[str | Unanswered]:
        one = transport.send(raising(error(429, retry_after="0.05")), lambda _: None)
        two = transport.send(raising(error(503, retry_after="0.02")), lambda _: None)
        return list(await asyncio.gather(one, two, transport.send(raising(), lambda _: None)))

    assert asyncio.run(work()) == ["fine"] * 3


def test_a_shorter_wish_does_not_cut_a_longer_pause() -> None:
    transport = transport_to(deadline_s=0.1)
    attempts: list[Attempt] = []

    async def work() -> list[str | Unanswered]:
        both = asyncio.Barrier(2)

        async def ask(wish: str) -> str | Unanswered:
            async def refused() -> str:
                await both.wait()
                raise error(429, retry_after=wish)

            return await transport.send(refused, attempts.append)

        return list(await asyncio.gather(ask("60"), ask("0")))

    for done in asyncio.run(work()):
        assert isinstance(done, Unanswered)
        assert done.reason == "rate_limited"
    assert [attempt.number for attempt in attempts] == [1, 1]


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
def test_a_429_that_no_pause_mends_is_final_and_names_its_code(code: str) -> None:
    done, attempts = send(raising(error(429, code=code, retry_after="0")))
    assert isinstance(done, Unanswered)
    assert (done.reason, done.transient, len(attempts)) == ("rejected", False, 1)
    assert f"({code})" in done.detail


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_a_refusal_of_the_request_itself_is_not_tried_again(status: int) -> None:
    done, attempts = send(raising(error(status)))
    assert isinstance(done, Unanswered)
    assert (done.reason, done.transient, len(attempts)) == ("rejected", False, 1)
    assert f"{status} at attempt 1: " in done.detail


@pytest.mark.parametrize(
    "passing",
    [
        error(408),
        error(409),
        error(500),
        MalformedReplyError(CANARY),
        ValueError(CANARY),
    ],
    ids=lambda each: type(each).__name__ + str(getattr(each, "status_code", "")),
)
def test_what_passes_by_itself_is_tried_again_a_bounded_number_of_times(
    passing: Exception,
) -> None:
    done, attempts = send(raising(passing))
    assert (done, [attempt.number for attempt in attempts]) == ("fine", [1, 2])
    done, attempts = send(raising(*[passing] * 9))
    assert isinstance(done, Unanswered)
    assert done.transient
    assert len(attempts) == MAX_ATTEMPTS


def test_what_may_heal_is_waited_for_and_told(caplog: pytest.LogCaptureFixture) -> None:
    broken = openai.APIConnectionError(message=CANARY, request=httpx2.Request("POST", URL))
    done, attempts = send(raising(*[broken, error(429), error(502), error(503)] * 3))
    assert (done, len(attempts)) == ("fine", 13)
    assert not caplog.messages, "an outage of a moment is a server's daily business"


def test_an_outage_is_told_with_its_times(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "TOLD_AFTER_S", 0.0)
    transport = transport_to()
    assert send(raising(*[error(503)] * 3), transport)[0] == "fine"
    told = [re.sub(r"\d\d:\d\d:\d\d", "TIME", message) for message in caplog.messages]
    away, back = told
    assert away.startswith(f"The endpoint 'near' at {URL} does not answer since TIME (API")
    assert away.endswith("Error 503); waiting until TIME at most.")
    assert back.startswith(f"The endpoint 'near' at {URL} answers again, ")
    assert send(raising(error(503)), transport)[0] == "fine"


@pytest.mark.parametrize(("met", "pod"), [(False, False), (True, False), (False, True)])
def test_a_person_waits_ten_seconds_for_a_first_sign_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, *, met: bool, pod: bool
) -> None:
    monkeypatch.setattr(outages, "FIRST_CONTACT_S", 0.02)
    if pod:
        monkeypatch.setenv("FLYTE_INTERNAL_EXECUTION_ID", "e1")
    transport = transport_to()
    if met:
        send(raising(error(404)), transport)
    broken = openai.APIConnectionError(message=CANARY, request=httpx2.Request("POST", URL))
    done, attempts = send(raising(*[broken] * 20), transport)
    assert (done == "fine") is (met or pod)
    assert isinstance(done, Unanswered) or len(attempts) == 21
