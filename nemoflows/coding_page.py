"""A change's page: plan, candidates against tests, the winner's diff, rounds, tier and cost.

Like `page`: one HTML file, no script, everything shown as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pydantic import Field

from nemoflows import page
from nemoflows.coding.types import Baseline, Candidate, ChangePlan, Patch
from nemoflows.money.ledger import Ledger, Spent
from nemoflows.types import Value

MAX_ROWS = 200
"""Tests shown in the matrix: those that must pass first, then those that some candidate failed."""
MAX_DIFF_LINES = 2000
_MARKS = {"passed": "✓", "failed": "✗", "error": "!", "skipped": "-"}


class ChangePage(Value):
    """What a change's page shows."""

    baseline: Baseline
    plan: ChangePlan
    rounds: list[list[Candidate]]
    rejected: list[str] = Field(default_factory=list)
    """Proposals that could not be used, with the reason."""
    n_search_runs: int = 0
    patch: Patch
    next_steps: list[str] = Field(default_factory=list)
    """What to do where the change is not verified."""
    calls: list[Spent]
    ledger: Ledger
    tiers: dict[str, str]
    uncertain: list[str] = Field(default_factory=list)
    durable: bool = True


def render(shown: ChangePage) -> str:
    """Return the page as HTML."""
    title = escape(" ".join(shown.patch.issue.split())[:120])
    body = "\n".join(
        (
            _head(shown),
            _diff(shown.patch.diff),
            _plan(shown.plan),
            _matrix(shown),
            _rejected(shown.rejected),
            _suspects(shown.baseline),
            page.calls_section(shown),
        )
    )
    return page.document(title, body, css=_CSS)


def _head(shown: ChangePage) -> str:
    patch = shown.patch
    winner = patch.candidate
    by = f", {winner.tier} tier, {_round(winner)}: {patch.outcome}" if winner else ""
    notes = [*patch.notes, *shown.next_steps]
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    why = f"<p>{escape(winner.why)}</p>" if winner and winner.why else ""
    return (
        f"<h1>{escape(patch.issue[:2000])}</h1><section class=answer><p><b>"
        f"{escape(patch.status)}</b>{escape(by)}</p>{why}"
        f"{f'<ul class=notes>{listed}</ul>' if listed else ''}</section>"
        f"<p class=cost>{escape(str(shown.ledger))}</p>"
    )


def _diff(diff: str) -> str:
    if not diff:
        return ""
    rows = "".join(
        f"<span class={_kind(line)}>{escape(line)}\n</span>"
        for line in diff.removesuffix("\n").split("\n")[:MAX_DIFF_LINES]
    )
    return f"<section><h2>The change</h2><pre class=diff>{rows}</pre></section>"


def _kind(line: str) -> str:
    if line.startswith(("--- ", "+++ ", "diff ", "@@")):
        return "at"
    return {"+": "ins", "-": "del"}.get(line[:1], "same")


def _plan(plan: ChangePlan) -> str:
    steps = "".join(f"<li>{escape(step)}</li>" for step in plan.steps)
    files = ", ".join(plan.files)
    return (
        f"<section><h2>Plan</h2><p>{escape(plan.summary)}</p><ul>{steps}</ul>"
        f"<p class=heading>{escape(files)}</p></section>"
    )


def _matrix(shown: ChangePage) -> str:
    """Return candidates across and tests down."""
    tested = [each for candidates in shown.rounds for each in candidates]
    rows = "".join(_row(test, shown, tested) for test in _tests(shown.baseline, tested))
    heads = "".join(
        f"<th title='{escape(each.why, quote=True)}'>{n}<br>{escape(each.tier)}<br>"
        f"{_round(each)}<br>{f'{each.n_alike} alike<br>' if each.n_alike > 1 else ''}"
        f"{each.n_changed} lines"
        for n, each in enumerate(tested, 1)
    )
    ends = "".join(f"<td>{escape(each.report.ending if each.report else '')}" for each in tested)
    searched = f"<p>{shown.n_search_runs} test runs of search.</p>" if shown.n_search_runs else ""
    return (
        f"<section><h2>Candidates and tests</h2>{searched}<div class=wide><table>"
        f"<thead><tr><th>test<th>before{heads}</tr></thead><tbody>"
        f"<tr><td>the run<td>{escape(shown.baseline.report.ending)}{ends}</tr>{rows}"
        "</tbody></table></div></section>"
    )


def _round(candidate: Candidate) -> str:
    return f"repair round {candidate.round}" if candidate.round else "first round"


def _tests(baseline: Baseline, tested: Sequence[Candidate]) -> list[str]:
    reports = [each.report for each in tested if each.report]
    failed = [r.test for report in reports for r in report.not_passed]
    before = [r.test for r in baseline.report.not_passed]
    known = dict.fromkeys([*baseline.target, *failed, *before, *baseline.report.collected])
    return list(known)[:MAX_ROWS]


def _row(test: str, shown: ChangePage, tested: Sequence[Candidate]) -> str:
    reports = [shown.baseline.report, *(each.report for each in tested)]
    outcomes = [report.outcome(test) if report else None for report in reports]
    cells = "".join(f"<td class={o or 'none'}>{_MARKS.get(o or '', '')}" for o in outcomes)
    wanted = "<b>→</b> " if test in shown.baseline.target else ""
    return f"<tr><td>{wanted}<code>{escape(test[-90:])}</code>{cells}</tr>"


def _rejected(rejected: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(each[:400])}</li>" for each in rejected)
    title = "Proposals that could not be used"
    return f"<section><h2>{title}</h2><ul class=notes>{items}</ul></section>" if items else ""


def _suspects(baseline: Baseline) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(s.path)}:{s.line}</code><td>{s.score:.2f}<td>{escape(s.why)}</tr>"
        for s in baseline.suspects[:20]
    )
    name = baseline.task.repository
    return (
        f"<section><h2>Where the fault may be</h2><p><code>{escape(name.name)}</code>: "
        f"{name.n_files:,} files, sandbox level {escape(baseline.report.level)}.</p>"
        f"<div class=wide><table><tbody>{rows}</tbody></table></div></section>"
    )


_CSS = """
.diff span{display:block}.ins{background:#2ea04333}.del{background:#f8514933}.at{color:var(--soft)}
.passed{color:#1a7f37}.failed,.error{color:#cf222e}td.passed,td.failed,td.error{text-align:center}
td{white-space:normal;overflow-wrap:normal}
td:first-child{overflow-wrap:anywhere;min-width:9rem}
"""
