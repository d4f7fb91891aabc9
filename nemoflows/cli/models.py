"""`nemoflows models`: endpoints and known models, and what an endpoint serves."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from nemoflows import settings as settings_module
from nemoflows.cli.serving import served
from nemoflows.cli.tables import Rows, show_table
from nemoflows.errors import NemoflowsError
from nemoflows.models import BUILT_IN, FREE, REMOTE, Endpoint
from nemoflows.models.catalogue import KNOWN


@click.command()
@click.argument("endpoint", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def models(endpoint: str | None, *, as_json: bool) -> None:
    """List endpoints and known models; with ENDPOINT, what that endpoint serves.

    The list of known models says what each takes and under which licence; any other model can be
    named too. Only with ENDPOINT is anything asked over the network, and that is free.
    """
    try:
        tables = {"served": served(endpoint)} if endpoint else listed()
    except NemoflowsError as error:
        raise click.ClickException(error.message) from None
    if as_json:
        click.echo(json.dumps(tables, indent=1))
        return
    for title, rows in tables.items():
        show_table(title, rows)


def listed() -> dict[str, Rows]:
    """Return the endpoints with their dialects, and the known models with their abilities."""
    loaded = settings_module.load()
    known = {**BUILT_IN, **loaded.endpoints}
    return {
        "endpoints": [_endpoint(name, endpoint) for name, endpoint in known.items()],
        "models": [model.model_dump() for model in KNOWN],
    }


def _endpoint(name: str, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "endpoint": name,
        "dialect": endpoint.dialect,
        "where": endpoint.base_url or ("public address" if endpoint.dialect in REMOTE else "here"),
        "key": _key(endpoint),
        "price": _price(endpoint),
    }


def _price(endpoint: Endpoint) -> str | None:
    """Return where the price of a call comes from; None where nobody knows it."""
    if endpoint.usd_per_mtok is not None:
        return "USD {:g} in, {:g} out per million tokens".format(*endpoint.usd_per_mtok)
    if endpoint.dialect in FREE:
        return "free"
    return f"table of {endpoint.price_key}" if endpoint.price_key else None


def _key(endpoint: Endpoint) -> str:
    """Return whether the key is there, never the key."""
    if not endpoint.key_env:
        return "none needed"
    return f"{endpoint.key_env} {'is set' if os.environ.get(endpoint.key_env) else 'is not set'}"
