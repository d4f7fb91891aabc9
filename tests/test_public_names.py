"""The public surface: complete, sorted, documented."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import nemoflows as installed
from tests.stub import PLACE, stub

nemoflows: Any = installed
"""Without its stub, which leaves out what Python makes of the names."""

TASKS = {
    "build_index", "retrieve", "extract", "summarise", "synthesise", "plan_research", "research",
    "escalate", "answer", "estimate_frontier", "report", "shadow", "snapshot", "coding_task",
    "function_task", "examine", "plan_change",
    "propose", "repair", "escalate_change", "search_repair", "run_tests", "select", "review",
    "solve", "report_change",
}  # fmt: skip


FACTORIES = {"ask_as", "classify_as", "extract_as"}
HELPERS = {"Bound", "bind", "mapped", "open_client"}


def test_all_is_sorted_and_complete() -> None:
    assert nemoflows.__all__ == sorted(nemoflows.__all__)
    assert set(nemoflows.__all__) >= TASKS | FACTORIES | HELPERS
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


@pytest.mark.parametrize("name", sorted(set(nemoflows.__all__) - TASKS - FACTORIES - HELPERS))
def test_a_value_is_documented(name: str) -> None:
    value = getattr(nemoflows, name)
    assert inspect.getdoc(value), name
    assert value.model_config["frozen"]


@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_a_factory_is_documented_argument_by_argument(name: str) -> None:
    factory = getattr(nemoflows, name)
    text = inspect.getdoc(factory) or ""
    documented = set(re.findall(r"^    (\w+): ", text, re.MULTILINE))
    assert set(inspect.signature(factory).parameters) <= documented
    assert {"Returns:", "Raises:"} <= set(text.split())


@pytest.mark.parametrize("name", sorted(HELPERS - {"Bound"}))
def test_a_helper_is_documented_argument_by_argument(name: str) -> None:
    helper = getattr(nemoflows, name)
    text = inspect.getdoc(helper) or ""
    documented = set(re.findall(r"^    (\w+): ", text, re.MULTILINE))
    assert set(inspect.signature(helper).parameters) <= documented


def test_type_checkers_read_the_same_names() -> None:
    assert PLACE.read_text() == stub()
