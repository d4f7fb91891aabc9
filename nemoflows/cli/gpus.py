"""`nemoflows gpus`: which GPUs a model needs, and how many sequences they hold."""

from __future__ import annotations

import json
import re
from math import ceil, log
from typing import Any

import click

from nemoflows import settings as settings_module
from nemoflows.cli.tables import Rows, show_table
from nemoflows.errors import BadInput, BadModel, NemoflowsError
from nemoflows.gpus import GIB, GPUS, Plan, find, plan, serving
from nemoflows.models.catalogue import OPEN_MODELS
from nemoflows.models.weights import Weights, weights_of
from nemoflows.types import ModelRef

CONTEXTS = (1024, 4096, 8192, 32_768, 65_536, 131_072, 262_144, 524_288, 1_000_000)
BAR = 40
"""Widest bar of the chart, in characters."""


def tokens(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Read a number of tokens: `32768`, `32k`, `1M`."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmM]?)", text.strip())
    if not found:
        raise click.BadParameter(f"{text!r} is no number of tokens: write 32768, 32k or 1M.")
    factor = {"": 1, "k": 1024, "m": 1_000_000}[found[2].lower()]
    return int(float(found[1]) * factor)


@click.command()
@click.option("--model", help="Hub id or local folder; NEMOFLOWS_EFFICIENT's by default.")
@click.option("--precision", type=click.Choice(["bf16", "fp8", "nvfp4", "mxfp4", "gguf"]))
@click.option("--concurrent", type=click.IntRange(min=1), help="Sequences at once.")
@click.option("--context", callback=tokens, help="Tokens of each sequence: 32768, 32k, 1M.")
@click.option("--gpu", help="A GPU, with its number if that is given: h100, h100x4.")
@click.option("--prefix-caching", is_flag=True, help="Keep prefixes that requests share.")
@click.option("--beside", help="Another model, to compare the sequences per GPU with.")
@click.option(
    "--load-s", type=click.FloatRange(min=1), help="Seconds that a load was seen to take."
)
@click.option("--usd-per-gpu-hour", type=click.FloatRange(min=0), help="Price of one GPU.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table and a chart.")
def gpus(
    model: str | None,
    precision: Any,
    concurrent: int | None,
    context: int | None,
    gpu: str | None,
    beside: str | None,
    load_s: float | None,
    usd_per_gpu_hour: float | None,
    *,
    prefix_caching: bool,
    as_json: bool,
) -> None:
    """Say what a model needs on each GPU, and how many sequences fit at a context length.

    Nothing is asked over the network: sizes and shapes come from the catalogue, or from the
    config.json of a local folder.
    """
    try:
        loaded = settings_module.load()
        weights = known(model or loaded.default_policy().efficient.name, precision)
        wish: dict[str, Any] = {
            "context_tokens": loaded.hardware.context_tokens if context is None else context,
            "concurrent": loaded.hardware.concurrent if concurrent is None else concurrent,
            "prefix_caching": prefix_caching,
        }
        chosen = plan(weights, gpu=gpu or loaded.gpu, **wish)
        names = [gpu] if gpu else [one.name for one in GPUS if one.offered]
        rows = [row(weights, name, wish) for name in names]
        others = [weights, *([known(beside, None)] if beside else [])]
        curve = sequences_by_context(others, chosen)
    except NemoflowsError as error:
        raise click.ClickException(error.message) from None
    warm = warm_from(chosen, load_s or serving.load_s(chosen), usd_per_gpu_hour)
    if as_json:
        told = {"plan": chosen.model_dump(mode="json"), "gpus": rows, "concurrent": curve}
        told |= {"engine_arguments": chosen.engine_arguments(), "warm": warm}
        click.echo(json.dumps(told, indent=1))
        return
    show_table("GPUs", rows)
    _show_memory(chosen)
    _show_chart(curve, chosen)
    _show_warm(warm, estimated=load_s is None)


def warm_from(chosen: Plan, load_s: float, usd_per_gpu_hour: float | None) -> dict[str, Any]:
    """Return from how many tasks and calls an hour a warm engine costs less than loads do.

    A task that loads the model pays its GPUs for that time; a warm engine pays every hour whole.
    """
    n_tasks = ceil(3600 / load_s)
    usd = None if usd_per_gpu_hour is None else usd_per_gpu_hour * chosen.count
    return {
        "load_s": load_s,
        "tasks_per_hour": n_tasks,
        "calls_per_hour": n_tasks * chosen.concurrent,
        "usd_per_hour": usd,
        "usd_per_load": None if usd is None else usd * load_s / 3600,
    }


def known(name: str, precision: Any) -> Weights:
    """Return what is known of a model's weights.

    Raises:
        BadModel: Nothing is.
    """
    plain = name.partition(":")[2] or name
    if not plain:
        raise BadModel("No model is named: give --model, or set NEMOFLOWS_EFFICIENT.")
    found = weights_of(ModelRef.model_validate(f"vllm:{plain}").name, precision)
    if found is None:
        names = ", ".join(model.name for model in OPEN_MODELS)
        raise BadModel(
            f"Nothing is known of the model {name!r}. Name a folder with its config.json, or one "
            f"of these, in any of their precisions: {names}."
        )
    return found


def row(weights: Weights, gpu: str, wish: dict[str, Any]) -> dict[str, Any]:
    """Return the plan on one GPU as a row; where it is refused, why."""
    found, count = find(gpu)
    empty = {"gpu": f"{count or ''}{'x ' if count else ''}{found.name}"}
    try:
        made = plan(weights, gpu=gpu, **wish)
    except (BadInput, BadModel) as error:
        short = error.message.partition(". ")[0]
        return empty | {"concurrent": 0, "precision": "refused", "cache": "", "note": short}
    return {
        "gpu": f"{made.count}x {found.name}",
        "concurrent": made.fit,
        "precision": made.support,
        "cache": f"{made.memory.cache / GIB:.1f} GiB",
        "note": made.note,
    }


def sequences_by_context(models: list[Weights], chosen: Plan) -> Rows:
    """Return how many sequences fit, per context length, on the GPUs of a plan.

    Other models are taken in the plan's precision, at no less than the GPUs that hold them.
    """
    found: Rows = []
    for context_tokens in CONTEXTS:
        fits = [_fit(weights, chosen, context_tokens) for weights in models]
        if fits[0] is None:
            break
        found.append(
            {"context_tokens": context_tokens} | dict(zip(_names(models), fits, strict=True))
        )
    return found


def _names(models: list[Weights]) -> list[str]:
    return [f"{weights.name.rpartition('/')[2]} ({weights.precision})" for weights in models]


def _fit(weights: Weights, chosen: Plan, context_tokens: int) -> int | None:
    """Return how many fit on a plan's GPUs; 0 for none, None beyond the model's context."""
    if weights.context_tokens and context_tokens > weights.context_tokens:
        return None
    try:
        made = plan(
            weights,
            gpu=f"{chosen.gpu.name}x{chosen.count}",
            context_tokens=context_tokens,
            concurrent=chosen.concurrent,
            prefix_caching=chosen.prefix_caching,
        )
    except BadModel:
        return 0
    return made.fit


def _show_memory(chosen: Plan) -> None:
    click.echo(f"\n{chosen}")
    parts = {
        "weights": chosen.memory.weights,
        "activations (estimated)": chosen.memory.activations,
        "CUDA (estimated)": chosen.memory.cuda,
        "cache": chosen.memory.cache,
        "left alone": chosen.memory.spare,
    }
    click.echo(f"of {chosen.gpu.memory_gib:.1f} GiB on each: {_listed(parts, GIB, 'GiB')}")
    one = chosen.sequence
    parts = {
        "keys and values": one.keys_and_values,
        "state": one.state,
        f"rounding to blocks of {chosen.layout.block_tokens:,} tokens": one.rounding,
    }
    click.echo(f"one sequence: {_listed(parts, 2**20, 'MiB')}")
    click.echo(f"engine arguments: {json.dumps(chosen.engine_arguments())}")


def _show_warm(warm: dict[str, Any], *, estimated: bool) -> None:
    calls, n_tasks = warm["calls_per_hour"], warm["tasks_per_hour"]
    told = "estimated, or give --load-s" if estimated else "as given"
    click.echo(
        f"\na warm engine (`nemoflows manifest`) is cheaper than loading per task from {n_tasks:,} "
        f"tasks an hour, {calls:,} calls at {calls // n_tasks:,} each: a load takes "
        f"{warm['load_s']:.0f} s ({told})"
    )
    if warm["usd_per_hour"] is not None:
        click.echo(
            f"it costs ${warm['usd_per_hour']:.2f} an hour, a load ${warm['usd_per_load']:.4f}"
        )


def _listed(parts: dict[str, int], unit: int, name: str) -> str:
    return ", ".join(f"{part} {value / unit:.1f} {name}" for part, value in parts.items())


def _show_chart(curve: Rows, chosen: Plan) -> None:
    """Print sequences against context, as bars whose length is a logarithm."""
    if not curve:
        return
    click.secho(f"\nsequences on {chosen.count}x {chosen.gpu.name}, by context", bold=True)
    names = [name for name in curve[0] if name != "context_tokens"]
    most = max((line[name] or 0) for line in curve for name in names)
    for line in curve:
        for name in names:
            fit = line[name]
            told = "beyond its context" if fit is None else f"{fit:,}"
            bar = "█" * _length(fit or 0, most)
            label = f" {name}" if len(names) > 1 else ""
            click.echo(f"  {line['context_tokens']:>9,} {bar} {told}{label}")


def _length(value: int, most: int) -> int:
    return round(BAR * log(1 + value) / log(1 + most)) if value else 0
