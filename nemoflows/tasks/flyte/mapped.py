"""Mapping a task of the library over many values."""

from __future__ import annotations

from functools import partial
from typing import Any

from flytekit import map_task


def mapped(task: Any, *, concurrency: int | None = None, **fixed: Any) -> Any:
    """Return a task mapped over lists, the inputs that nobody gives fixed at their defaults.

        quotes = mapped(extract)(passages=[first, second])

    Flyte's own `map_task` takes a task only once every input is given or bound by `partial`.

    Args:
        task: A task of the library, or one that `bind` or a factory made.
        concurrency: Pods at once; None is as many as there are values.
        fixed: Inputs that are the same for every value.
    """
    inputs = task.python_interface.inputs_with_defaults
    usual = {name: default for name, (_, default) in inputs.items() if default is not None}
    return map_task(partial(task, **usual | fixed), concurrency=concurrency)
