"""`nemoflows doctor`: is everything there that a run needs; spends nothing."""

from __future__ import annotations

import json
import os

import click

from nemoflows.cli import checks
from nemoflows.errors import one_line

_MARKS = {"ok": ("ok", "green"), "failed": ("FAILED", "red"), "note": ("note", "yellow")}


@click.command()
@click.option("--config", default="", help="Flyte's configuration; FLYTECTL_CONFIG by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(config: str, *, as_json: bool) -> None:
    """Look at settings, keys, servers, GPU, licences, folders and cluster, and name remedies.

    Ends with status 1 where something failed. Nothing is paid for.
    """
    if config:
        os.environ["FLYTECTL_CONFIG"] = config  # its `storage` is how stores are opened
    found = list(checks.everything(config))
    if as_json:
        click.echo(json.dumps([check.model_dump() for check in found], indent=1))
    else:
        for check in found:
            mark, colour = _MARKS[check.state]
            click.secho(f"{mark:6} ", fg=colour, nl=False)
            click.echo(f"{check.about}: {one_line(check.told)}")
            if check.remedy:
                click.echo(f"       → {one_line(check.remedy)}")
    if any(check.state == "failed" for check in found):
        raise SystemExit(1)
