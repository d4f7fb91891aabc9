"""Typed Flyte tasks for multi-agent work on two model tiers.

The tasks, as your own workflow imports them:

    from nemoflows import build_index, retrieve, extract, summarise, synthesise

Names are imported when they are first used, so that `import nemoflows` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemoflows.coding.types import CodingTask, Patch
    from nemoflows.tasks.answer import escalate, plan_research, synthesise
    from nemoflows.tasks.audit import estimate_frontier, shadow
    from nemoflows.tasks.coding.efficient import propose, repair
    from nemoflows.tasks.coding.frontier import escalate_change, plan_change, review
    from nemoflows.tasks.coding.report import report_change
    from nemoflows.tasks.coding.sandbox import (
        coding_task,
        examine,
        function_task,
        run_tests,
        search_repair,
        select,
        snapshot,
    )
    from nemoflows.tasks.extract_as import extract_as
    from nemoflows.tasks.index import build_index, retrieve
    from nemoflows.tasks.report import report
    from nemoflows.tasks.research import extract, research, summarise
    from nemoflows.types import (
        Answer,
        Citation,
        Evidence,
        Extraction,
        Finding,
        Index,
        ModelRef,
        NotFound,
        Passage,
        ResearchPlan,
        Tiers,
    )

_HOMES = {
    "nemoflows.coding.types": ("CodingTask", "Patch"),
    "nemoflows.tasks.coding.efficient": ("propose", "repair"),
    "nemoflows.tasks.coding.frontier": ("escalate_change", "plan_change", "review"),
    "nemoflows.tasks.coding.report": ("report_change",),
    "nemoflows.tasks.coding.sandbox": (
        "coding_task",
        "examine",
        "function_task",
        "run_tests",
        "search_repair",
        "select",
        "snapshot",
    ),
    "nemoflows.tasks.index": ("build_index", "retrieve"),
    "nemoflows.tasks.research": ("extract", "research", "summarise"),
    "nemoflows.tasks.extract_as": ("extract_as",),
    "nemoflows.tasks.answer": ("escalate", "plan_research", "synthesise"),
    "nemoflows.tasks.audit": ("estimate_frontier", "shadow"),
    "nemoflows.tasks.report": ("report",),
    "nemoflows.types": (
        "Answer",
        "Citation",
        "Evidence",
        "Extraction",
        "Finding",
        "Index",
        "ModelRef",
        "NotFound",
        "Passage",
        "ResearchPlan",
        "Tiers",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "Citation",
    "CodingTask",
    "Evidence",
    "Extraction",
    "Finding",
    "Index",
    "ModelRef",
    "NotFound",
    "Passage",
    "Patch",
    "ResearchPlan",
    "Tiers",
    "build_index",
    "coding_task",
    "escalate",
    "escalate_change",
    "estimate_frontier",
    "examine",
    "extract",
    "extract_as",
    "function_task",
    "plan_change",
    "plan_research",
    "propose",
    "repair",
    "report",
    "report_change",
    "research",
    "retrieve",
    "review",
    "run_tests",
    "search_repair",
    "select",
    "shadow",
    "snapshot",
    "summarise",
    "synthesise",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'nemoflows' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
