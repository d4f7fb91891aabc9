"""Typed Flyte tasks for multi-agent work on two model tiers.

The tasks, as your own workflow imports them:

    from nemoflows import build_index, retrieve, extract, summarise, synthesise

Names are imported when they are first used, so that `import nemoflows` stays cheap. Type checkers
read them in `__init__.pyi`, which `python -m tests.stub` writes.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "nemoflows.coding.types": ("Change", "CodingTask", "Effort", "Patch"),
    "nemoflows.typed.client": ("open_client",),
    "nemoflows.typed.types": ("Extraction", "Result"),
    "nemoflows.rag.types": (
        "Answer",
        "Citation",
        "Passages",
        "Quotes",
        "Research",
        "ResearchPlan",
    ),
    "nemoflows.tasks.answer": ("answer", "escalate", "plan_research", "synthesise"),
    "nemoflows.tasks.audit": ("estimate_frontier", "shadow"),
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
    "nemoflows.tasks.coding.solve": ("solve",),
    "nemoflows.tasks.own_steps": ("ask_as", "classify_as", "extract_as"),
    "nemoflows.tasks.flyte.bind": ("Bound", "bind"),
    "nemoflows.tasks.flyte.mapped": ("mapped",),
    "nemoflows.tasks.index": ("build_index", "retrieve"),
    "nemoflows.tasks.report": ("report",),
    "nemoflows.tasks.research": ("extract", "research", "summarise"),
    "nemoflows.types": (
        "Evidence",
        "Finding",
        "Index",
        "ModelRef",
        "NotFound",
        "Passage",
        "Policy",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  (a list, if a computed one)


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'nemoflows' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
