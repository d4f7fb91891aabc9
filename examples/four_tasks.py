"""Your own workflow from the four tasks.

pyflyte run examples/four_tasks.py brief --question "…" --corpus DIR
"""

from flytekit import workflow

from nemoflows import Answer, Policy, build_index, extract, retrieve, summarise, synthesise
from nemoflows.tasks import POLICY


@workflow
def brief(question: str, corpus: str, k: int = 6, policy: Policy = POLICY) -> Answer:
    """Answer one question without a plan and without agents: each task takes what the last gave."""
    index = build_index(corpus=corpus, policy=policy)
    passages = retrieve(question=question, index=index, k=k)
    quotes = extract(passages=passages, policy=policy)
    finding = summarise(quotes=quotes, policy=policy)
    return synthesise(findings=finding, policy=policy)
