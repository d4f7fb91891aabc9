"""`nemoflows doctor`: is everything there that a run needs; spends nothing."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from nemoflows.cli import checks, cluster
from nemoflows.cli.machine import Check
from nemoflows.errors import one_line

_MARKS = {"ok": ("ok", "green"), "failed": ("FAILED", "red"), "note": ("note", "yellow")}


@click.command()
@click.option("--config", default="", help="Flyte's configuration; found as pyflyte does.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--cluster", "on_cluster", is_flag=True, help="Have pods look around, too.")
@click.option("-p", "--project", default="", help="Flyte's project, as for pyflyte.")
@click.option("-d", "--domain", default="", help="Flyte's domain, as for pyflyte.")
@click.option("-i", "--image", "images", multiple=True, help="Image of CPU tasks, as for pyflyte.")
@click.option("--service-account", default="", help="Of the pods, as for pyflyte.")
@click.option(
    "--raw-output-data-prefix", "raw_prefix", default="", help="Of the pods, as for pyflyte."
)
@click.option(
    "--patience",
    "patience_s",
    default=cluster.PATIENCE_S,
    show_default=True,
    help="Seconds for a pod to start, and as many to end.",
)
def doctor(config: str, *, as_json: bool, on_cluster: bool, **target: Any) -> None:
    """Look at settings, keys, servers, GPU, licences, folders and cluster, and name remedies.

    With --cluster one small execution looks from within pods: a CPU pod, one that runs tests, and
    one with the efficient tier's GPU or server where it is bound to one. Nothing of yours is
    registered. Ends with status 1 where something failed. Nothing is paid for.
    """
    if config:
        os.environ["FLYTECTL_CONFIG"] = config  # its `storage` is how stores are opened
    looking = checks.everything(config)
    if on_cluster:
        looking = cluster.everything(cluster.Target(config, **target, tell=_tell))
    found = list(looking)
    if as_json:
        click.echo(json.dumps([check.model_dump() for check in found], indent=1))
    else:
        _show(found)
    if any(check.state == "failed" for check in found):
        raise SystemExit(1)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _show(found: list[Check]) -> None:
    width = max(len(check.about) for check in found)
    for check in found:
        mark, colour = _MARKS[check.state]
        click.secho(f"{mark:6} ", fg=colour, nl=False)
        click.echo(f"{check.about:{width}}  {one_line(check.told)}")
        if check.remedy:
            click.echo(f"{'':7}{'':{width}}  → {one_line(check.remedy)}")
