"""A workflow that says which policy came along."""

from __future__ import annotations

from flytekit import dynamic, task, workflow

from nemoflows.tasks import POLICY
from nemoflows.types import Policy


@task
def told(question: str, policy: Policy = POLICY) -> str:
    return f"{question} {policy}"


@workflow
def tell(policy: Policy = POLICY) -> str:
    answer: str = told(question="got", policy=policy)
    return answer


@dynamic
def tell_each(questions: list[str], policy: Policy = POLICY) -> list[str]:
    return [told(question=question, policy=policy) for question in questions]
