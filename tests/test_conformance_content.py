"""What sensible engines answer to the library's own prompts, and what a call of theirs costs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nemoflows.engines.base import Engine
from nemoflows.engines.openai.engine import OpenAI
from nemoflows.engines.registry import Engines
from nemoflows.journal import Journal
from nemoflows.llm.client import LLMClient
from nemoflows.llm.results import CallSpec
from nemoflows.models import Endpoint
from nemoflows.money.ledger import Ledger, fold
from nemoflows.rag import prompts
from nemoflows.settings import Settings
from nemoflows.types import Evidence, Finding, Passage
from tests.loopback import ModelServer, completion
from tests.subjects import Subject
from tests.support import extract_request, read_quotes

QUESTION = "How long is the Elbe?"
TEXT = "The Elbe rises in Bohemia. It is 1,094 kilometres long."
PASSAGES = [
    Passage(id="e:0", document="e.md", start=7, end=7 + len(TEXT), text=TEXT, heading="The Elbe"),
]
FINDINGS = [
    Finding(
        question=QUESTION,
        summary="The Elbe is 1,094 kilometres long.",
        evidence=[Evidence(quote=TEXT, document="e.md", start=7, end=7 + len(TEXT))],
    )
]


@pytest.fixture
def sensible(subject: Subject) -> Subject:
    subject.must_be_sensible()
    return subject


def test_a_plan_is_read(sensible: Subject) -> None:
    reply = sensible.answer(sensible.of(prompts.plan(QUESTION, n=3)))
    assert prompts.read_plan(reply, n=3) == [QUESTION]


def test_quotes_are_read_and_stand_in_their_passage(sensible: Subject) -> None:
    reply = sensible.answer(sensible.of(extract_request(QUESTION, PASSAGES)))
    found = read_quotes(reply, PASSAGES, final=False)
    assert found
    for quote in found:
        assert TEXT[quote.start - 7 : quote.end - 7] == quote.quote


def test_a_query_is_read(sensible: Subject) -> None:
    asked = sensible.of(prompts.rewrite(QUESTION, PASSAGES, [QUESTION]))
    assert prompts.read_query(sensible.answer(asked)) != QUESTION


def test_a_summary_is_read(sensible: Subject) -> None:
    evidence = FINDINGS[0].evidence
    reply = sensible.answer(sensible.of(prompts.summarise(QUESTION, evidence)))
    assert prompts.read_summary(reply)


def test_an_answer_is_read_and_its_citations_resolve(sensible: Subject) -> None:
    reply = sensible.answer(sensible.of(prompts.synthesise(QUESTION, FINDINGS)))
    written = prompts.read_answer(reply, FINDINGS, final=False)
    assert "[1]" in written.text
    assert [citation.document for citation in written.citations] == ["e.md"]
    assert written.dropped == []


def ledger(
    subject: Subject, folder: Path, endpoint: Endpoint, engine: Callable[[], Engine]
) -> Ledger:
    settings = Settings(run="test", endpoints={subject.dialect: endpoint})

    async def work() -> list[Any]:
        engines = Engines(settings, given={subject.dialect: engine()})
        llm = LLMClient(engines, Journal(str(folder), run="test"), settings=settings)
        await llm.complete(CallSpec(subject.structured(), lambda reply, _: reply.text))
        if subject.in_process is None:
            await llm.aclose()
        return list(llm.spent)

    return fold(subject.run(work()))


def test_a_call_of_unknown_price_is_counted_and_never_free(
    subject: Subject, tmp_path: Path
) -> None:
    if subject.name == "builtin":
        pytest.skip("is free and not recorded")
    endpoint = Endpoint(dialect="fake")
    total = ledger(subject, tmp_path, endpoint, subject.make)
    assert (total.n_calls, total.n_unpriced) == (1, 1)
    assert "1 call of unknown price" in str(total)


class NoUsage(BaseHTTPRequestHandler):
    """A server of the OpenAI dialect that does not say what it used, as some do."""

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self._send({"object": "list", "data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        whole = completion(body, {}, finish="")
        self._send({name: value for name, value in whole.items() if name != "usage"})

    def _send(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def test_a_call_without_usage_is_of_unknown_price_even_where_prices_are_known(
    server: ModelServer, tmp_path: Path
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), NoUsage) as http:
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        endpoint = Endpoint(dialect="openai", base_url=url, usd_per_mtok=(1.0, 10.0))

        def make() -> Engine:
            return OpenAI(endpoint, name="openai", deadline_s=60)

        total = ledger(Subject("openai", server, []), tmp_path, endpoint, make)
        http.shutdown()
    assert (total.n_calls, total.n_unpriced, total.usd) == (1, 1, 0.0)
