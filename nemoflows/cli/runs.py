"""`nemoflows runs` and `nemoflows report`: what runs cost, side by side, and one of them whole."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import click
from pydantic import ValidationError

from nemoflows import settings as settings_module
from nemoflows.cli.journal import DEFAULT_ROOT_HELP, opened_journal
from nemoflows.cli.tables import show_table
from nemoflows.errors import NemoflowsError
from nemoflows.journal import Journal
from nemoflows.llm.history import MEASURING, CallHistory
from nemoflows.reporting import ReportData, ReportNotes, assemble, notes_of, render, write

LARGE_BYTES = 2**22
"""Of receipts: runs of more than some 20,000 calls are not compared here, but in their report."""
COLUMNS = (
    "run", "when", "calls", "usd", "paid_by_it_usd", "all_frontier_usd", "all_small_usd",
    "escalated", "in_doubt", "about",
)  # fmt: skip


@click.command("runs")
@click.argument("run", default="")
@click.option("--root", default="", help=DEFAULT_ROOT_HELP)
@click.option(
    "--limit", default=20, show_default=True, help="Most runs to show, the newest first; 0 is all."
)
def list_runs(run: str, root: str, limit: int) -> None:
    """Compare runs: what each cost, what all-frontier would have cost, what is in doubt.

    With RUN, those alone whose id, or whose execution's, begins like that.
    """
    book = opened_journal(root)
    by_time = sorted(((_last_s(book, one), one) for one in named(book, run)), reverse=True)
    shown = by_time[: limit or None]
    show_table("runs", [_row(book, one, at_s) for at_s, one in shown])
    if len(shown) < len(by_time):
        click.echo(f"{len(by_time) - len(shown)} older ones are not shown: --limit 0 shows all.")


def _last_s(book: Journal, run: str) -> float:
    """Return when something of a run was last written, in Unix time; 0 where nothing says it."""
    told = [book.last_s(run)]
    with suppress(ValidationError):
        told.append(ReportNotes.model_validate_json(book.story(run)).at_s)
    return max(told, default=0.0)


@click.command()
@click.argument("run")
@click.option("--root", default="", help=DEFAULT_ROOT_HELP)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="File to write; by default RUN.html in the folder of the reports.",
)
def report(run: str, root: str, output: Path | None) -> None:
    """Write the report of RUN anew from the journal; the beginning of its id is enough.

    On a cluster the id is PROJECT/DOMAIN/EXECUTION; the execution alone will do, too.
    """
    book = opened_journal(root)
    matching = named(book, run)
    exact = [name for name in matching if run in {name, _execution(name)}] or matching
    if len(exact) != 1:
        raise click.ClickException(
            f"{len(exact)} runs in {book.root} begin with {run!r}; `nemoflows runs` lists them."
        )
    shown = completed(book.root, exact[0])
    path = output or settings_module.reports_folder() / f"{exact[0].replace('/', '-')}.html"
    try:
        write(render(shown), path)
    except NemoflowsError as error:
        raise click.ClickException(error.message) from None
    click.echo(f"{shown.ledger}\nreport: {path}")


def completed(root: str, run: str) -> ReportData:
    """Return the report data of a run, put together from the journal at `root`."""
    try:
        memory = CallHistory(Journal(root, run=run), many_processes=True)
        return assemble(notes_of(memory), memory, settings_module.load())
    except NemoflowsError as error:
        raise click.ClickException(error.message) from None


def named(book: Journal, start: str) -> list[str]:
    """Return the runs whose id, or whose execution's id alone, begins like that."""
    return [
        name
        for name in known_runs(book)
        if name.startswith(start) or _execution(name).startswith(start)
    ]


def _execution(run: str) -> str:
    return run.rpartition("/")[2]


def known_runs(book: Journal) -> set[str]:
    """Return the ids of runs that announced attempts, used calls or told a story."""
    return set(book.runs()) | set(book.runs("receipts")) | set(book.runs("stories"))


def _when(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s)) if at_s else "unknown"


def _row_of_large(book: Journal, run: str, at_s: float) -> dict[str, object]:
    """Return the row of a run whose calls are too many to hold, by their prices alone."""
    keys: dict[bytes, bool] = {}
    for receipt in book.each_receipt(run):
        if receipt.task != MEASURING:
            keys[receipt.key.encode()] = receipt.escalated
    calls = (call for call in book.facts() if call.key.encode() in keys)
    n_calls, prices, own, purposes = 0, [0.0, 0.0], [0, 0], set()
    for call in calls:
        is_own = call.run == run
        n_calls += 1
        prices[is_own] += call.usd or 0.0
        own[is_own] += call.usd is None
        purposes.add(call.purpose)
    return {
        "run": run,
        "when": _when(at_s),
        "calls": n_calls,
        "usd": None if any(own) else sum(prices),
        "paid_by_it_usd": None if own[True] else prices[True],
        "all_frontier_usd": "not compared",
        "all_small_usd": "not compared",
        "escalated": sum(keys.values()),
        "in_doubt": len(book.in_doubt(run)),
        "about": ", ".join(sorted(purposes))[:40],
    }


def _row(book: Journal, run: str, at_s: float) -> dict[str, object]:
    try:
        if book.size_bytes("receipts", run) > LARGE_BYTES:
            return _row_of_large(book, run, at_s)
        shown = completed(book.root, run)
    except click.ClickException as error:
        return {**dict.fromkeys(COLUMNS), "run": run, "about": error.message[:60]}
    ledger, steps = shown.ledger, {call.purpose for call in shown.calls}
    usd = {s.name.partition(" (")[0]: s.usd for s in shown.savings.scenarios}
    return {
        "run": run,
        "when": _when(at_s),
        "calls": ledger.n_calls,
        "usd": shown.work_usd,
        "paid_by_it_usd": None if ledger.n_unpriced_now else ledger.paid_now_usd,
        "all_frontier_usd": usd.get("all frontier", "not compared"),
        "all_small_usd": usd.get("all small frontier", "not compared"),
        "escalated": ledger.n_escalated + shown.n_to_builtin,
        "in_doubt": ledger.n_in_doubt,
        "about": " ".join(shown.heading.split())[:40] or ", ".join(sorted(steps)) or "nothing yet",
    }
