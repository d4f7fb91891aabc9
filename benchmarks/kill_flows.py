"""The workflows that `benchmarks.kill_matrix` kills: our tasks in the user's own orchestration.

Each prints `RESULT` and a hash of what it found, so that a resumed run can be held against one that
was never killed.
"""

import functools
import hashlib

from flytekit import dynamic, eager, map_task, workflow

from nemoflows import Evidence, Finding, build_index, extract, retrieve, summarise
from nemoflows.tasks import TIERS, task
from nemoflows.types import Passage

N_QUESTIONS = 12


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
def show_quotes(found: list[list[Evidence]]) -> str:
    """Print a hash of quotes.

    Args:
        found: Quotes per question.

    Returns:
        The hash.
    """
    return _show("".join(quote.model_dump_json() for quotes in found for quote in quotes))


@task()
def show_findings(found: list[Finding]) -> str:
    """Print a hash of findings.

    Args:
        found: One per question.

    Returns:
        The hash.
    """
    return _show("".join(finding.model_dump_json() for finding in found))


def _show(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    print(f"RESULT {digest}", flush=True)
    return digest


@workflow
def mapped(question: str, corpus: str, n: int = N_QUESTIONS) -> str:
    """Extract for many questions with `map_task`, of which Flyte itself remembers nothing."""
    index = build_index(corpus=corpus)
    passages = retrieve(question=question, index=index)
    each = functools.partial(
        extract,
        passages=passages,
        tiers=TIERS,
        thinking="auto",
        fresh="",
        retry_unusable=0,
        budget_usd=None,
        spent=None,
    )
    found = map_task(each)(question=questions_of(question=question, n=n))
    return show_quotes(found=found)


@dynamic
def one_by_one(questions: list[str], passages: list[Passage]) -> list[Finding]:
    """Extract and summarise in a loop that only exists at run time.

    Args:
        questions: What is asked.
        passages: What is read.

    Returns:
        One finding per question.
    """
    found = []
    for question in questions:
        evidence = extract(question=question, passages=passages)
        found.append(summarise(question=question, evidence=evidence))
    return found


@workflow
def looped(question: str, corpus: str, n: int = N_QUESTIONS) -> str:
    """Find out about many questions in a `@dynamic` loop."""
    index = build_index(corpus=corpus)
    passages = retrieve(question=question, index=index)
    questions = questions_of(question=question, n=n)
    return show_findings(found=one_by_one(questions=questions, passages=passages))


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
    passages = retrieve(question=question, index=index)
    found: list[Finding] = []
    for number in range(n):
        asked = f"{question} Part {number}."
        evidence = extract(question=asked, passages=passages)
        found.append(summarise(question=asked, evidence=evidence))
    return show_findings(found=found)
