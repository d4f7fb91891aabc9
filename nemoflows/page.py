"""The run's page: one HTML file, no external resource, no script, everything shown as text.

Documents' and models' text is escaped and never interpreted, so links, images and tags in it are
inert. Citations open the quoted passage in its context: a link to something inside a closed
`details` element opens it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Protocol

from pydantic import Field

from nemoflows.costs import Ledger, Spent
from nemoflows.types import Answer, Citation, Finding, Index, Value

CONTEXT_CHARACTERS = 500
"""Characters shown on either side of a quote."""


class Context(Value):
    """A citation with what stands around it in its document."""

    citation: Citation
    before: str
    quote: str
    after: str


class Page(Value):
    """What a page shows."""

    answer: Answer
    findings: list[Finding]
    contexts: list[Context]
    index: Index
    calls: list[Spent]
    ledger: Ledger
    tiers: dict[str, str]
    """Tier → the model's spelling."""
    reading: str = ""
    """Whether agents searched or read the whole corpus, and what either would take."""
    uncertain: list[str] = Field(default_factory=list)
    """Attempts that were cut off, so that nobody knows whether they are billed."""
    durable: bool = True
    """False where the run had no journal."""


class Costed(Protocol):
    """A page that shows what was called and what it cost."""

    @property
    def calls(self) -> list[Spent]:
        """Return the calls, in order."""

    @property
    def ledger(self) -> Ledger:
        """Return what they cost."""

    @property
    def tiers(self) -> dict[str, str]:
        """Return each tier's model."""

    @property
    def uncertain(self) -> list[str]:
        """Return the attempts that were cut off."""

    @property
    def durable(self) -> bool:
        """Return whether the run had a journal."""


def context(citation: Citation, text: str) -> Context:
    """Return a citation with its surroundings, cut at word borders."""
    before = text[max(0, citation.start - CONTEXT_CHARACTERS) : citation.start]
    after = text[citation.end : citation.end + CONTEXT_CHARACTERS]
    if citation.start > CONTEXT_CHARACTERS:
        before = "…" + before.partition(" ")[2]
    if citation.end + CONTEXT_CHARACTERS < len(text):
        after = after.rpartition(" ")[0] + "…"
    quote = text[citation.start : citation.end]
    return Context(citation=citation, before=before, quote=quote, after=after)


def render(page: Page) -> str:
    """Return the page as HTML."""
    title = escape(" ".join(page.answer.question.split())[:120])
    body = "\n".join(
        (
            _answer(page),
            _sources(page.contexts),
            _findings(page.findings, page.answer),
            calls_section(page),
            _corpus(page.index, page.reading),
        )
    )
    return document(title, body)


def document(title: str, body: str, *, css: str = "") -> str:
    """Return a whole page around sections that are HTML already; the title is escaped already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_CSS}{css}</style></head>\n<body><main>\n{body}\n"
        "</main></body></html>\n"
    )


def framed(html: str) -> str:
    """Return a page as an element of another, its styles kept to itself."""
    return (
        f'<iframe sandbox srcdoc="{escape(html, quote=True)}" '
        'style="width:100%;height:90vh;border:0"></iframe>'
    )


def _answer(page: Page) -> str:
    answer = page.answer
    known = {citation.number for citation in answer.citations}
    paragraphs = "".join(
        f"<p>{_with_links(part, known)}</p>" for part in answer.text.split("\n\n") if part.strip()
    )
    notes = [f"No quote supports: {text}" for text in answer.unsupported]
    notes += [f"Citation dropped, nothing was retrieved there: {text}" for text in answer.dropped]
    notes += [
        f"{'Failed' if missing.error else 'Not found'}: {missing.question} "
        f"{missing.error or missing.reason}"
        for missing in answer.not_found
    ]
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f"<h1>{escape(answer.question)}</h1><section class=answer>{paragraphs}"
        f"{f'<ul class=notes>{listed}</ul>' if listed else ''}</section>"
        f"<p class=cost>{escape(str(page.ledger))}</p>"
    )


def _with_links(text: str, known: set[int]) -> str:
    def link(mark: re.Match[str]) -> str:
        number = int(mark[1])
        return f'<a href="#c{number}">[{number}]</a>' if number in known else mark[0]

    return re.sub(r"\[(\d{1,4})\]", link, escape(text))


def _sources(contexts: Sequence[Context]) -> str:
    items = "".join(
        f'<li value="{c.citation.number}"><details>'
        f"<summary><q>{escape(' '.join(c.quote.split()))}</q> "
        f"<cite>{escape(c.citation.document)}:{c.citation.start}-{c.citation.end}</cite></summary>"
        f"{_heading(c.citation.heading)}"
        f'<pre>{escape(c.before)}<mark id="c{c.citation.number}">{escape(c.quote)}</mark>'
        f"{escape(c.after)}</pre>"
        "</details></li>"
        for c in contexts
    )
    return f"<section><h2>Sources</h2><ol>{items}</ol></section>" if items else ""


def _heading(heading: str) -> str:
    return f"<p class=heading>{escape(heading)}</p>" if heading else ""


def _findings(findings: Sequence[Finding], answer: Answer) -> str:
    numbers = {(c.document, c.start, c.end): c.number for c in answer.citations}
    items = "".join(_finding(n, finding, numbers) for n, finding in enumerate(findings, 1))
    return f"<section><h2>Findings, one per agent</h2>{items}</section>" if items else ""


def _finding(n: int, finding: Finding, numbers: dict[tuple[str, int, int], int]) -> str:
    quotes = "".join(
        f"<li><q>{escape(' '.join(e.quote.split()))}</q> <cite>{escape(e.document)}:{e.start}-"
        f"{e.end}</cite>{_cited(numbers.get((e.document, e.start, e.end)))}</li>"
        for e in finding.evidence
    )
    missing = finding.not_found
    text = missing.reason if missing else finding.summary
    searched = "; ".join(finding.queries)
    return (
        f"<article><h3>Agent {n}: {escape(finding.question)}</h3>"
        f"<p{' class=missing' if missing else ''}>{escape(text)}</p>"
        f"<details><summary>{len(finding.evidence)} quotes, {escape(finding.tier)} tier, "
        f"{len(finding.queries)} searches</summary><p>Searched for: {escape(searched)}</p>"
        f"<ul>{quotes}</ul></details></article>"
    )


def _cited(number: int | None) -> str:
    return f' <a href="#c{number}">[{number}]</a>' if number else ""


def calls_section(page: Costed) -> str:
    """Return the tiers and the calls of a run."""
    tiers = "; ".join(f"{tier}: {model}" for tier, model in page.tiers.items())
    lost = "" if page.durable else "<p>This run was not durable: a restart pays again.</p>"
    if page.uncertain:
        cut = "".join(f"<li>{escape(attempt)}</li>" for attempt in page.uncertain)
        lost += f"<p>Cut off, perhaps billed, asked again:</p><ul class=notes>{cut}</ul>"
    if not page.calls:
        unknown = page.ledger.n_unrecorded
        note = "No model was called: the embedded tier extracts, it does not generate."
        note = f"{unknown} calls were made and not recorded." if unknown else note
        return f"<section><h2>Calls</h2><p>{escape(tiers)}</p><p>{note}</p>{lost}</section>"
    rows = "".join(_call(call) for call in page.calls)
    return (
        f"<section><h2>Calls</h2><p>{escape(tiers)}</p>{lost}<div class=wide><table>"
        "<thead><tr><th>purpose<th>model<th>in<th>out<th>seconds<th>USD<th>replayed<th>key"
        f"</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _call(call: Spent) -> str:
    usd = "unknown" if call.usd is None else f"{call.usd:.6f}"
    usage = call.usage
    cells = [
        call.purpose,
        call.model,
        f"{usage.all_input_tokens:,}",
        f"{usage.output_tokens:,}",
        f"{call.seconds:.2f}",
        usd,
        "yes" if call.replayed else "",
        call.key[:12],
    ]
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _corpus(index: Index, reading: str) -> str:
    skipped = "".join(
        f"<li><code>{escape(s.document)}</code>: {escape(s.reason)}</li>" for s in index.skipped
    )
    more = f" (the first {len(index.skipped)})" if index.n_skipped > len(index.skipped) else ""
    detail = (
        f"<details><summary>{index.n_skipped} files were not indexed{more}</summary>"
        f"<ul>{skipped}</ul></details>"
        if index.n_skipped
        else ""
    )
    return (
        f"<section><h2>Corpus</h2><p><code>{escape(index.corpus)}</code>: {index.n_documents:,} "
        f"documents, {index.n_passages:,} passages, {index.n_indexed:,} read anew.</p>"
        f"{f'<p>{escape(reading)}</p>' if reading else ''}{detail}"
        "</section>"
    )


_CSS = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--paper:#fff;--line:#d1d9e0;
--mark:#fff3b0;--card:#f6f8fa;--link:#0b57d0}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--paper:#0d1117;
--line:#30363d;--mark:#5a4b00;--card:#161b22;--link:#79b8ff}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.6 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:52rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;line-height:1.3;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2.2rem 0 .6rem;
border-bottom:1px solid var(--line);padding-bottom:.3rem}h3{font-size:1rem;margin:.2rem 0}
.answer{font-size:1.08rem}.cost,cite,.heading,summary{color:var(--soft)}.cost{font-size:.9rem}
cite{font-style:normal;font-size:.85rem;overflow-wrap:anywhere}a{color:var(--link)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:.8rem;font:.85rem/1.5 ui-monospace,monospace}mark{background:var(--mark);
color:inherit}article{border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;
margin:.8rem 0}li{margin:.35rem 0;overflow-wrap:anywhere}mark:target{outline:2px solid var(--link);
scroll-margin:40vh}summary{cursor:pointer}q{color:var(--ink)}.notes,.missing{
color:var(--soft)}.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap}
"""
