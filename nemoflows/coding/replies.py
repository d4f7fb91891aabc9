"""Reading what models wrote about code: edits that apply and compile, or words on what is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from nemoflows.calls import Reply
from nemoflows.calls.contract import SHOWN, field
from nemoflows.coding import edits
from nemoflows.coding.types import Baseline, ChangePlan, Edit, Review
from nemoflows.errors import BadReply
from nemoflows.sandbox.trees import Tree


class Changed(NamedTuple):
    """A change that applies: the tree with it, and why it was made."""

    tree: Tree
    why: str


def read_plan(reply: Reply, tree: Tree) -> ChangePlan:
    """Return the plan; files that the repository does not have are left out."""
    summary: str = field(reply, "summary", str).strip()
    if not summary:
        raise BadReply("`summary` is empty.")
    files = [path for path in _texts(reply, "files") if path in tree.files]
    return ChangePlan(
        summary=summary, files=list(dict.fromkeys(files)), steps=_texts(reply, "steps")
    )


def read_edits(reply: Reply, tree: Tree, baseline: Baseline) -> Changed:
    """Return the tree with the reply's edits applied.

    Raises:
        BadReply: There are none, one is refused, they change nothing, or a file no longer compiles.
    """
    rows = field(reply, "edits", list)
    if not rows:
        raise BadReply("`edits` is empty.")
    wanted = [_edit(row) for row in rows]
    tests = edits.files_of(baseline.report.collected)
    result = edits.apply(tree, wanted, test_edits=baseline.task.test_edits, tests=tests)
    if not isinstance(result, Tree):
        told = "; ".join(str(each) for each in result[:SHOWN])
        raise BadReply(f"Edits that cannot be applied: {told}.")
    if result.hash == tree.hash:
        raise BadReply("The edits change nothing.")
    for path in {edit.path for edit in wanted if edit.path.endswith(".py")}:
        _refuse_broken(path, result.text(path) or "", tree.text(path))
    return Changed(result, field(reply, "why", str)[:400])


def read_review(reply: Reply) -> Review:
    """Return the review."""
    verdict = field(reply, "verdict", str)
    if verdict not in {"accept", "object"}:
        raise BadReply("`verdict` must be accept or object.")
    return Review(verdict=verdict, comments=_texts(reply, "comments")[:4])


def _texts(reply: Reply, name: str) -> list[str]:
    return [text for text in field(reply, name, list) if isinstance(text, str) and text.strip()]


def _edit(row: Any) -> Edit:
    try:
        return Edit.model_validate(row)
    except ValidationError as error:
        names: Sequence[Any] = [each["loc"] for each in error.errors()]
        raise BadReply(
            f"Each of `edits` must be an object with path, search and replace; wrong: {names}."
        ) from error


def _refuse_broken(path: str, text: str, before: str | None) -> None:
    if _compiles(path, text) is None or (before is not None and _compiles(path, before)):
        return
    raise BadReply(f"{path} does not compile any more: {_compiles(path, text)}.")


def _compiles(path: str, text: str) -> str | None:
    """Return what is wrong with a source; None where nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        return str(error)
    return None
