"""Typed Flyte tasks for multi-agent work on two model tiers.

The tasks, as your own workflow imports them:

    from nemoflows import build_index, retrieve, extract, summarise, synthesise

Names are imported when they are first used, so that `import nemoflows` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemoflows.changes import CodingTask, Patch
    from nemoflows.tasks.coding_efficient import propose, repair
    from nemoflows.tasks.coding_frontier import escalate_change, plan_change, review
    from nemoflows.tasks.coding_pages import report_change
    from nemoflows.tasks.coding_tests import (
        coding_task,
        examine,
        function_task,
        run_tests,
        search_repair,
        select,
        snapshot,
    )
    from nemoflows.tasks.corpus import build_index, retrieve
    from nemoflows.tasks.efficient import extract, research, summarise
    from nemoflows.tasks.extractors import extract_as
    from nemoflows.tasks.frontier import escalate, plan_research, synthesise
    from nemoflows.tasks.measures import estimate_frontier, shadow
    from nemoflows.tasks.pages import report
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
    "nemoflows.changes": ("CodingTask", "Patch"),
    "nemoflows.tasks.coding_efficient": ("propose", "repair"),
    "nemoflows.tasks.coding_frontier": ("escalate_change", "plan_change", "review"),
    "nemoflows.tasks.coding_pages": ("report_change",),
    "nemoflows.tasks.coding_tests": (
        "coding_task",
        "examine",
        "function_task",
        "run_tests",
        "search_repair",
        "select",
        "snapshot",
    ),
    "nemoflows.tasks.corpus": ("build_index", "retrieve"),
    "nemoflows.tasks.efficient": ("extract", "research", "summarise"),
    "nemoflows.tasks.extractors": ("extract_as",),
    "nemoflows.tasks.frontier": ("escalate", "plan_research", "synthesise"),
    "nemoflows.tasks.measures": ("estimate_frontier", "shadow"),
    "nemoflows.tasks.pages": ("report",),
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
