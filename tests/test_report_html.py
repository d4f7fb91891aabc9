"""The page: citations open in context, everything is text, nothing is fetched."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from nemoflows.calls import Usage
from nemoflows.coding.types import (
    Baseline,
    Candidate,
    Change,
    ChangePlan,
    CodingTask,
    Patch,
    Repository,
    Suspect,
    TestReport,
    TestResult,
)
from nemoflows.money.ledger import Spent, fold
from nemoflows.rag.types import Answer, Citation
from nemoflows.reporting import ReportData, framed, render
from nemoflows.reporting.question import CONTEXT_CHARACTERS, in_context
from nemoflows.types import Evidence, Finding, Index, NotFound, Skipped
from tests.support import ROOT

EVIL = "<script>alert(1)</script> ![x](http://evil.example/x.png) [y](javascript:z) <b>&\"'"
TEXT = f"Before it. The quote {EVIL} ends here. After it."
QUOTE = f"The quote {EVIL} ends here."
START = TEXT.index(QUOTE)
CITATION = Citation(
    number=1, document=f"a{EVIL}.md", start=START, end=START + len(QUOTE), quote=QUOTE, heading=EVIL
)


def shown(**changes: object) -> str:
    evidence = Evidence(
        quote=QUOTE, document=CITATION.document, start=CITATION.start, end=CITATION.end
    )
    missing = NotFound(question=f"What? {EVIL}", reason=EVIL)
    answer = Answer(
        question=f"Who? {EVIL}",
        text=f"It is so. [1] And {EVIL} [7]\n\nMore.",
        citations=[CITATION],
        unsupported=[EVIL],
        dropped=[EVIL],
        not_found=[missing],
    )
    call = Spent(key="k" * 64, purpose=EVIL, model=EVIL, usage=Usage(), usd=None, replayed=True)
    content = ReportData(
        answer=answer,
        findings=[
            Finding(question=EVIL, summary=EVIL, evidence=[evidence], queries=[EVIL]),
            Finding(question="b", not_found=missing),
        ],
        contexts=[in_context(CITATION, TEXT)],
        index=Index(
            uri="u",
            corpus=EVIL,
            corpus_hash="h",
            n_documents=1,
            n_passages=1,
            skipped=[Skipped(document=EVIL, reason=EVIL)],
            n_skipped=1,
        ),
        calls=[call],
        ledger=fold([call]),
        tiers={"efficient": EVIL},
    )
    return render(content.model_copy(update=changes))


def shown_change() -> str:
    """Return the report of a change in which everything that can be text is evil."""
    report = TestReport(
        key="k",
        tree="t",
        ending="finished",
        detail=EVIL,
        not_passed=[TestResult(test=EVIL, outcome="failed")],
    )
    repository = Repository(uri="u", name=EVIL, tree="t", n_files=1)
    baseline = Baseline(
        task=CodingTask(repository=repository, issue=EVIL),
        report=report.model_copy(update={"collected": ["tests/test_a.py::test_b"]}),
        target=[EVIL],
        suspects=[Suspect(path=EVIL, line=1, score=0.5, why=EVIL)],
    )
    candidate = Candidate(splices=[], tree="t", tier="frontier", why=EVIL, round=1, report=report)
    untested = candidate.model_copy(update={"report": None})
    change = Change(
        baseline=baseline,
        plan=ChangePlan(summary=EVIL, files=[EVIL], steps=[EVIL]),
        candidates=[candidate, untested],
        rejected=[EVIL],
        patch=Patch(
            issue=EVIL, status="verified", diff=f"-a\n+{EVIL}\n", candidate=candidate, flaky=[EVIL]
        ),
    )
    return render(ReportData(change=change, calls=[], ledger=fold([])))


class Reader(HTMLParser):
    """Collects tags, attributes and text as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in {"href", "src"}:
                self.links.append(value or "")
            if name == "title":
                self.titles.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def read() -> Reader:
    reader = Reader()
    reader.feed(shown())
    return reader


def test_nothing_shown_becomes_a_tag(read: Reader) -> None:
    assert not {"img", "b", "iframe", "link", "object"} & set(read.tags)
    assert read.tags.count("script") == 1, "its own, by its hash"
    assert read.text.count("<script>alert(1)</script>") >= 10


def test_the_only_links_go_to_the_sources(read: Reader) -> None:
    assert set(read.links) == {"#c1"}
    assert "c1" in read.ids


def test_a_number_without_a_citation_stays_text(read: Reader) -> None:
    assert "[7]" in read.text


def test_nothing_is_fetched() -> None:
    html = shown()
    assert "default-src 'none'" in html
    assert "url(" not in html
    assert "@import" not in html


def test_a_quote_stands_in_its_context(read: Reader) -> None:
    assert TEXT in read.text
    assert "mark" in read.tags


def test_a_long_document_is_shown_around_the_quote_only() -> None:
    text = "word " * 1_000 + "QUOTE" + " word" * 1_000
    at = text.index("QUOTE")
    cut = in_context(Citation(number=1, document="d", start=at, end=at + 5, quote="QUOTE"), text)
    assert cut.quote == "QUOTE"
    assert len(cut.before) <= CONTEXT_CHARACTERS + 1
    assert cut.before.startswith("…")
    assert cut.after.endswith("…")


def test_a_run_without_calls_says_that_no_model_was_asked() -> None:
    html = shown(calls=[], ledger=fold([]))
    assert "No model was called" in html
    assert "cost: $0" in html


def test_calls_that_were_not_recorded_are_not_denied() -> None:
    html = shown(calls=[], ledger=fold([], n_unrecorded=3), durable=False)
    assert "3 calls were made and not recorded" in html
    assert "not durable" in html


def test_a_page_inside_another_cannot_break_out() -> None:
    reader = Reader()
    reader.feed(framed(shown()))
    assert set(reader.tags) == {"iframe"}


def test_an_unknown_price_is_called_unknown(read: Reader) -> None:
    assert "unknown" in read.text


def test_a_run_without_a_journal_says_so() -> None:
    assert "not durable" in shown(durable=False)
    assert "not durable" not in shown()


def test_nothing_of_a_change_becomes_a_tag_or_an_attribute() -> None:
    reader = Reader()
    reader.feed(shown_change())
    assert not {"img", "iframe", "link", "object", "a"} & set(reader.tags)
    assert reader.tags.count("script") == 1
    assert reader.titles == [EVIL, EVIL], "quotes included"
    assert reader.text.count("<script>alert(1)</script>") >= 12
    assert "✗" in reader.text
    assert "✓" in reader.text
    assert "+<script>" in reader.text


def test_templates_trust_no_text_and_quote_every_attribute() -> None:
    folder = ROOT / "nemoflows" / "reporting"
    for path in folder.rglob("*.*"):
        if path.suffix in {".html", ".py"}:
            text = path.read_text("utf-8")
            assert not re.search(
                r"\|\s*safe\b|Markup|autoescape[= ](false|off)", text, re.IGNORECASE
            ), path
    for path in folder.rglob("*.html"):
        html = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", path.read_text("utf-8"), flags=re.DOTALL)
        assert not re.findall(r"<[^<>]*=[^\"][^<>]*>", re.sub(r"=\"[^\"]*\"", "", html)), path
