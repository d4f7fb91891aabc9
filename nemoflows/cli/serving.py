"""What an endpoint serves, asked of it at no cost."""

from __future__ import annotations

import asyncio

from nemoflows import settings as settings_module
from nemoflows.cli.tables import Rows
from nemoflows.engines.registry import Engines
from nemoflows.errors import BadModel
from nemoflows.settings import Settings
from nemoflows.types import ModelRef


def served(name: str, settings: Settings | None = None) -> Rows:
    """Return what an endpoint serves, each model with its context in tokens where it is told.

    Args:
        name: The endpoint.
        settings: Where endpoints are and how long they may take; by default the environment's.

    Raises:
        BadModel: The endpoint is unknown, lists nothing, or refuses the key.
        EndpointDown: Nothing answers.
    """
    model = ModelRef(endpoint=name, name="any")
    engine = Engines(settings or settings_module.load()).of(model)

    async def ask() -> dict[str, int | None] | None:
        try:
            return await engine.served()
        finally:
            await engine.aclose()

    found = asyncio.run(ask())
    if found is None:
        raise BadModel(f"The endpoint {name!r} has no list of models: name any, such as {name}:x.")
    return [{"model": f"{name}:{served}", "context_tokens": found[served]} for served in found]
