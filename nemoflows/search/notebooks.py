"""Read a Jupyter notebook: the text and the code of its cells, and what the code printed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from nemoflows.errors import CorpusError
from nemoflows.search import markup
from nemoflows.search.chunks import Section
from nemoflows.search.outlines import Heading, markdown_headings, sections, with_bodies

MAX_OUTPUT_CHARS = 10_000
"""Of one output; what goes on longer is a log that nobody reads."""
_STEERING = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
_BARE = re.compile(
    r"<[\w.]+(?: object)?(?: at 0x[0-9a-fA-F]+)?>|\w+\((?:children|value)=.*\)", re.DOTALL
)
"""What a program has for a table, a page or a control that only a browser shows."""
_PICTURES = ("image/", "png", "jpeg", "svg")


def notebook(text: str, note: Callable[[str], None]) -> tuple[str, list[Section]]:
    """Return the cells' sources and outputs, an empty line between two, and the sections.

    Headings are those of the Markdown cells. Of outputs what is text is kept: no pictures, no
    warnings, no traceback; a table or a page as its Markdown or its HTML says it.

    Args:
        note: Told which output was cut.

    Raises:
        CorpusError: It is no notebook.
    """
    try:
        cells = list(_parts(json.loads(text), note))
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


def _parts(notebook: dict[str, Any], note: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Yield each cell's kind and source, and behind it its outputs."""
    for number, cell in enumerate(_cells(notebook), start=1):
        yield cell["cell_type"], _text(cell["source"] if "source" in cell else cell["input"])
        for told in filter(None, map(_printed, cell.get("outputs") or ())):
            if len(told) > MAX_OUTPUT_CHARS:
                note(
                    f"cell {number} printed {len(told):,} characters, read to {MAX_OUTPUT_CHARS:,}"
                )
            yield "output", told[:MAX_OUTPUT_CHARS]


def _printed(output: Any) -> str:
    """Return an output's text as a terminal would show it in the end; "" for what is none.

    Before format 4 it lies in the output itself. Of an error its name and what it says is kept.
    """
    shown = output.get("data", output) if isinstance(output, dict) else None
    if not isinstance(shown, dict) or "stderr" in [output.get("name"), output.get("stream")]:
        return ""
    if any(kind.startswith(_PICTURES) for kind in shown):
        return ""
    if "ename" in shown:
        said = _shown(shown, "evalue")
        return " ".join(f"{_shown(shown, 'ename')}: {said}".split()) if said else ""
    told = _shown(shown, "text/markdown") or _shown(shown, "text/plain") or _shown(shown, "text")
    page = _shown(shown, "text/html") if _BARE.fullmatch(told) else ""
    return (markup.html(page)[0] if page else told) or told


def _shown(output: dict[str, Any], kind: str) -> str:
    told = output.get(kind) or ""
    whole = "".join(map(str, told)) if isinstance(told, list) else str(told)
    lines = _STEERING.sub("", _text(whole)).split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines).strip()


def _cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    if "worksheets" in notebook:  # before format 4
        return [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]
    return list(notebook["cells"])


def _text(told: str | list[str]) -> str:
    """Return a source or an output as one text.

    Source: nbformat's description of the notebook format, "multi-line strings" and version 3.
    """
    return (told if isinstance(told, str) else "".join(told)).replace("\0", "\ufffd")
