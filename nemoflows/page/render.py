"""The report as a whole: its sections in order, in one file that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from nemoflows.page import calls, money, sources
from nemoflows.page.style import CSS, SCRIPT
from nemoflows.page.values import Page


def render(page: Page) -> str:
    """Return the page as HTML."""
    asked = page.answer.question if page.answer else f"Run {page.run}"
    title = escape(" ".join(asked.split())[:120])
    body = "\n".join(
        (
            sources.answer(page),
            money.cards(page),
            sources.sources(page.contexts),
            sources.findings(page),
            money.costs(page),
            money.scenarios(page),
            calls.timeline(page),
            calls.latencies(page.calls),
            calls.table(page, shadow=page.measuring),
            sources.corpus(page.index, page.reading),
        )
    )
    return document(title, body)


def document(title: str, body: str, *, css: str = "") -> str:
    """Return a whole page around sections that are HTML already; the title is escaped already."""
    allowed = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'unsafe-inline'; script-src 'sha256-{allowed}'\">"
        f"<title>{title}</title><style>{CSS}{css}</style></head>\n<body><main>\n{body}\n"
        f"</main><script>{SCRIPT}</script></body></html>\n"
    )


def framed(html: str) -> str:
    """Return a page as an element of another, its styles kept to itself and its script off."""
    return (
        f'<iframe sandbox srcdoc="{escape(html, quote=True)}" '
        'style="width:100%;height:90vh;border:0"></iframe>'
    )
