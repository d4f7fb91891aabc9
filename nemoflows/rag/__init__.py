"""The question flow as steps: async functions over typed values, no workflow engine in sight."""

from nemoflows.rag.quoting import extract
from nemoflows.rag.steps import (
    StageProgress,
    build_index,
    chosen_context,
    escalate,
    packed,
    plan_research,
    research,
    retrieve,
    summarise,
    synthesise,
)

__all__ = [
    "StageProgress",
    "build_index",
    "chosen_context",
    "escalate",
    "extract",
    "packed",
    "plan_research",
    "research",
    "retrieve",
    "summarise",
    "synthesise",
]
