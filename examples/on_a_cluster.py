"""A nightly brief whose agents get a larger GPU than the tasks were registered with.

pyflyte register examples/on_a_cluster.py --image IMAGE
pyflyte run --remote examples/on_a_cluster.py brief --question "…" --corpus s3://BUCKET/docs
"""

from typing import Any

from flytekit import CronSchedule, LaunchPlan, workflow

from nemoflows import Answer, build_index, escalate, plan_research, research, synthesise
from nemoflows.gpus import plan
from nemoflows.models.weights import weights_of
from nemoflows.tasks import TIERS, overrides

MODEL = weights_of(TIERS.efficient.name)
ROOM = overrides(plan(MODEL, gpu="h200")) if MODEL else {}
"""GPU, memory and storage of one node; nothing where the efficient tier needs no GPU. The engine
keeps the arguments it was registered with, and has more memory for its cache."""


@workflow
def brief(question: str, corpus: str) -> Answer:
    """Answer a question from a corpus in a bucket."""
    index = build_index(corpus=corpus)
    agents: Any = research(plan=plan_research(question=question), index=index)
    found = agents.with_overrides(**ROOM)
    again = escalate(failed=found.failed, index=index)
    return synthesise(question=question, findings=found.findings, escalated=again)


NIGHTLY = LaunchPlan.get_or_create(
    brief,
    name="nightly_brief",
    schedule=CronSchedule(schedule="0 2 * * *"),
    fixed_inputs={"question": "What changed?", "corpus": "s3://bucket/docs"},
)
