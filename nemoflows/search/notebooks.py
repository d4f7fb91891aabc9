"""Read a Jupyter notebook as the text and the code that a person wrote into its cells."""

from __future__ import annotations

import json
from typing import Any

from nemoflows.errors import CorpusError
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import Heading, markdown_headings, sections, with_bodies


def notebook(text: str) -> tuple[str, list[Section]]:
    """Return the sources of the cells, an empty line between two, and the sections.

    Headings are those of the Markdown cells; outputs are left out.

    Raises:
        CorpusError: It is no notebook.
    """
    try:
        cells = [(cell["cell_type"], _source(cell)) for cell in _cells(json.loads(text))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorpusError(f"a broken notebook: {type(error).__name__}: {error}") from error
    found: list[Heading] = []
    at = 0
    for kind, source in cells:
        if kind in {"markdown", "heading"}:
            found += [
                (at + start, level, title) for start, level, title in markdown_headings(source)
            ]
        at += len(source) + len("\n\n")
    joined = "\n\n".join(source for _, source in cells)
    return joined, sections(with_bodies(joined, found))


def _cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    if "worksheets" in notebook:  # before format 4
        return [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]
    return list(notebook["cells"])


def _source(cell: dict[str, Any]) -> str:
    """Return a cell's source; before format 4 that of code is its `input`.

    Source: nbformat's description of the notebook format, "multi-line strings" and version 3.
    """
    source = cell["source"] if "source" in cell else cell["input"]
    return (source if isinstance(source, str) else "".join(source)).replace("\0", "\ufffd")
