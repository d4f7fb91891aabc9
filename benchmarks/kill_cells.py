"""A cell of the kill matrix: a real command, the moments to kill it at, and what is counted."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks import kill_coding
from benchmarks.kill_batches import batch_sequence
from benchmarks.kill_types import Sequel
from nemoflows.journal import InDoubt, Journal
from nemoflows.rag.types import ResearchPlan
from nemoflows.types import Index, Policy
from tests.loopback import ModelServer
from tests.object_stores import KEYS, serve_s3
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
SETTLE_S = 0.3
"""Time for the provider to read what a killed run had sent."""
ATTEMPT_S = 180.0
"""Time after which a run that nobody kills counts as hung."""
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


def run_sequence(cell: Cell, folder: Path, draw: random.Random, n_kills: int) -> Sequel:
    """Kill a run so many times, finish it, and hold it against one that was never killed."""
    if cell.flow == "batch":
        return batch_sequence(cell.store, folder, draw, n_kills)
    with Provider() as provider:
        stage = Stage(cell, folder, provider, run=f"kills-{folder.name}")
        recorded: set[str] = set()
        runs: kill_coding.Runs = {}
        in_flight = repeated = kills = 0
        for number in range(n_kills):
            before = Counter(provider.seen)
            kills += killed(stage, number, draw)
            asked = provider.seen - before
            repeated += sum(asked[request_id] for request_id in recorded)
            recorded = recorded_ids(stage.journal)
            runs, before_runs = kill_coding.recorded_runs(stage.journal.root), runs
            repeated += kill_coding.n_repeated(before_runs, runs)
            in_flight += sum(n for request_id, n in asked.items() if request_id not in recorded)
        before = Counter(provider.seen)
        result = finished(stage, n_kills)
        repeated += sum((provider.seen - before)[request_id] for request_id in recorded)
        repeated += kill_coding.n_repeated(runs, kill_coding.recorded_runs(stage.journal.root))
        extra = Counter({name: n - 1 for name, n in provider.seen.items() if n > 1})
        cut = stage.journal.in_doubt()
        named = request_ids(stage.journal, {attempt.key for attempt in cut})
    wanted = unkilled(cell, folder)
    if result != wanted:
        print(f"{cell.name}, {folder.name}: expected\n{wanted}\ngot\n{result}", flush=True)
    return Sequel(
        kills=kills,
        calls=len(provider.seen),
        in_flight=in_flight,
        extra=extra.total(),
        in_doubt=len(cut),
        repeated=repeated,
        unnamed=sum(n for request_id, n in extra.items() if request_id not in named),
        same=result == wanted,
        unsent=max(0, len(cut) - in_flight) if cell.rpm else 0,
        budget_off=int(bool(cell.rpm) and not _is_near_the_bill(provider, stage.journal, cut)),
    )


def _is_near_the_bill(provider: Provider, journal: Journal, cut: Sequence[InDoubt]) -> bool:
    """Return whether a budget counts the bill, and one reservation at most per attempt in doubt."""
    bill_usd = provider.n_seen * CALL_USD
    reserved_usd = sum(attempt.reserved_usd or 0.0 for attempt in cut)
    used_usd = sum(call.usd or 0.0 for call in journal.facts(journal.run)) + reserved_usd
    return bill_usd - 1e-9 <= used_usd <= bill_usd + reserved_usd + 1e-9


def recorded_ids(journal: Journal) -> set[str]:
    """Return the provider's ids of all requests whose outcome is recorded."""
    return request_ids(journal, journal.keys())


def request_ids(journal: Journal, keys: Sequence[str] | set[str]) -> set[str]:
    """Return the provider's ids of the requests with these keys."""
    records = (journal.outcome(key) for key in keys)
    return {record.outcome.reply.request_id for record in records if record is not None}


def killed(stage: Stage, number: int, draw: random.Random) -> int:
    """Start a run and kill it at its moment; return 1, or 0 where it had finished before."""
    child = stage.start(number)
    trigger(stage, child, draw)
    try:
        child.communicate(timeout=ATTEMPT_S)
    finally:
        kill(child)
    stage.provider.told = lambda *_: None
    time.sleep(SETTLE_S)
    return int(child.returncode == -signal.SIGKILL)


def kill(child: subprocess.Popen[str]) -> None:
    """Kill a run and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def trigger(stage: Stage, child: subprocess.Popen[str], draw: random.Random) -> None:
    """Arrange that a run is killed at the moment of its cell."""
    moment = stage.cell.moment
    if moment == "random" and draw.random() < 0.3:
        threading.Timer(draw.uniform(1.0, 5.0), kill, [child]).start()
    elif moment in {"random", "before an answer", "after an answer"}:
        event = "answered" if moment == "after an answer" else "asked"
        left = stage.cell.n_calls - len(stage.journal.keys())
        at = stage.provider.n_seen + draw.randint(1, max(1, left))
        pause_s = draw.uniform(0, 2 * LATENCY_S) if moment == "random" else 0.0
        kill_at(stage, child, event, at, pause_s)
    elif moment == "between calls":
        watch(child, lambda: 1 <= len(stage.journal.keys()) == stage.provider.n_seen)
    elif moment == "index build":
        index = stage.folder / "home" / ".nemoflows" / "index"
        watch(child, lambda: any(path.is_file() for path in index.rglob("*")))
    else:
        ended = "synthesise"
        watch(child, lambda: ended in stage.provider.purposes() and _page_begun(stage))


def _page_begun(stage: Stage) -> bool:
    return (stage.folder / "home" / ".nemoflows" / "reports").exists()


def kill_at(
    stage: Stage, child: subprocess.Popen[str], event: str, at: int, pause_s: float
) -> None:
    """Kill a run when the provider has seen so many requests."""

    def told(what: str, n_seen: int) -> None:
        if what == event and n_seen >= at:
            time.sleep(pause_s)
            kill(child)

    stage.provider.told = told


def watch(child: subprocess.Popen[str], is_time: Callable[[], bool]) -> None:
    """Kill a run as soon as something is so; a run that ends first is left alone."""

    def look() -> None:
        while child.poll() is None:
            if is_time():
                kill(child)
                return
            time.sleep(0.002)

    threading.Thread(target=look, daemon=True).start()


def finished(stage: Stage, number: int) -> str:
    """Run the command to its end and return its result."""
    child = stage.start(number)
    try:
        printed, _ = child.communicate(timeout=ATTEMPT_S)
    finally:
        kill(child)
    if child.returncode:
        raise AssertionError(f"{stage.cell.name} ended with {child.returncode}:\n{printed}")
    return stage.result(number, printed)


def unkilled(cell: Cell, folder: Path) -> str:
    """Return the result of a run of the same command that nobody killed, in the same place."""
    import shutil

    for name in ("home", "journal", "index"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with Provider() as provider:
        alone = replace(cell, store="disk", moment="random", rpm=0)
        return finished(Stage(alone, folder, provider, run="unkilled"), 1_000)


@contextmanager
def object_store() -> Iterator[None]:
    """Serve S3 on loopback, for this process and the runs it starts."""
    import fsspec

    with serve_s3() as url:
        os.environ |= {**KEYS, "AWS_ENDPOINT_URL": url}
        fsspec.filesystem("s3").makedirs("kills", exist_ok=True)
        yield
