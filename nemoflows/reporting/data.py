"""What a report shows: what the steps of a run note, and what its journal adds."""

from __future__ import annotations

from pydantic import Field

from nemoflows.coding.types import Change
from nemoflows.journal import InDoubt
from nemoflows.money.gpu_time import GpuUse
from nemoflows.money.ledger import Ledger, Spent
from nemoflows.money.savings import Savings, ShadowSample
from nemoflows.rag.types import Answer, Citation
from nemoflows.types import BUILTIN, Finding, Index, Value


class Context(Value):
    """A citation with what stands around it in its document."""

    citation: Citation
    before: str
    quote: str
    after: str


class ReportNotes(Value):
    """What a run found, and how: all that its journal's calls do not tell.

    A run notes it as JSON in its journal. Every part is optional: a run of a user's own steps may
    note its title and its calls, or nothing.
    """

    title: str = ""
    """What the report is called; the question or the issue where it is empty."""
    answer: Answer | None = None
    """None where the run has not come that far, or answers no question."""
    findings: list[Finding] = Field(default_factory=list)
    """One per question; where the next tier found better, that one."""
    contexts: list[Context] = Field(default_factory=list)
    index: Index | None = None
    change: Change | None = None
    tiers: dict[str, str] = Field(default_factory=dict)
    """Tier → the model's spelling; empty where the calls and the settings are to say it."""
    reading: str = ""
    """Whether agents searched or read the whole corpus, and what either would take."""
    budget_usd: float | None = None
    shadow: ShadowSample = ShadowSample()
    at_s: float = 0.0
    """Unix time at which the notes were written."""
    call_keys: list[str] = Field(default_factory=list)
    """Every call of the run, the shadow sample's aside."""
    superseded: list[str] = Field(default_factory=list)
    """Keys of calls that the next tier answered again, beside those of findings and candidates."""

    @property
    def heading(self) -> str:
        """Return what the run was about; empty where nothing says it."""
        asked = self.answer.question if self.answer else ""
        return self.title or asked or (self.change.patch.issue[:2000] if self.change else "")


class ReportData(ReportNotes):
    """What a report is rendered from."""

    run: str = ""
    calls: list[Spent]
    ledger: Ledger
    savings: Savings = Savings()
    gpus: list[GpuUse] = Field(default_factory=list)
    in_doubt: list[InDoubt] = Field(default_factory=list)
    """Attempts that were cut off, so that nobody knows whether they are billed."""
    durable: bool = True
    """False where the run had no journal."""

    @property
    def work_usd(self) -> float | None:
        """Return what the run's work cost, as its savings are held against it."""
        if self.savings.scenarios:
            return self.savings.scenarios[0].usd
        ledger = self.ledger
        return None if ledger.n_unpriced else ledger.usd + ledger.overhead_usd

    @property
    def n_to_builtin(self) -> int:
        """Return how many questions went on to a frontier that is the builtin tier."""
        if self.tiers.get("frontier") != BUILTIN or self.tiers.get("efficient") == BUILTIN:
            return 0
        return sum(each.tier == "frontier" for each in self.findings)

    @property
    def measuring(self) -> set[str]:
        """Return the keys of calls that the run would not have made but to measure."""
        return set(self.shadow.calls) - set(self.call_keys)
