"""A nightly brief whose agents get a larger GPU than the tasks were registered with.

pyflyte register examples/on_a_cluster.py --image IMAGE
pyflyte run --remote examples/on_a_cluster.py brief --question "…" --corpus s3://BUCKET/docs
"""

from flytekit import CronSchedule, LaunchPlan, workflow

from nemoflows import Answer, Policy, answer, bind, build_index, plan_research
from nemoflows.tasks import POLICY

large = bind(gpu="h200", concurrent=100, name="large")
"""The same tasks, planned for another GPU; on CPUs where the efficient tier needs no GPU."""


@workflow
def brief(question: str, corpus: str, policy: Policy = POLICY) -> Answer:
    """Answer a question from a corpus in a bucket."""
    index = build_index(corpus=corpus, policy=policy)
    plan = plan_research(question=question, policy=policy)
    found = large.research(plan=plan, index=index, policy=policy)
    return answer(research=found.research, index=index, policy=policy)


NIGHTLY = LaunchPlan.get_or_create(
    brief,
    name="nightly_brief",
    schedule=CronSchedule(schedule="0 2 * * *"),
    fixed_inputs={"question": "What changed?", "corpus": "s3://bucket/docs"},
)
