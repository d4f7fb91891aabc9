"""The public surface: complete, sorted, documented."""

from __future__ import annotations

import inspect
import re

import pytest

import nemoflows

TASKS = {
    "build_index", "retrieve", "extract", "summarise", "synthesise", "plan_research", "research",
    "escalate", "estimate_frontier", "report", "shadow", "snapshot", "coding_task",
    "function_task", "examine", "plan_change",
    "propose", "repair", "escalate_change", "search_repair", "run_tests", "select", "review",
    "report_change",
}  # fmt: skip


FACTORIES = {"extract_as"}


def test_all_is_sorted_and_complete() -> None:
    assert nemoflows.__all__ == sorted(nemoflows.__all__)
    assert set(nemoflows.__all__) >= TASKS | FACTORIES
    assert dir(nemoflows) == nemoflows.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nemoflows.nonsense


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_is_documented_input_by_input(name: str) -> None:
    task = getattr(nemoflows, name)
    text = inspect.getdoc(task.task_function) or ""
    first, *_ = text.splitlines()
    assert first.endswith("."), first
    for section in ("Args:", "Returns:"):
        assert section in text, f"{name} lacks {section}"
    documented = set(re.findall(r"^    (\w+): ", text, re.MULTILINE))
    assert set(task.python_interface.inputs) <= documented


@pytest.mark.parametrize("name", sorted(set(nemoflows.__all__) - TASKS - FACTORIES))
def test_a_value_is_documented(name: str) -> None:
    value = getattr(nemoflows, name)
    assert inspect.getdoc(value), name
    assert value.model_config["frozen"]


def test_a_factory_is_documented_argument_by_argument() -> None:
    text = inspect.getdoc(nemoflows.extract_as) or ""
    documented = set(re.findall(r"^    (\w+): ", text, re.MULTILINE))
    assert set(inspect.signature(nemoflows.extract_as).parameters) <= documented
    assert {"Returns:", "Raises:"} <= set(text.split())
