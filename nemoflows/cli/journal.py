"""`nemoflows journal`: what was paid, what is in doubt, what can go."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import click

from nemoflows import settings as settings_module
from nemoflows.calls import Usage
from nemoflows.cli.tables import show_table
from nemoflows.errors import NemoflowsError, printable
from nemoflows.journal import Journal
from nemoflows.journal.summary import row, runs
from nemoflows.journal.transfer import import_journal
from nemoflows.llm.opening import journal_root
from nemoflows.money.ledger import priced

DAY_S = 86_400.0
EXPORTED_AT_ONCE = 1_000
COLUMNS = {
    **dict.fromkeys(("key", "run", "purpose", "model", "outcome", "reason"), "string"),
    "usd": "float64",
    **dict.fromkeys(Usage.model_fields, "int64"),
    **dict.fromkeys(("started_s", "ended_s"), "float64"),
    "attempts": "int64",
    **dict.fromkeys(("served_by", "request_id"), "string"),
}
"""Of what is exported, by name, with pyarrow's types."""

DEFAULT_ROOT_HELP = "Root of the journal, a path or URL."


@click.group()
@click.option("--root", default="", help=DEFAULT_ROOT_HELP)
@click.pass_context
def journal(context: click.Context, root: str) -> None:
    """Look into the journal of model calls: NEMOFLOWS_JOURNAL, else the one in your home."""
    # What cannot be opened any more is opened by `import` in its own way.
    context.obj = root if context.invoked_subcommand == "import" else opened_journal(root)


def opened_journal(root: str) -> Journal:
    """Return the journal at `root`, else the one that runs of this machine write to."""
    try:
        return Journal(_place(root))
    except NemoflowsError as error:
        raise click.ClickException(error.message) from None


def _place(root: str) -> str:
    settings = settings_module.load()
    found = root or journal_root(settings, settings_module.home_root(settings))
    if not found:
        raise click.ClickException("NEMOFLOWS_JOURNAL is off: nothing is recorded.")
    return found


@journal.command("runs")
@click.pass_obj
def list_runs(book: Journal) -> None:
    """List runs with what each paid and what is in doubt."""
    show_table("runs", [run.model_dump() for run in runs(book)])


@journal.command()
@click.argument("key")
@click.pass_obj
def show(book: Journal, key: str) -> None:
    """Show one call whole; KEY is its key or the beginning of it."""
    keys = book.keys()
    matching = [found for found in keys if found.startswith(key)]
    if len(matching) != 1:
        raise click.ClickException(
            f"{len(matching)} of the journal's keys begin with {key!r}; give one of a single call."
        )
    try:
        record = book.get(matching[0])
    except NemoflowsError as error:
        raise click.ClickException(error.message) from None
    if record is None:
        raise click.ClickException(f"The record {matching[0]} is damaged; it was set aside.")
    click.echo(printable(record.model_dump_json(indent=1)))


@journal.command()
@click.pass_obj
def check(book: Journal) -> None:
    """Read every record back; damaged ones are set aside, and their calls would be paid again."""
    n_whole = sum(1 for _ in book.records())
    odd = f", {book.n_passed_over} cannot be read here" if book.n_passed_over else ""
    click.echo(f"{n_whole} records are whole, {book.n_damaged} are damaged{odd}.")
    if problems := book.store.problems():
        click.echo(
            f"The file is damaged ({problems}): `nemoflows journal import` reads what is left."
        )
    if book.n_damaged or odd or problems:
        raise SystemExit(1)


@journal.command()
@click.option("--older-than-days", type=click.FloatRange(min=0), required=True)
@click.option("--yes", is_flag=True, help="Remove them; without it they are only counted.")
@click.pass_obj
def prune(book: Journal, older_than_days: float, *, yes: bool) -> None:
    """Remove old records: whoever asks the same again pays again."""
    before_s = time.time() - older_than_days * DAY_S
    prices: list[float | None] = []
    runs_of_old, left = set(), set()
    for call in book.facts():
        if call.ended_s >= before_s:
            left.add(call.run)
            continue
        prices.append(call.usd)
        runs_of_old.add(call.run)
        if yes:
            book.remove(call.key)
    for run in runs_of_old - left if yes else ():
        book.remove_lines(run or "run")
    if yes and prices:
        book.store.compact()
    n_old, n_unknown = len(prices), prices.count(None)
    worth = priced(sum(usd or 0.0 for usd in prices), n_old, n_unknown)
    worth += f" ({n_unknown} of unknown price)" if n_unknown else ""
    told = f"{n_old} records older than {older_than_days:g} days, worth {worth}"
    done = "were removed." if yes else "would be removed. Add --yes to do so."
    click.echo(f"{told}, {done}")


@journal.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def export(book: Journal, file: Path) -> None:
    """Write one row per call to a Parquet FILE, without prompts and replies."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, n_calls = pa.schema([(name, getattr(pa, kind)()) for name, kind in COLUMNS.items()]), 0
    whole = file.with_name(f"{file.name}.part")
    with pq.ParquetWriter(whole, schema) as writer:
        rows = (row(record) for record in book.records())
        while some := list(itertools.islice(rows, EXPORTED_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema))
            n_calls += len(some)
    whole.replace(file)
    click.echo(f"{n_calls} calls are in {file}.")


@journal.command("import")
@click.argument("source", default="")
@click.pass_obj
def import_(root: str, source: str) -> None:
    """Bring another journal in: SOURCE is its root, or an SQLite file, damaged or not.

    Without SOURCE what lies in the root itself: records in the layout of earlier versions, a file
    per call, which then go, and what is left of a damaged file, which stays beside the new one.
    """
    try:
        found = import_journal(_place(root), source)
    except NemoflowsError as error:
        raise click.ClickException(error.message) from None
    if found.aside:
        click.echo(f"The damaged file now lies at {found.aside}.")
    told = f"{found.records} records and {found.others} other files are in the journal"
    click.echo(f"{told}; {found.damaged} damaged records were left where they are.")
