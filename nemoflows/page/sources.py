"""The part of a report that says what was found: answer, sources, findings, corpus."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from nemoflows.page.values import Context, Page
from nemoflows.types import Answer, Finding, Index

OPEN_FINDINGS = 12
"""More than these are folded together, so that the costs below them are found."""


def answer(page: Page) -> str:
    """Return the answer with links to its sources, and what is wrong with it."""
    if page.answer is None:
        return f"<h1>Run {escape(page.run)}</h1><p>It has not come to an answer yet.</p>"
    return _answer(page, page.answer)


def _answer(page: Page, answer: Answer) -> str:
    known = {citation.number for citation in answer.citations}
    paragraphs = "".join(
        f"<p>{_with_links(part, known)}</p>" for part in answer.text.split("\n\n") if part.strip()
    )
    notes = [f"No quote supports: {text}" for text in answer.unsupported]
    notes += [f"Stopped early: {answer.stopped}"] if answer.stopped else []
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


def sources(contexts: Sequence[Context]) -> str:
    """Return every quote in its context."""
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


def findings(page: Page) -> str:
    """Return what each agent found, best read after the answer."""
    cited = page.answer.citations if page.answer else []
    numbers = {(c.document, c.start, c.end): c.number for c in cited}
    items = "".join(_finding(n, finding, numbers) for n, finding in enumerate(page.findings, 1))
    if len(page.findings) > OPEN_FINDINGS:
        items = f"<details><summary>{len(page.findings)} findings</summary>{items}</details>"
    return f"<section><h2>Findings, one per agent</h2>{items}</section>" if items else ""


def _finding(n: int, finding: Finding, numbers: dict[tuple[str, int, int], int]) -> str:
    quotes = "".join(
        f"<li><q>{escape(' '.join(e.quote.split()))}</q> <cite>{escape(e.document)}:{e.start}-"
        f"{e.end}</cite>{_cited(numbers.get((e.document, e.start, e.end)))}</li>"
        for e in finding.evidence
    )
    missing = finding.not_found
    text = missing.reason if missing else finding.summary
    doubt = f"<p class=missing>In doubt: {escape(finding.doubt)}</p>" if finding.doubt else ""
    searched = "; ".join(finding.queries)
    return (
        f"<article><h3>Agent {n}: {escape(finding.question)}</h3>"
        f"<p{' class=missing' if missing else ''}>{escape(text)}</p>{doubt}"
        f"<details><summary>{len(finding.evidence)} quotes, {escape(finding.tier)} tier, "
        f"{len(finding.queries)} searches</summary><p>Searched for: {escape(searched)}</p>"
        f"<ul>{quotes}</ul></details></article>"
    )


def _cited(number: int | None) -> str:
    return f' <a href="#c{number}">[{number}]</a>' if number else ""


def corpus(index: Index | None, reading: str) -> str:
    """Return what was searched, and what of it could not be read."""
    if index is None:
        return ""
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
