"""How many of our modules one step walks through: `extract` as a task, with one model call.

    python -m benchmarks.modules

Prints a line of JSON: functions called, modules entered (those whose functions ran, not those that
were imported), moves between files; once for a new call and once for its replay.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

from nemoflows.llm.concurrency import run_here

ROOT = str(Path(__file__).parent.parent / "nemoflows")


class Walk:
    """What is entered while it is on, in this thread and in that of the background loop."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __enter__(self) -> Self:
        run_here(_profile(self._enter))
        sys.setprofile(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        run_here(_profile(None))

    def _enter(self, frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        # Bodies of classes and modules are an import's, not a step's.
        if event == "call" and name.startswith(ROOT) and frame.f_code.co_name[0] != "<":
            self.files.append(name.removeprefix(ROOT + "/"))


async def _profile(enter: Callable[[FrameType, str, Any], None] | None) -> None:
    sys.setprofile(enter)


def walked(name: str, step: Callable[[], object]) -> dict[str, object]:
    """Return what a step walked through."""
    with Walk() as walk:
        step()
    moves = sum(a != b for a, b in zip(walk.files, walk.files[1:], strict=False))
    files = sorted(set(walk.files))
    return {
        "step": name,
        "calls": len(walk.files),
        "modules": len(files),
        "moves": moves,
        "entered": files,
    }


def main() -> None:
    """Walk through one `extract`, new and replayed."""
    with tempfile.TemporaryDirectory() as home:
        script = Path(home) / "script.json"
        quote = {"quotes": ["P1.2"]}
        script.write_text(json.dumps([{"reply": json.dumps(quote)}]))
        os.environ |= {"HOME": home, "NEMOFLOWS_EFFICIENT": f"fake:{script}"}
        from nemoflows import Passage, Passages, extract

        text = "The Elbe rises in the Giant Mountains. It is long."
        passage = Passage(id="p", document="elbe.md", start=0, end=len(text), text=text)
        # What a process does once, such as opening its session, is not the step's.
        extract(passages=Passages(question="Where does it rise?", passages=[passage]))
        asked = Passages(question="How long is the Elbe?", passages=[passage])
        for name in ("extract, one call", "extract, replayed"):
            print(json.dumps(walked(name, lambda: extract(passages=asked))))


if __name__ == "__main__":
    main()
