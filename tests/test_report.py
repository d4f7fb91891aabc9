"""The report's money: figures, bars, timeline, table, and the same page again from the journal."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from nemoflows.calls import Usage
from nemoflows.coding.types import Candidate
from nemoflows.engines.fake import FakeEngine, Rule
from nemoflows.llm.results import CallSpec
from nemoflows.money.budgets import Account
from nemoflows.money.gpu_time import GpuUse
from nemoflows.money.ledger import Spent, fold, usd
from nemoflows.money.savings import Savings, Scenario, ShadowSample
from nemoflows.reporting import ReportData, ReportNotes, assemble, notes_of, render
from nemoflows.reporting.change import superseded_proposals
from nemoflows.settings import Settings
from nemoflows.types import Finding, Policy
from tests.loopback import ModelServer
from tests.support import make_llm, request, run_command
from tests.test_report_html import Reader

QUESTION = "How long is the Elbe?"
AT_S = 1_795_000_000.0


def call(key: str, **more: object) -> Spent:
    told = {"key": key * 64, "purpose": "extract", "model": "m", "usd": 0.25, "replayed": False}
    told |= {"usage": Usage(input_tokens=100, cache_read_tokens=300, output_tokens=10)}
    told |= {"tier": "efficient", "task": "research", "started_s": AT_S, "seconds": 2.0}
    return Spent.model_validate(told | more)


def shown(*calls: Spent, **more: object) -> str:
    given = {"calls": list(calls), "ledger": fold(calls), "run": "r"} | more
    return render(ReportData.model_validate(given))


def text_of(html: str) -> str:
    reader = Reader()
    reader.feed(html)
    return " ".join(reader.text.split())


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (None, "unknown"),
        (0.0, "$0"),
        (1234.5, "$1,234.50"),
        (0.000031, "$0.000031"),
        (0.5, "$0.50"),
        (1e-8, "less than $0.000001"),
    ],
)
def test_an_amount_is_never_zero_where_it_is_only_small_or_unknown(
    amount: float | None, words: str
) -> None:
    assert usd(amount) == words


def test_the_cards_say_what_the_run_came_to() -> None:
    calls = [
        call("a"),
        call("b", first_key="s", reason="invalid"),
        call("c", first_key="s", replayed=True),
        call("d", tier="frontier", task="their_own", escalated=True),
    ]
    ledger = fold(calls, n_in_doubt=2, in_doubt_usd=0.125)
    text = text_of(shown(*calls, ledger=ledger, budget_usd=2.0))
    for words in (
        "$1.00the run's work",
        "$0.75paid now1 call replayed",
        "4calls1 escalated",
        "$2.00budget50%",
        "75%of input read from a cache",
        "$0.25discarded",
        "2attempts in doubtat most $0.125",
    ):
        assert words in text, words


def test_what_went_to_a_builtin_frontier_is_escalated_and_named() -> None:
    there = Finding(question="a", summary="s", tier="frontier")
    here = Finding(question="b", summary="s", tier="efficient")
    tiers = {"efficient": "near:tiny", "frontier": "builtin"}
    text = text_of(shown(call("a"), findings=[there, here], tiers=tiers))
    assert "1call1 escalated, 1 to builtin" in text


def test_a_cost_that_nobody_knows_is_not_told_as_nothing() -> None:
    text = text_of(
        shown(call("a", usd=None), call("b", purpose="plan"), call("c", purpose="plan", usd=None))
    )
    assert "unknownthe run's work at least $0.25paid now" in text
    assert "extractunknown · 1 call, 1 of unknown price" in text
    assert "planat least $0.25 · 2 calls, 1 of unknown price" in text


def test_bars_are_parted_by_tier_and_in_proportion() -> None:
    html = shown(
        call("a"), call("b", tier="frontier", usd=0.75), call("c", purpose="plan", usd=0.1)
    )
    assert re.search(
        r'bar tefficient" style="width:25.00%" title="efficient: \$0.25, 1 call"', html
    )
    assert re.search(r'bar tfrontier" style="width:75.00%"', html)
    assert re.search(r'bar tefficient" style="width:10.00%"', html)


def test_a_scenario_shows_its_basis_its_saving_and_its_interval() -> None:
    found = Savings(
        scenarios=[
            Scenario(name="as run", usd=1.0, basis="recorded prices"),
            Scenario(name="all frontier (x)", usd=4.0, low_usd=3.5, high_usd=5.0, basis="measured"),
            Scenario(name="all small frontier (y)", usd=0.5, basis="assumed"),
        ],
        agreement=0.8,
        agreement_low=0.75,
        agreement_high=0.85,
        n_samples=60,
    )
    html = shown(call("a"), savings=found, shadow=ShadowSample(share=0.1, n_calls=600))
    text = text_of(html)
    assert "$4.00 ($3.50 to $5.00)" in text
    assert "measured. The run costs $3.00 less ($2.50 to $4.00, 95 %)." in text
    assert "assumed. The run costs $0.50 more." in text
    assert "75%less than all frontier" in text
    assert "2.0 timesthe cost of all small frontier" in text
    assert "share 0.80 of their terms (0.75 to 0.85)" in text
    assert 'class="whisker" style="left:70.00%;width:30.00%"' in html


def test_pauses_between_attempts_of_a_run_are_left_out_of_its_timeline() -> None:
    calls = [call("a"), call("b", started_s=AT_S + 3_602.0), call("c", started_s=AT_S + 3_604.0)]
    html = shown(*calls, findings=[Finding(question="q", summary="s", calls=["a" * 64, "b" * 64])])
    assert "6.0 s, 3,600 s of pauses left out" in text_of(html)
    assert re.findall(r'tick tefficient" style="left:([\d.]+)%', html) == ["0.00", "33.33", "66.67"]
    assert "agent 1" in html


def test_each_call_stands_behind_the_pauses_before_it() -> None:
    calls = [call(f"{n}", started_s=AT_S + 3_600.0 * n) for n in range(5)]
    html = shown(*reversed(calls))
    assert "10.0 s, 14,392 s of pauses left out" in text_of(html)
    found = re.findall(r'tick tefficient" style="left:([\d.]+)%', html)
    assert found == ["80.00", "60.00", "40.00", "20.00", "0.00"]


OWN = "triage <of> letters"


def test_a_users_own_steps_are_shown_as_ours_are() -> None:
    calls = [
        call("a", purpose=OWN, tier="middle"),
        call("b", purpose=OWN, started_s=AT_S + 3.0),
        call("c", purpose="extract", started_s=AT_S + 1.0),
    ]
    found = Savings(scenarios=[Scenario(name="as run", usd=1.0, basis="b", by_purpose={OWN: 0.5})])
    html = shown(*calls, title="Letters of May", savings=found)
    text = text_of(html)
    assert html.count("<title>Letters of May</title>") == 1
    assert "answer" not in html.partition("<body>")[2]
    assert f"{OWN}$0.50 · 2 calls" in text
    assert re.search(r'tefficient" style="width:50.00%"[^>]*></i><i class="bar tmiddle"', html)
    assert f"By step: {OWN} $0.50." in text
    assert f"{OWN}m22.002.002.00" in text.replace(" m", "m").replace("m 2", "m2").replace(" 2", "2")
    assert text.index(f"step {OWN}") < text.index("extract1 call")


def letters(tmp_path: Path, **more: object) -> ReportData:
    """Return the report data of a run of one step of a user's own."""
    made = make_llm(FakeEngine([Rule(reply="x", usd=0.01)]), tmp_path)
    account = Account(task="letters", tier="frontier")
    asked = [CallSpec(request(text), lambda reply, _: reply.text, account=account) for text in "ab"]
    keys = [asyncio.run(made.complete(each)).calls[0] for each in asked]
    made.history.flush()
    settings = Settings.model_validate({"frontier": "anthropic:claude-opus-5-5"})
    notes = notes_of(made.history)
    assert sorted(notes.call_keys) == sorted(keys), "it noted nothing, so its receipts say it"
    return assemble(notes.model_copy(update=more), made.history, settings)


def test_a_run_that_notes_nothing_is_held_against_other_models_too(tmp_path: Path) -> None:
    data = letters(tmp_path)
    assert data.ledger.n_calls == 2
    assert data.tiers == {"efficient": "builtin", "frontier": data.calls[0].model}
    assert [scenario.name.partition(" (")[0] for scenario in data.savings.scenarios] == [
        "as run",
        "all frontier",
        "all small frontier",
        "as run, with batches",
    ]


def test_a_call_that_the_next_tier_answered_again_is_not_in_the_counterfactual(
    tmp_path: Path,
) -> None:
    data = letters(tmp_path)
    [_, whole, *_] = data.savings.scenarios
    [_, less, *_] = letters(tmp_path / "2", superseded=[data.calls[0].key]).savings.scenarios
    assert whole.usd == pytest.approx(0.02)
    assert less.usd == pytest.approx(0.01)


def test_proposals_before_the_frontiers_are_not_in_the_counterfactual() -> None:
    policy = Policy.model_validate({"efficient": "near:m", "frontier": "far:m"})
    calls = [
        call("a", purpose="propose"),
        call("b", purpose="propose"),
        call("c", purpose="propose", tier="frontier"),
        call("d", purpose="plan_change"),
    ]
    near = Candidate(splices=[], tree="a", tier="efficient", calls=["a" * 64])
    far = Candidate(splices=[], tree="c", tier="frontier", calls=["c" * 64])
    for rounds, keys in (([[near]], set()), ([[near], [far]], {"a" * 64, "b" * 64})):
        assert superseded_proposals(rounds[-1] + rounds[0], calls, policy) == keys


def test_what_an_earlier_version_noted_is_read() -> None:
    earlier = {
        "answer": {"question": QUESTION, "text": "1,094 km. [1]"},
        "findings": [{"question": QUESTION, "summary": "1,094 km."}],
        "contexts": [],
        "index": None,
        "tiers": {"efficient": "builtin", "frontier": "builtin"},
        "reading": "",
        "budget_usd": None,
        "shadow": {"share": 0.0, "n_calls": 0, "pairs": [], "budget_note": ""},
        "call_keys": ["k"],
    }
    notes = ReportNotes.model_validate_json(json.dumps(earlier))
    assert notes.heading == QUESTION
    assert notes.call_keys == ["k"]


def test_gpu_time_stands_beside_the_calls() -> None:
    used = GpuUse(model="m", usd_per_s=0.001, start_s=40, load_s=100, busy_s=30.0, idle_s=10)
    text = text_of(shown(call("a"), gpus=[used]))
    assert "m401003 0.010$0.15$0.03".replace(" ", "") in text.replace(" ", "")


def test_every_call_is_in_the_table_and_a_large_run_stays_small() -> None:
    calls = [call("a").model_copy(update={"key": f"{n:064x}"}) for n in range(2_000)]
    html = shown(*calls)
    assert html.count("<tr>") >= 2_000
    assert len(html.encode()) < 2_000_000
    assert '<p class="filter" hidden>' in html, "shown by the script alone"
    assert len(re.findall(r"<script>", html)) == 1
    assert "http" not in html.replace("http-equiv", "")


def test_the_script_is_allowed_by_its_hash_alone() -> None:
    html = shown(call("a"))
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    assert "unsafe-inline'; script-src" in html


@pytest.fixture
def priced(tmp_path: Path, server: ModelServer) -> dict[str, str]:
    """Return the environment of a run with two priced models."""
    endpoints = json.loads(server.endpoints("near", usd_per_mtok=[1.0, 2.0]))
    endpoints |= json.loads(server.endpoints("far", usd_per_mtok=[10.0, 20.0]))
    return {
        "HOME": str(tmp_path),
        "NEMOFLOWS_ENDPOINTS": json.dumps(endpoints),
        "NEMOFLOWS_EFFICIENT": "near:tiny",
        "NEMOFLOWS_FRONTIER": "far:tiny",
        "NEMOFLOWS_RUN": "reported",
    }


def ask(env: dict[str, str], corpus: Path, *more: str) -> str:
    words = ["pyflyte", "run", "workflows/rag.py", "answer_question", "--question", QUESTION]
    done = run_command(*words, "--corpus", corpus, *more, env=env)
    return f"exit {done.returncode}\n{done.stdout}"


def test_a_report_is_rebuilt_from_the_journal(
    priced: dict[str, str], corpus: Path, tmp_path: Path, server: ModelServer
) -> None:
    out = ask(priced, corpus, "--policy", '{"shadow_share": 1.0, "budget_usd": 1}')
    assert out.startswith("exit 0"), out
    [path] = re.findall(r"report: (\S+\.html)", out)
    first = Path(path).read_text("utf-8")
    assert "all frontier (far:tiny)" in first
    assert "2 of 2 calls of the efficient tier were asked of the frontier too" in text_of(first)
    n_asked = len(server.requests)
    assert n_asked == 6, "plan, extract, summarise, answer, and two of them of both tiers"
    again = tmp_path / "again.html"
    done = run_command("nemoflows", "report", "repor", "--output", again, env=priced)
    assert done.returncode == 0, done.stdout
    assert "cost: $" in done.stdout
    assert text_of(again.read_text("utf-8")) == text_of(first)
    listed = run_command("nemoflows", "runs", env=priced).stdout
    [row] = [line for line in listed.splitlines() if "reported" in line]
    assert QUESTION in row
    assert re.search(r"reported +20\d\d-\d\d-\d\d \d\d:\d\d +4 ", row), "the sample is not its work"
    assert "run: reported (nemoflows report reported shows" in out
    assert "; shadow sample: 2 calls, $0.0" in done.stdout
    work = text_of(first).partition("the run's work")[0].split()[-1]
    assert f"as run{work}" in text_of(first), "the figure that the saving is held against"
    assert len(server.requests) == n_asked, "looking is free"


def test_a_run_that_was_killed_has_a_report_of_its_calls(
    priced: dict[str, str], corpus: Path, server: ModelServer
) -> None:
    server.faults.extend(["", "", "400"])
    out = ask(priced, corpus)
    assert not out.startswith("exit 0")
    done = run_command("nemoflows", "report", "reported", env=priced)
    assert done.returncode == 0, done.stdout
    [path] = re.findall(r"report: (\S+\.html)", done.stdout)
    assert "It has not come to an answer yet" in Path(path).read_text("utf-8")
    assert "for 2 calls" in done.stdout
    assert "extract, plan" in run_command("nemoflows", "runs", env=priced).stdout


def test_an_unknown_run_is_a_clear_error(priced: dict[str, str]) -> None:
    done = run_command("nemoflows", "report", "nobody", env=priced)
    assert done.returncode == 1
    assert "0 runs in" in done.stdout


@pytest.mark.parametrize("says", ["y", "n"])
def test_a_person_approves_before_the_frontier_is_asked(
    says: str, priced: dict[str, str], corpus: Path, server: ModelServer
) -> None:
    words = ["pyflyte", "run", "workflows/approved.py", "answer_question_approved"]
    words += ["--question", QUESTION, "--corpus", str(corpus)]
    done = run_command(*words, env=priced, typed=f"{says}\n")
    assert "The frontier far:tiny is about to be asked, for at most $" in done.stdout
    if says == "y":
        assert "It is so." in done.stdout, done.stdout
        assert server.purposes()[0] == "plan"
    else:
        assert "did not approve" in done.stdout
        assert not server.requests
