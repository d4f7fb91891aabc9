"""Workflows of a user's whose tasks are bound in code, and some whose tasks are not."""

from __future__ import annotations

import functools
from typing import Any

from flytekit import dynamic, map_task, workflow

import nemoflows
from nemoflows.rag.types import Passages, Quotes
from nemoflows.types import Finding, Policy

SMALL = "vllm:nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16"
LARGE = "vllm:nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"
CLAUDE = "anthropic:claude-opus-5-5"

small = nemoflows.bind(Policy.model_validate({"efficient": SMALL}), gpu="a10gx2", name="small")
large = nemoflows.bind(
    Policy.model_validate({"efficient": LARGE, "frontier": CLAUDE, "budget_usd": 2.5}),
    gpu="h100",
    concurrent=100,
    engine_arguments={"seed": 7},
    secrets={"ANTHROPIC_API_KEY": "team/claude"},
)
everywhere: Any = nemoflows.extract
"""The library's own task, bound as the environment says."""


@workflow
def both(passages: Passages) -> tuple[Finding, Finding]:
    first = small.summarise(quotes=small.extract(passages=passages))
    return first, large.summarise(quotes=large.extract(passages=passages))


@dynamic
def each(questions: list[str]) -> list[nemoflows.Answer]:
    answers = []
    for question in questions:
        quotes = large.extract(passages=Passages(question=question))
        finding = small.summarise(quotes=quotes)
        answers.append(large.synthesise(findings=finding))
    return answers


@dynamic
def each_mapped(questions: list[str]) -> list[Quotes]:
    passages = [Passages(question=question) for question in questions]
    quotes: list[Quotes] = nemoflows.mapped(large.extract)(passages=passages)
    return quotes


@dynamic
def unbound(questions: list[str]) -> list[Quotes]:
    return [nemoflows.extract(passages=Passages(question=one)) for one in questions]


@dynamic
def unbound_mapped(questions: list[str]) -> list[Quotes]:
    passages = [Passages(question=question) for question in questions]
    quotes: list[Quotes] = nemoflows.mapped(nemoflows.extract)(passages=passages)
    return quotes


@dynamic
def unbound_map_task(questions: list[str]) -> list[nemoflows.Answer]:
    findings = [[Finding(question=question)] for question in questions]
    fixed = functools.partial(nemoflows.synthesise, question="", policy=Policy())
    answers: list[nemoflows.Answer] = map_task(fixed)(findings=findings)
    return answers


@dynamic
def unbound_index(questions: list[str]) -> list[nemoflows.Index]:
    return [nemoflows.build_index(corpus=one) for one in questions]


@dynamic
def bound_to_a_gpu_alone(questions: list[str]) -> list[Quotes]:
    made = nemoflows.bind(gpu="h100", name="alone")
    return [made.extract(passages=Passages(question=one)) for one in questions]


@dynamic
def bound_to_a_model_alone(questions: list[str]) -> list[Quotes]:
    made = nemoflows.bind(Policy.model_validate({"efficient": LARGE}), name="alone")
    return [made.extract(passages=Passages(question=one)) for one in questions]


@dynamic(environment=large.environment)
def told_by_its_own_environment(questions: list[str]) -> list[Quotes]:
    return [nemoflows.extract(passages=Passages(question=one)) for one in questions]


@dynamic
def without_a_model(questions: list[str], index: nemoflows.Index) -> list[Passages]:
    return [nemoflows.retrieve(question=one, index=index) for one in questions]
