"""Rows of values as columns of text."""

from __future__ import annotations

from typing import Any

import click

from nemoflows.errors import one_line

Rows = list[dict[str, Any]]


def show_table(title: str, rows: Rows) -> None:
    """Print rows in columns as wide as they need: names stay whole, to be copied."""
    if not rows:
        click.echo(f"{title}: none")
        return
    lines = [[column.replace("_", " ") for column in rows[0]]]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    click.secho(title, bold=True)
    for line in lines:
        cells = zip(line, widths, strict=True)
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, int):
        return f"{value:,}"
    return "unknown" if value is None else one_line(str(value))
