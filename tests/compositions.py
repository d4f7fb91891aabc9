"""A user's module: our tasks in every kind of composition that Flyte has."""

from __future__ import annotations

from functools import partial
from typing import Any

from flytekit import Workflow, conditional, dynamic, eager, map_task, workflow
from flytekit.core.task import Echo

from nemoflows import (
    Answer,
    Finding,
    Passages,
    Policy,
    Quotes,
    Research,
    answer,
    bind,
    build_index,
    escalate,
    extract,
    mapped,
    plan_research,
    research,
    retrieve,
    summarise,
    synthesise,
)
from nemoflows.gpus import plan
from nemoflows.models.weights import weights_of
from nemoflows.tasks import POLICY, overrides
from nemoflows.workflows.rag import Answered, answer_question


@workflow
def quote_each(passages: list[Passages]) -> list[Quotes]:
    """Quote from many passages at once, in a pod each."""
    quotes: list[Quotes] = mapped(extract)(passages=passages)
    return quotes


@workflow
def quote_each_plainly(passages: list[Passages]) -> list[Quotes]:
    """Do the same with Flyte's own words."""
    quotes: list[Quotes] = map_task(partial(extract, policy=POLICY))(passages=passages)
    return quotes


@workflow
def brief(questions: list[str], corpus: str, about: str) -> Answer:
    """Answer many questions, a pod for each, in one text."""
    index = build_index(corpus=corpus)
    passages = mapped(retrieve, index=index, k=3)(question=questions)
    quotes = mapped(extract)(passages=passages)
    findings = mapped(summarise)(quotes=quotes)
    return synthesise(findings=findings, question=about)


@workflow
def brief_of_one(question: str, corpus: str) -> Answer:
    """Answer one question: no list around the one finding."""
    passages = retrieve(question=question, index=build_index(corpus=corpus))
    return synthesise(findings=summarise(quotes=extract(passages=passages)))


@workflow
def brief_of_two(first: str, second: str, corpus: str) -> Answer:
    """Answer two questions that stand in the code."""
    index = build_index(corpus=corpus)
    here = summarise(quotes=extract(passages=retrieve(question=first, index=index)))
    there = summarise(quotes=extract(passages=retrieve(question=second, index=index)))
    return synthesise(findings=[here, there], question=first)


@dynamic(environment=bind().environment)
def as_many_as_there_are(questions: list[str], corpus: str) -> list[Finding]:
    """Start as many tasks as there are questions."""
    index = build_index(corpus=corpus)
    found = []
    for question in questions:
        passages = retrieve(question=question, index=index, k=3)
        found.append(summarise(quotes=extract(passages=passages)))
    return found


@eager
async def while_it_is_worth_it(question: str, corpus: str, policy: Policy = POLICY) -> Answer:
    """Decide in plain Python, on values, what is asked next."""
    index = build_index(corpus=corpus, policy=policy)
    parts = plan_research(question=question, policy=policy)
    found = research(plan=parts, index=index, policy=policy)
    known = found.research
    if found.failed:
        known = escalate(research=known, index=index, policy=policy)
    return answer(research=known, index=index, policy=policy)


WEIGHTS = weights_of("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8")
LARGER = overrides(plan(WEIGHTS, gpu="h200")) if WEIGHTS else {}
as_it_is = Echo(name="tests.compositions.as_it_is", inputs={"research": Research})


@workflow
def look_again(question: str, corpus: str, policy: Policy = POLICY) -> Research:
    """Ask the frontier where something failed; where nothing did, no pod is started."""
    index = build_index(corpus=corpus, policy=policy)
    parts = plan_research(question=question, policy=policy)
    found = research(plan=parts, index=index, policy=policy)
    known: Research = (
        conditional("something failed")
        .if_(found.failed.is_true())  # type: ignore[attr-defined]  # in a workflow it is a promise
        .then(escalate(research=found.research, index=index, policy=policy))
        .else_()
        .then(as_it_is(research=found.research))
    )
    return known


@workflow
def on_a_larger_gpu(question: str, corpus: str) -> Answer:
    """Give one node another GPU than its task was declared with."""
    index = build_index(corpus=corpus)
    agents: Any = research(plan=plan_research(question=question), index=index)
    found = agents.with_overrides(**LARGER)
    return answer(research=found.research, index=index)


@workflow
def whole(question: str, corpus: str) -> Answered:
    """Use a workflow of ours as a part of one's own."""
    answered: Answered = answer_question(question=question, corpus=corpus, agents=2)
    return answered


imperative = Workflow(name="tests.compositions.imperative")
imperative.add_workflow_input("question", str)
imperative.add_workflow_input("corpus", str)
_index = imperative.add_entity(build_index, corpus=imperative.inputs["corpus"])
_passages = imperative.add_entity(
    retrieve, question=imperative.inputs["question"], index=_index.outputs["o0"]
)
_quotes = imperative.add_entity(extract, passages=_passages.outputs["o0"])
_finding = imperative.add_entity(summarise, quotes=_quotes.outputs["o0"])
_answer = imperative.add_entity(synthesise, findings=_finding.outputs["o0"])
imperative.add_workflow_output("answer", _answer.outputs["o0"])
