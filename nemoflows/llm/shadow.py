"""Asking the frontier, too, what the efficient tier answered: a sample that measures the saving."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nemoflows.calls import Answered, Reply
from nemoflows.errors import BadInput
from nemoflows.journal import Record
from nemoflows.language.terms import terms
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.results import OVER_BUDGET, CallSpec, Failure, Success
from nemoflows.money.ledger import Spent
from nemoflows.money.savings import ShadowPair, ShadowSample
from nemoflows.progress import Progress
from nemoflows.types import ModelRef


async def ask_both(
    keys: Sequence[str],
    *,
    efficient: ModelRef,
    client: BoundClient,
    share: float,
    progress: Progress | None = None,
) -> ShadowSample:
    """Ask the frontier a share of what the efficient tier answered, and compare.

    The requests are read from the journal; which are drawn depends on their keys alone, so that a
    run that is started again draws the same.

    Args:
        keys: Calls of the run.
        efficient: The model whose calls are sampled.
        client: The frontier; without a model it measures nothing.
        share: Share of its answered calls, 0 to 1; 0 asks nothing.

    Raises:
        BadInput: The share is none, or nothing remembers what was asked.
    """
    if not 0 <= share <= 1:
        raise BadInput(f"shadow_share={share} is no share: give 0 to 1. No call was made.")
    if not share or client.model.is_builtin:
        return ShadowSample()
    refuse_forgotten_sample(client.llm.journal.root)
    records = [r for key in dict.fromkeys(keys) if (r := _answered(client, key, efficient))]
    drawn = [record for record in records if _draw(record.key) < share]
    asks = [_ask(record, client) for record in drawn]
    results = await client.llm.batch(asks, max_failed=1.0, progress=progress)
    costs = {call.key: call for call in client.llm.calls([k for r in results for k in r.calls])}
    refused = [r.detail for r in results if isinstance(r, Failure) and r.reason == OVER_BUDGET]
    sample = ShadowSample(
        share=share,
        n_calls=len(records),
        pairs=[
            _pair(record, result, costs[result.calls[0]])
            for record, result in zip(drawn, results, strict=True)
            if isinstance(result, Success) and result.calls[0] in costs
        ],
        budget_note=next(iter(refused), ""),
    )
    client.llm.journal.note("shadows", sample.model_dump_json())
    return sample


def refuse_forgotten_sample(journal_root: str) -> None:
    """Refuse a sample where nothing remembers what was asked.

    Raises:
        BadInput: There is no journal.
    """
    if not journal_root:
        raise BadInput(
            "A shadow sample reads the requests from the journal, and it is off. Set "
            "NEMOFLOWS_JOURNAL, or shadow_share to 0. No call was made."
        )


def _answered(client: BoundClient, key: str, model: ModelRef) -> Record | None:
    record = client.llm.journal.get(key)
    is_right = record is not None and record.model == str(model)
    return record if is_right and isinstance(record.outcome, Answered) else None  # type: ignore[union-attr]


def _draw(key: str) -> float:
    """Return a number from 0 to 1 that depends on the key alone."""
    return int(hashlib.sha256(f"shadow {key}".encode()).hexdigest()[:12], 16) / 16**12


def _ask(record: Record, client: BoundClient) -> CallSpec[Reply]:
    changes: dict[str, object] = {"model": client.model, "purpose": record.purpose}
    request = record.request.model_copy(update=changes)
    return client.spec(request, lambda reply, _: reply)


def _pair(record: Record, done: Success[Reply], call: Spent) -> ShadowPair:
    used = record.usage
    return ShadowPair(
        key=record.key,
        shadow=done.calls[0],
        purpose=record.purpose,
        input_tokens=used.all_input_tokens,
        output_tokens=used.output_tokens,
        shadow_input_tokens=call.usage.all_input_tokens,
        shadow_output_tokens=call.usage.output_tokens,
        shadow_usd=call.usd,
        agreement=agreement(record.outcome.reply.text, done.value.text),
        at_s=call.started_s,
    )


def agreement(one: str, other: str) -> float:
    """Return the F1 of the terms of two replies, over the texts in them where they are JSON.

    Source: the token F1 of SQuAD (Rajpurkar et al. 2016), over stemmed words without stop words.
    """
    ours, theirs = (Counter(terms(" ".join(_texts(reply)))) for reply in (one, other))
    if not ours and not theirs:
        return 1.0
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


def _texts(reply: str) -> list[str]:
    try:
        return _leaves(json.loads(reply))
    except (ValueError, RecursionError):
        return [reply]


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _leaves(item)]
    if isinstance(value, list):
        return [text for item in value for text in _leaves(item)]
    return [str(value)]
