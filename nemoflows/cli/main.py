"""The command `nemoflows`; each of its subcommands is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from nemoflows.storage.filesystem import open_with

COMMANDS = {
    "doctor": "doctor:doctor",
    "gpus": "gpus:gpus",
    "index": "index:index",
    "journal": "journal:journal",
    "manifest": "manifest:manifest",
    "models": "models:models",
    "report": "runs:report",
    "runs": "runs:list_runs",
}
"""Each with its module in this package, and its name there."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found: click.Command = getattr(import_module(f"nemoflows.cli.{module}"), name)
        return found


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look at models, GPUs, settings and the journal, without paying for anything."""
    open_with(_as_flyte_opens)


def _as_flyte_opens(scheme: str) -> dict[str, Any]:
    from flytekit.core.data_persistence import get_fsspec_storage_options

    found: dict[str, Any] = get_fsspec_storage_options(scheme)
    return found
