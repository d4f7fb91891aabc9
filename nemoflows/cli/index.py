"""`nemoflows index`: what of old indexes can go."""

from __future__ import annotations

import click

from nemoflows import settings as settings_module
from nemoflows.errors import NemoflowsError
from nemoflows.search.prune import UNUSED_S, prune
from nemoflows.storage.opening import open_store

DAY_S = 86_400.0


@click.group()
@click.option("--root", default="", help="Root of the indexes, a path or URL.")
@click.pass_context
def index(context: click.Context, root: str) -> None:
    """Look after the indexes of corpora: those in your home, or under NEMOFLOWS_HOME."""
    context.obj = root


@index.command("prune")
@click.option(
    "--older-than-days",
    type=click.FloatRange(min=0),
    default=UNUSED_S / DAY_S,
    show_default=True,
    help="Of what nobody has used for so long.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.pass_obj
def prune_command(root: str, older_than_days: float, *, dry_run: bool) -> None:
    """Remove indexes that are no corpus' newest one, and what they alone needed."""
    try:
        store = open_store(root or f"{settings_module.home_root()}/index", bulk=True)
        done = prune(store, unused_s=older_than_days * DAY_S, dry_run=dry_run)
    except NemoflowsError as error:
        raise click.ClickException(error.message) from None
    what = ", ".join(f"{n:,} {kind}" for kind, n in done.counts.items())
    told = "would be removed" if dry_run else "were removed"
    click.echo(f"{what} ({done.n_bytes:,} bytes) {told} from {store.uri}.")
