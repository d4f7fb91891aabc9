"""The values of the change flow: from an issue and a repository to a tested patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from nemoflows.errors import one_line, printable
from nemoflows.sandbox.levels import Level, Limits
from nemoflows.types import Setting, Tier, Value

TestEdits = Literal["refuse", "allow"]
"""Whether a candidate may change test files."""
Unverified = Literal["report", "fail"]
"""What to do where no change is verified."""
Outcome = Literal["passed", "failed", "error", "skipped"]
Ending = Literal["finished", "time", "memory", "report", "died", "broken", "tampered"]
"""How a test run ended: to its end; past a limit; without its last line (`died`); without its
tests, which could not be collected (`broken`); or with a runner that was interfered with."""


class Repository(Value):
    """A snapshot of a repository: never changed, named by its content."""

    uri: str
    """Archive that `nemoflows.sandbox.trees` opens."""
    name: str
    tree: str
    """SHA-256 over every file's path, mode and content."""
    n_files: int
    left_out: list[str] = Field(default_factory=list)
    """At most 100 of the files that are not in it, each with the reason."""
    origin: str = ""
    """Folder that was read; empty where there is none."""
    source: str = ""
    """Address or archive that was read; empty for a folder."""
    commit: str = ""
    """Id of the commit that it is of, or that was checked out; empty where that is not known."""
    prefix: str = ""
    """Where that folder lies below the top of its git repository, ending with `/`."""


class CodingTask(Value):
    """What is to be done, and by which tests it is judged."""

    repository: Repository
    issue: str
    test_command: str = "python -m pytest"
    """`pytest` or `PYTHON -m pytest`, with its arguments."""
    target_tests: list[str] = Field(default_factory=list)
    """Ids of the tests that must pass; empty for all that fail before the change."""
    limits: Limits = Limits()
    min_sandbox: Level = "landlock"
    test_edits: TestEdits = "refuse"
    cache_salt: str = ""
    """Another value runs again what is recorded."""


class TestResult(Value):
    """What came of one test."""

    __test__ = False  # pytest takes classes by their name

    test: str
    """pytest's node id."""
    outcome: Outcome
    seconds: float = 0.0
    text: str = ""
    """Of a failure: its traceback, trimmed to 4,000 characters."""


class TestReport(Value):
    """What came of one run of the tests over one tree."""

    __test__ = False

    key: str
    """Of its record: tree, command, limits and options."""
    tree: str
    ending: Ending
    detail: str = ""
    """Why the run did not finish, or the last of what it printed."""
    n_passed: int = 0
    not_passed: list[TestResult] = Field(default_factory=list)
    collected: list[str] = Field(default_factory=list)
    """Every test id, in order; empty for a candidate, whose tests are the baseline's."""
    plugins: list[str] = Field(default_factory=list)
    """What pytest had loaded when they were collected; empty for a candidate."""
    level: Level = "landlock"
    seconds: float = 0.0
    replayed: bool = False

    @property
    def failing(self) -> list[TestResult]:
        """Return what came of the tests that say that something is wrong, in order."""
        return [result for result in self.not_passed if result.outcome in {"failed", "error"}]

    def outcome(self, test: str) -> Outcome | None:
        """Return what came of a test of the baseline; None where the run did not finish."""
        if self.ending != "finished":
            return None
        return next((r.outcome for r in self.not_passed if r.test == test), "passed")

    def __str__(self) -> str:
        """Return the counts in one line."""
        counts = [f"{self.n_passed} passed"]
        for outcome in ("failed", "error", "skipped"):
            n = sum(result.outcome == outcome for result in self.not_passed)
            counts += [f"{n} {outcome}"] if n else []
        told = ", ".join(counts)
        return told if self.ending == "finished" else f"{self.ending}: {self.detail or told}"


class Suspect(Value):
    """A line that may be at fault."""

    path: str
    line: int
    score: float
    """0 to 1; 1 for a line that only failing tests ran."""
    why: str


class Baseline(Value):
    """The task with what is known before anything is changed."""

    task: CodingTask
    report: TestReport
    target: list[str]
    """Tests that the change must make pass."""
    set_apart: dict[str, str] = Field(default_factory=dict)
    """Failing tests that say nothing about a change, each with the reason: the sandbox lacks or
    forbids what they need."""
    slowest_passed_s: float = 0.0
    """Of the tests that passed."""
    suspects: list[Suspect] = Field(default_factory=list)
    """The most suspicious lines, best first."""


class Edit(Value):
    """Replace one stretch of a file; an empty `search` writes a new file."""

    path: str
    search: str
    replace: str


class Splice(Value):
    """Other text in the place of a stretch of a file; of a new file, all of it."""

    path: str
    start: int = 0
    end: int = 0
    text: str


class Candidate(Value):
    """A change that somebody proposed, and what the tests say about it."""

    splices: list[Splice]
    tree: str
    """Hash of the repository with the change."""
    tier: Tier
    why: str = ""
    round: int = 0
    """0 for a first proposal, else the repair round."""
    n_alike: int = 1
    """Proposals that came to the same tree."""
    n_changed: int = 0
    """Lines that the diff adds or removes."""
    report: TestReport | None = None
    """None until it is tested."""
    calls: list[str] = Field(default_factory=list)


class ChangePlan(Value):
    """What should be changed, in words."""

    summary: str = ""
    files: list[str] = Field(default_factory=list)
    """Files of the repository that the change touches."""
    steps: list[str] = Field(default_factory=list)


class Review(Value):
    """What a second look at the winner says; it advises, the tests decide."""

    verdict: Literal["accept", "object", "none"] = "none"
    comments: list[str] = Field(default_factory=list)


Status = Literal["open", "verified", "flaky", "no candidate passed", "nothing to fix"]


class Effort(Setting):
    """How much a change is tried for; as text it is JSON, YAML or the name of such a file."""

    candidates: int = Field(default=8, ge=0, le=1000)
    """Changes that the efficient tier proposes at once."""
    repairs: int = Field(default=4, ge=0, le=1000)
    """Corrections it proposes in each round."""
    rounds: int = Field(default=2, ge=0, le=20)
    """Rounds of corrections at most."""
    frontier_candidates: int = Field(default=1, ge=0, le=1000)
    """Changes that the frontier tier proposes where none passes."""
    search_runs: int = Field(default=300, ge=0)
    """Test runs of the search that repairs without a model."""
    unverified: Unverified = "report"
    """What to do where all that verified nothing: report it, or fail after the report."""


class Patch(Value):
    """The end of the flow: a unified diff that `git apply` takes, or why there is none."""

    issue: str = ""
    status: Status = "open"
    diff: str = ""
    candidate: Candidate | None = None
    flaky: list[str] = Field(default_factory=list)
    """Tests whose outcome changed when the winner was run again."""
    review: Review = Review()
    budget_note: str = ""
    """Why the budget ended the asking, with its numbers; empty where it did not."""
    usd: float | None = 0.0
    """What all calls of the flow cost, each once; None where nobody knows."""
    calls: list[str] = Field(default_factory=list)

    @property
    def outcome(self) -> str:
        """Return what the tests say of the winner; what fails under it failed before the change."""
        report = self.candidate.report if self.candidate else None
        if report is None:
            return ""
        return f"{report} (failed before, too)" if report.failing else str(report)

    @property
    def notes(self) -> list[str]:
        """Return what a reader should know beside the status, one line each."""
        budget_note = [f"stopped early: {self.budget_note}"] if self.budget_note else []
        flaky = [f"flaky: {test}" for test in self.flaky]
        verdict = "" if self.review.verdict == "none" else f" ({self.review.verdict})"
        is_free = bool(self.candidate and self.candidate.tier == "builtin" and self.calls)
        found = "found by the search without a model, after no model's candidate passed"
        return [
            *budget_note,
            *([found] if is_free else []),
            *flaky,
            *(f"review{verdict}: {each}" for each in self.review.comments),
        ]

    def __str__(self) -> str:
        """Return the patch as a person reads it in a terminal."""
        won = self.candidate
        head = f"{self.status}, {won.tier} tier: {self.outcome}" if won else self.status
        lines = [one_line(each) for each in (head, *self.notes)]
        told = "\n".join([*lines, *(["", self.diff] if won else [])])
        return printable(told)

    def __repr__(self) -> str:
        """Return one short line: flytekit prints a workflow's outputs by their repr."""
        return f"Patch({self.status!r}, {self.diff.count(chr(10))} lines)"


class Change(Value):
    """A change as far as it has come: what is to be done, what was tried, what won."""

    baseline: Baseline
    plan: ChangePlan = ChangePlan()
    candidates: list[Candidate] = Field(default_factory=list)
    """In the order in which they were proposed; those without a report are not tested yet."""
    rejected: list[str] = Field(default_factory=list)
    """Why proposals could not be applied or replies not be read."""
    n_search_runs: int = 0
    """Test runs that the search without a model took."""
    search_note: str = ""
    """Why the search had nothing to try; empty where it had."""
    n_rounds: int = 0
    """Times that the efficient tier was asked: for proposals, then for corrections."""
    budget_note: str = ""
    """Why the budget ended the asking, with its numbers; empty where it did not."""
    calls: list[str] = Field(default_factory=list)
    """Keys of all calls of the flow so far."""
    patch: Patch = Patch()
    """Open until `select` has chosen."""

    @property
    def rounds(self) -> list[list[Candidate]]:
        """Return the candidates round by round, each tier's apart."""
        rounds: dict[tuple[str, int], list[Candidate]] = {}
        for candidate in self.candidates:
            rounds.setdefault((candidate.tier, candidate.round), []).append(candidate)
        return list(rounds.values())

    def after(self, calls: Sequence[str] = (), budget_note: str = "", **update: Any) -> Change:
        """Return the change after a step, with its calls, and why the budget ended the asking."""
        update["calls"] = list(dict.fromkeys([*self.calls, *calls]))
        update["budget_note"] = self.budget_note or budget_note
        return self.model_copy(update=update)
