"""`nemoflows runs` and `nemoflows report`: what runs cost, side by side, and one of them whole."""

from __future__ import annotations

from pathlib import Path

import click

from nemoflows import settings as settings_module
from nemoflows.cli.journal import DEFAULT_ROOT_HELP, opened_journal
from nemoflows.cli.tables import show_table
from nemoflows.errors import NemoflowsError
from nemoflows.journal import Journal
from nemoflows.llm.history import CallHistory
from nemoflows.reporting import ReportData, assemble, notes_of, render, write

COLUMNS = (
    "run", "calls", "usd", "paid_by_it_usd", "all_frontier_usd", "all_small_usd", "escalated",
    "in_doubt", "about",
)  # fmt: skip


@click.command("runs")
@click.argument("run", default="")
@click.option("--root", default="", help=DEFAULT_ROOT_HELP)
def list_runs(run: str, root: str) -> None:
    """Compare runs: what each cost, what all-frontier would have cost, what is in doubt.

    With RUN, those alone whose id, or whose execution's, begins like that.
    """
    book = opened_journal(root)
    show_table("runs", [_row(book.root, one) for one in sorted(named(book, run))])


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


def _row(root: str, run: str) -> dict[str, object]:
    try:
        shown = completed(root, run)
    except click.ClickException as error:
        return {**dict.fromkeys(COLUMNS), "run": run, "about": error.message[:60]}
    ledger, steps = shown.ledger, {call.purpose for call in shown.calls}
    usd = {s.name.partition(" (")[0]: s.usd for s in shown.savings.scenarios}
    return {
        "run": run,
        "calls": ledger.n_calls,
        "usd": None if ledger.n_unpriced else ledger.usd,
        "paid_by_it_usd": ledger.paid_now_usd,
        "all_frontier_usd": usd.get("all frontier", "not compared"),
        "all_small_usd": usd.get("all small frontier", "not compared"),
        "escalated": ledger.n_escalated,
        "in_doubt": ledger.n_in_doubt,
        "about": " ".join(shown.heading.split())[:40] or ", ".join(sorted(steps)) or "nothing yet",
    }
