"""A report as HTML: templates filled with values, in one file that fetches nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from nemoflows.coding.advice import apart, next_steps
from nemoflows.money.ledger import counted, total, usd
from nemoflows.reporting import calls, change, money, question
from nemoflows.reporting.data import ReportData
from nemoflows.storage.opening import open_store

if TYPE_CHECKING:
    from jinja2 import Environment

_FILTERS = {
    "usd": usd,
    "counted": counted,
    "total": total,
    "median": median,
    "p95": calls.p95,
    "at_marks": question.at_marks,
    "one_line": lambda text: " ".join(text.split()),
}
_VALUES = {
    "saved": money.saved,
    "tiers": money.tiers,
    "costs": money.costs,
    "scenarios": money.scenarios,
    "timeline": calls.timeline,
    "durations": calls.durations,
    "noted_calls": calls.noted_calls,
    "citation_numbers": question.citation_numbers,
    "test_rows": change.test_rows,
    "next_steps": next_steps,
    "apart": apart,
}
"""What templates compute from report data; everything else they read from it as it is."""


def render(data: ReportData) -> str:
    """Return a report as HTML."""
    name = "change.html" if data.change else "run.html"
    return _templates().get_template(name).render(data=data)


def framed(html: str) -> str:
    """Return a report as an element of another page, its styles kept to itself, its script off."""
    return _templates().get_template("framed.html").render(html=html)


def write(text: str, path: Path) -> None:
    """Write a report or a diff, whole or not at all, for its owner alone.

    Raises:
        NemoflowsError: It cannot be written; says why.
    """
    open_store(str(path.parent)).write(path.name, text.encode("utf-8", "replace"))


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("nemoflows.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(_FILTERS)
    templates.globals.update(_VALUES)
    script = templates.get_template("report.js").render()
    digest = hashlib.sha256(script.encode()).digest()
    templates.globals["script_hash"] = base64.b64encode(digest).decode()
    return templates
