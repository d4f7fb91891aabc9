"""Your own workflow from the four tasks.

pyflyte run examples/four_tasks.py brief --question "…" --corpus DIR
"""

from flytekit import workflow

from nemoflows import (
    Answer,
    Finding,
    build_index,
    extract,
    retrieve,
    summarise,
    synthesise,
)
from nemoflows.tasks import task


@task()
def as_list(finding: Finding) -> list[Finding]:
    """Wrap one finding: `synthesise` takes the findings of any number of questions.

    Args:
        finding: What `summarise` returned.

    Returns:
        A list of one.
    """
    return [finding]


@workflow
def brief(question: str, corpus: str, k: int = 6) -> Answer:
    """Answer one question without a plan and without agents: four tasks in a row."""
    index = build_index(corpus=corpus)
    passages = retrieve(question=question, index=index, k=k)
    evidence = extract(question=question, passages=passages)
    finding = summarise(question=question, evidence=evidence)
    return synthesise(question=question, findings=as_list(finding=finding))
