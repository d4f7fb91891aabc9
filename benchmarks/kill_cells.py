"""A cell of the kill matrix: a real command, the moments to kill it at, and what is counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks import kill_coding
from nemoflows.journal import Journal
from nemoflows.rag.types import ResearchPlan
from nemoflows.types import Index, Policy
from tests.loopback import ModelServer
from tests.support import BIN, ROOT, write_corpus

QUESTION = "How long is the Elbe?"
N_AGENTS = 12
Flow = Literal[
    "workflow", "pod", "map_task", "dynamic", "eager", "cascade", "plain", "batch", "coding",
    "coding dynamic",
]  # fmt: skip
"""`cascade` and `plain` are a step of one's own: in a Flyte workflow, and in plain Python."""
Store = Literal["disk", "files", "s3", "flyte's s3"]
"""One SQLite file, a file per call on a disk, an object per call; the last is a pod's own, reached
by FLYTE_AWS_* alone, the journal where pods share it."""
STORES: tuple[Store, ...] = ("disk", "files", "s3")
RPM = 1200
N_ROWS = 12
N_CALLS = {
    "workflow": 37, "pod": 35, "map_task": 12, "dynamic": 24, "eager": 24, "coding": 10,
    "coding dynamic": 10, "cascade": 15, "plain": 15,
}  # fmt: skip
"""About how many calls a flow makes, so that random moments fall among them."""
OWN_STEPS = {"cascade", "plain"}
LATENCY_S = 0.03
USD_PER_MTOK = (1.0, 2.0)
CALL_USD = (120 * USD_PER_MTOK[0] + 30 * USD_PER_MTOK[1]) / 1e6
"""What the provider bills for every reply: the usage that it states, at the endpoint's price."""
MODELS = {"efficient": "near:tiny", "frontier": "near:tiny"}

_BUILDING = threading.Lock()
"""Two threads that import pyarrow for the first time at once find half of it."""

Moment = Literal[
    "random",
    "before an answer",
    "after an answer",
    "between calls",
    "index build",
    "report",
]
"""When a run is killed; all but `random` are chosen."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A command, where its journal lies, how many calls it makes at once, when it is killed."""

    flow: Flow
    store: Store
    concurrency: int
    moment: Moment = "random"
    rpm: int = 0
    """The endpoint's limit of requests per minute; 0 is none."""

    @property
    def name(self) -> str:
        """Return what the table calls it."""
        told = "" if self.random else f", {self.moment}"
        told += f", {self.rpm} rpm" if self.rpm else ""
        return f"{self.flow}, {self.store}, {self.concurrency} at once{told}"

    @property
    def n_rows(self) -> int:
        """Return how many rows plain Python asks for: no fewer than can be under way."""
        return max(N_ROWS, self.concurrency)

    @property
    def n_calls(self) -> int:
        """Return about how many calls it makes."""
        return N_CALLS[self.flow] * (self.n_rows if self.flow == "plain" else N_ROWS) // N_ROWS

    @property
    def random(self) -> bool:
        """Return whether it is killed at random moments."""
        return self.moment == "random"


def cells(*, quick: bool) -> list[Cell]:
    """Return the cells of the matrix."""
    if quick:
        return [
            Cell("workflow", "disk", 8),
            Cell("map_task", "disk", 8),
            Cell("pod", "s3", 64),
            Cell("batch", "disk", 40),
            Cell("coding", "disk", 8),
            Cell("cascade", "disk", 8),
            Cell("plain", "files", 8),
            Cell("plain", "disk", 64, rpm=RPM),
            Cell("workflow", "disk", 8, "after an answer"),
        ]
    at_random = [
        *(Cell("workflow", "disk", n) for n in (1, 8, 64)),
        *(Cell("workflow", "s3", n) for n in (8, 64)),
        *(Cell("pod", "disk", n) for n in (8, 64)),
        *(Cell("pod", store, n) for store in ("s3", "flyte's s3") for n in (8, 64)),
        Cell("map_task", "disk", 8),
        Cell("map_task", "s3", 8),
        Cell("dynamic", "disk", 8),
        Cell("eager", "disk", 8),
        *(Cell(flow, store, 8) for flow in ("cascade", "plain") for store in ("disk", "s3")),
        Cell("batch", "disk", 40),
        Cell("batch", "s3", 40),
        Cell("coding", "disk", 8),
        Cell("coding", "s3", 8),
        Cell("coding dynamic", "disk", 8),
        *(Cell(flow, "files", 8) for flow in ("workflow", "plain", "coding")),
        Cell("pod", "files", 64),
        *(Cell("plain", store, 64, rpm=RPM) for store in STORES),
    ]
    moments: list[Moment] = [
        "before an answer", "after an answer", "between calls", "index build", "report",
    ]  # fmt: skip
    chosen = [Cell("workflow", store, 8, at) for at in moments for store in ("disk", "s3")]
    return at_random + chosen


class Provider(ModelServer):
    """The provider on loopback: answers deterministically and counts by request."""

    def __init__(self) -> None:
        super().__init__(models=("tiny", "large"), latency_s=LATENCY_S)
        self.seen: Counter[str] = Counter()
        self.replies["plan"] = json.dumps(
            {"questions": [f"{QUESTION} Part {number}." for number in range(N_AGENTS)]}
        )
        self.script = kill_coding.script
        self.on_request = self._count
        self._lock = threading.Lock()
        self.told: Callable[[str, int], None] = lambda *_: None
        self.on_answered = lambda _: self.told("answered", self.n_seen)

    @property
    def n_seen(self) -> int:
        """Return how many requests came in."""
        return sum(self.seen.values())

    def _count(self, request_id: str) -> None:
        with self._lock:
            self.seen[request_id] += 1
        self.told("asked", self.n_seen)


@dataclass
class Stage:
    """A folder with everything that one sequence of runs uses."""

    cell: Cell
    folder: Path
    provider: Provider
    run: str
    environment: dict[str, str] = field(init=False)
    place: str = field(init=False)
    """Where the journal lies."""

    def __post_init__(self) -> None:
        write_corpus(self.folder / "docs")
        root = self.folder / "journal"
        remote = f"s3://kills/{self.folder.name}"
        places = {"s3": remote, "files": f"file://{root}"}
        places |= {"flyte's s3": f"{remote}/nemoflows/p/d/journal"}
        self.place, limit = places.get(self.cell.store, str(root)), {"rpm": self.cell.rpm}
        self.environment = {
            **os.environ,
            "HOME": str(self.folder / "home"),
            "PYTHONPATH": str(ROOT),
            "NEMOFLOWS_OFFLINE": "1",
            "NEMOFLOWS_ENDPOINTS": self.provider.endpoints(
                "near", usd_per_mtok=USD_PER_MTOK, **(limit if self.cell.rpm else {})
            ),
            "NEMOFLOWS_EFFICIENT": "near:tiny",
            "NEMOFLOWS_FRONTIER": "near:large" if self.cell.flow in OWN_STEPS else "near:tiny",
            "NEMOFLOWS_JOURNAL": self.place,
            "NEMOFLOWS_RUN": self.run,
            "NEMOFLOWS_CONCURRENCY": str(self.cell.concurrency),
            "NEMOFLOWS_POLICY": json.dumps({"budget_usd": 1.0} if self.cell.rpm else {}),
        }
        if self.cell.store == "flyte's s3":
            self.environment = _as_flyte_leads(self.environment)

    @property
    def journal(self) -> Journal:
        """Return the journal as it lies there now."""
        return Journal(self.place, run=self.run)

    def start(self, number: int) -> subprocess.Popen[str]:
        """Start the command anew, as its attempt of that number."""
        words, more = self._command(number)
        return subprocess.Popen(
            words,
            cwd=ROOT,
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _command(self, number: int) -> tuple[list[str], dict[str, str]]:
        asked = ["--question", QUESTION, "--corpus", str(self.folder / "docs")]
        flow = self.cell.flow
        if flow == "pod":
            return self._pod(number)
        if flow == "plain":
            return [
                sys.executable,
                "-m",
                "benchmarks.kill_plain",
                QUESTION,
                str(self.cell.n_rows),
            ], {}
        words = {
            "workflow": ["workflows/rag.py", "answer_question", *asked, "--agents", str(N_AGENTS)],
            "coding": ["workflows/coding.py", "fix_issue", *kill_coding.WORDS],
            "coding dynamic": ["benchmarks/kill_flows.py", "fixed", *kill_coding.WORDS],
            "map_task": ["benchmarks/kill_flows.py", "each", *asked],
            "dynamic": ["benchmarks/kill_flows.py", "looped", *asked],
            "eager": ["benchmarks/kill_flows.py", "eagerly", *asked],
            "cascade": ["benchmarks/kill_flows.py", "rated", *asked[:2]],
        }
        return [str(BIN / "pyflyte"), "run", *words[flow]], {}

    def _pod(self, number: int) -> tuple[list[str], dict[str, str]]:
        import nemoflows
        from nemoflows.search import build_index
        from tests.pods import prepare_pod

        with _BUILDING:
            index: Index = build_index(str(self.folder / "docs"), str(self.folder / "index"))
        questions = [f"{QUESTION} Part {n}." for n in range(N_AGENTS)]
        plan = ResearchPlan(question=QUESTION, questions=questions)
        policy = Policy.model_validate(MODELS)
        inputs: dict[str, Any] = {"plan": plan, "index": index, "policy": policy}
        is_shared = self.cell.store == "flyte's s3"
        raw = f"s3://kills/{self.folder.name}/ab/execution1-n2-{number}" if is_shared else ""
        folder = self.folder / f"pod{number}"
        words, places = prepare_pod(nemoflows.research, folder, raw=raw, **inputs)
        own = {name: value for name, value in places["env"].items() if name.startswith("FLYTE")}
        return words, own

    def result(self, number: int, printed: str) -> str:
        """Return what tells one result from another."""
        if self.cell.flow == "pod":
            import nemoflows
            from tests.pods import outputs_of

            found_there = outputs_of(nemoflows.research, self.folder / f"pod{number}" / "out")
            return repr(sorted((found_there or {}).items()))  # a protobuf's map has no order
        if self.cell.flow.startswith("coding"):
            found = re.search(r"verified.*?\n\n?cost:", printed, re.DOTALL)
        elif self.cell.flow == "workflow":
            found = re.search(r"\n\nHow long.*?\n\ncost:", "\n\n" + printed, re.DOTALL)
        else:
            found = re.search(r"RESULT \w+", printed)
        if found is None:
            raise AssertionError(f"no result in:\n{printed}")
        return found[0]


def _as_flyte_leads(environment: dict[str, str]) -> dict[str, str]:
    """Return a pod's variables where Flyte alone says where the store is and how it is opened."""
    own = {
        "FLYTE_AWS_ENDPOINT": environment["AWS_ENDPOINT_URL"],
        "FLYTE_AWS_ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
        "FLYTE_AWS_SECRET_ACCESS_KEY": environment["AWS_SECRET_ACCESS_KEY"],
    }
    told = ("AWS_", "NEMOFLOWS_JOURNAL")
    return own | {name: value for name, value in environment.items() if not name.startswith(told)}
