"""The workflows that `benchmarks.kill_matrix` kills: our tasks in the user's own orchestration.

Each prints `RESULT` and a hash of what it found, so that a resumed run can be held against one that
was never killed.
"""

import hashlib
from typing import Literal

from flytekit import dynamic, eager, workflow
from flytekit.types.file import FlyteFile
from pydantic import BaseModel

from nemoflows import (
    Effort,
    Finding,
    Index,
    Quotes,
    Result,
    ask_as,
    build_index,
    coding_task,
    extract,
    mapped,
    report_change,
    retrieve,
    summarise,
)
from nemoflows.tasks import task
from nemoflows.tasks.coding.solve import EFFORT, solve_with_gpu

N_QUESTIONS = 12
PROMPT = "How well is it asked?\n{text}"


class Rating(BaseModel):
    """What a step of one's own says of a question."""

    clarity: Literal["low", "high"]


def is_doubted(value: Rating, question: str) -> str:
    """Doubt every other question's rating, whatever it is."""
    del value
    return "Asked again." if hashlib.sha256(question.encode()).digest()[0] % 2 else ""


rate = ask_as(PROMPT, returns=Rating, name="rate", row=str, check=is_doubted)


@task()
def questions_of(question: str, n: int) -> list[str]:
    """Return variations of a question.

    Args:
        question: What is asked.
        n: How many.

    Returns:
        As many questions.
    """
    return [f"{question} Part {number}." for number in range(n)]


@task()
def show_quotes(found: list[Quotes]) -> str:
    """Print a hash of quotes.

    Args:
        found: Quotes per question.

    Returns:
        The hash.
    """
    return _show("".join(quotes.model_dump_json() for quotes in found))


@task()
def show_findings(found: list[Finding]) -> str:
    """Print a hash of findings.

    Args:
        found: One per question.

    Returns:
        The hash.
    """
    return _show("".join(finding.model_dump_json() for finding in found))


@task()
def show_ratings(found: list[Result[Rating]]) -> str:
    """Print a hash of ratings.

    Args:
        found: One per question.

    Returns:
        The hash.
    """
    return show(found)


def show(found: list[Result[Rating]]) -> str:
    """Print a hash of ratings, and return it."""
    return _show("".join(rating.model_dump_json() for rating in found))


def _show(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    print(f"RESULT {digest}", flush=True)
    return digest


@workflow
def each(question: str, corpus: str, n: int = N_QUESTIONS) -> str:
    """Extract for many questions with `map_task`, of which Flyte itself remembers nothing."""
    index = build_index(corpus=corpus)
    questions = questions_of(question=question, n=n)
    passages = mapped(retrieve, index=index)(question=questions)
    return show_quotes(found=mapped(extract)(passages=passages))


@dynamic
def one_by_one(questions: list[str], index: Index) -> list[Finding]:
    """Extract and summarise in a loop that only exists at run time.

    Args:
        questions: What is asked.
        index: What is read.

    Returns:
        One finding per question.
    """
    found = []
    for question in questions:
        passages = retrieve(question=question, index=index)
        found.append(summarise(quotes=extract(passages=passages)))
    return found


@workflow
def looped(question: str, corpus: str, n: int = N_QUESTIONS) -> str:
    """Find out about many questions in a `@dynamic` loop."""
    index = build_index(corpus=corpus)
    questions = questions_of(question=question, n=n)
    return show_findings(found=one_by_one(questions=questions, index=index))


@eager
async def eagerly(question: str, corpus: str, n: int = N_QUESTIONS) -> str:
    """Find out about many questions in an `@eager` function, whose body runs anew each time.

    Args:
        question: What is asked.
        corpus: What is read.
        n: How many variations.

    Returns:
        The hash of what was found.
    """
    index = build_index(corpus=corpus)
    found: list[Finding] = []
    for number in range(n):
        passages = retrieve(question=f"{question} Part {number}.", index=index)
        found.append(summarise(quotes=extract(passages=passages)))
    return show_findings(found=found)


@workflow
def rated(question: str, n: int = N_QUESTIONS) -> str:
    """Rate questions with a step of one's own, half of them on the frontier too."""
    questions = questions_of(question=question, n=n)
    return show_ratings(found=rate.cascade(rows=questions))


@workflow
def fixed(repo: str, issue: str, effort: Effort = EFFORT) -> FlyteFile:
    """Fix an issue as where the efficient tier has a GPU: in a `@dynamic` that goes on."""
    task = coding_task(repo=repo, issue=issue)
    return report_change(change=solve_with_gpu(task=task, effort=effort))
