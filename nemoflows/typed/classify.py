"""Classify: one of a user's own labels per row, with the agreement of samples as confidence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Literal, get_args, get_origin

from nemoflows.calls import Part, Reply, Sampling, contract
from nemoflows.calls.contract import an_object, request
from nemoflows.engines.builtin.labels import nearest
from nemoflows.errors import BadInput, BadReply
from nemoflows.llm.bound import BoundClient
from nemoflows.llm.results import CallSpec, Failure, Success
from nemoflows.progress import Progress
from nemoflows.typed.steps import ask_each, refuse_no_rows_of, step_named
from nemoflows.typed.template import Template, fields_of
from nemoflows.typed.types import Result
from nemoflows.types import Policy

SAMPLES = 3
"""Replies per row unless the user says otherwise: their agreement is the confidence.

Source: chosen; one cannot disagree, two cannot tell which is odd.
"""
THRESHOLD = 0.6
"""Confidence below which the next tier looks: of three samples two agree. Source: chosen."""
TEMPERATURE = 0.7
"""Of all samples but the first, which is the model's best. Source: chosen."""
OUTPUT_TOKENS = 64
APART = 1_000
"""Between the numbers of a row's samples: a new draw of one is never another one."""


@dataclass(frozen=True)
class ClassifyStep:
    """Labels over rows; `classify_as` makes a Flyte task of it."""

    name: str
    template: Template
    label: Any
    """An Enum or a Literal of texts."""
    row: Any = Mapping[str, str]
    examples: Mapping[str, Sequence[str]] | None = None
    """Texts by label: shown to a model, and what the tier without one goes by."""
    samples: int = SAMPLES
    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        """Check the labels.

        Raises:
            BadInput: There are fewer than two, an example has another, or no sample is taken.
        """
        known = list(self.values)
        unknown = sorted(set(self.examples or {}) - set(known))
        if len(known) < 2 or unknown or self.samples < 1 or not 0 <= self.threshold <= 1:
            raise BadInput(
                f"classify needs an Enum or Literal of at least two texts (it has {len(known)}), "
                f"examples of these alone (others: {', '.join(unknown) or 'none'}), at least one "
                f"sample ({self.samples}) and a threshold from 0 to 1 ({self.threshold}). No call "
                "was made."
            )

    @cached_property
    def values(self) -> dict[str, Any]:
        """Return the labels by how they are written; none where `label` is something else."""
        if isinstance(self.label, type) and issubclass(self.label, Enum):
            return {str(member.value): member for member in self.label}
        is_literal = get_origin(self.label) is Literal
        return {str(value): value for value in get_args(self.label)} if is_literal else {}

    @property
    def rows_type(self) -> Any:
        """Return the type of a row."""
        return self.row

    @property
    def result_type(self) -> Any:
        """Return the type of what the step says about one."""
        return Result[self.label]  # type: ignore[name-defined]

    async def run(
        self, rows: Sequence[Any], client: BoundClient, progress: Progress | None = None
    ) -> list[Any]:
        """Return one label per row, in order, with its confidence; failures are data.

        Raises:
            BadInput: A row lacks a field that the prompt names; no call was made.
        """
        refuse_no_rows_of(rows)
        specs = [self._spec(row, n, client) for row in rows for n in range(self.samples)]
        if client.model.is_builtin:
            return [self._nearest(row) for row in rows]
        results = await ask_each(specs, client, progress)
        n = self.samples
        return [self._agreed(results[k * n : (k + 1) * n]) for k in range(len(rows))]

    def low_confidence(self, result: Result[Any], row: Any, policy: Policy) -> str:
        """Return that too few samples agree; empty where enough do."""
        del row
        wanted = policy.route(self.name).threshold
        wanted = self.threshold if wanted is None else wanted
        if result.confidence is None or result.confidence >= wanted:
            return ""
        return f"The samples agree too little: confidence {result.confidence:.2f}, {wanted} wanted."

    def _spec(self, row: Any, number: int, client: BoundClient) -> CallSpec[str]:
        shown = [*self._shown_examples(), *self.template.parts(row)]
        labels = list(self.values)
        schema = an_object(label={"type": "string", "enum": labels})
        words = f"Which label fits? The labels: {json.dumps(labels, ensure_ascii=False)}."
        asked = request(
            step_named(self.name, OUTPUT_TOKENS),
            shown,
            words,
            schema,
            n_shared=len(self._shown_examples()),
        )
        sampling = Sampling(temperature=TEMPERATURE if number else 0.0)
        update = {"sample": number * APART, "sampling": sampling}
        return client.spec(asked.model_copy(update=update), self._read)

    def _shown_examples(self) -> list[Part]:
        return [
            Part(kind="field", id="example", heading=f"label: {label}", text=text)
            for label, texts in (self.examples or {}).items()
            for text in texts
        ]

    def _read(self, reply: Reply, final: bool) -> str:
        del final
        told: str = contract.field(reply, "label", str)
        folded = {label.casefold().strip(): label for label in self.values}
        found = told if told in self.values else folded.get(told.casefold().strip())
        if found is None:
            raise BadReply(f"{told[:80]!r} is not one of the labels: {', '.join(self.values)}.")
        return found

    def _agreed(self, results: Sequence[Success[str] | Failure]) -> Result[Any]:
        calls = list(dict.fromkeys(key for result in results for key in result.calls))
        told = Counter(r.value for r in results if isinstance(r, Success))
        if not told:
            first = next(r for r in results if isinstance(r, Failure))
            problem = f"{first.reason}: {first.detail}"
            return self.result_type(problem=problem, calls=calls)  # type: ignore[no-any-return]
        [(label, n)] = told.most_common(1)
        share = n / len(results) if self.samples > 1 else None
        return self._result(self.values[label], share, calls)

    def _nearest(self, row: Any) -> Result[Any]:
        text = "\n".join(str(value) for value in fields_of(row).values())
        described = {label: list((self.examples or {}).get(label, ())) for label in self.values}
        label, confidence = nearest(text, described)
        return self._result(self.values[label], confidence, [])

    def _result(self, value: Any, share: float | None, calls: list[str]) -> Result[Any]:
        made: Result[Any] = self.result_type(value=value, confidence=share, calls=calls)
        return made
