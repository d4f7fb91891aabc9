from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nemoflows.types import ModelRef
from tests.engines import InProcess
from tests.support import run_command

PARAGRAPHS = [
    {
        "id": "elbe",
        "title": "Elbe",
        "text": "The Elbe is a river. The Elbe rises in the Giant Mountains of Bohemia.",
    },
    {
        "id": "bread",
        "title": "Bread",
        "text": "Rye bread keeps for a week. Wheat bread dries out within two days.",
    },
    {
        "id": "hamburg",
        "title": "Hamburg",
        "text": "Hamburg lies on the Elbe. Its harbour was founded in 1189.",
    },
]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def printed(module: str, *folders: Path) -> list[dict[str, Any]]:
    done = run_command("python", "-m", f"benchmarks.{module}", *folders)
    assert done.returncode == 0, done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_interval(row: dict[str, Any]) -> None:
    assert row["low"] <= row["value"] <= row["high"]


def test_retrieval_ranks_a_set_that_every_ranking_gets_right(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_lines(folder / "corpus.jsonl", PARAGRAPHS)
    queries = [{"id": "1", "text": "rye bread"}, {"id": "2", "text": "harbour founded"}]
    write_lines(folder / "queries.jsonl", queries)
    (folder / "qrels.tsv").write_text("query\tdocument\tgrade\n1\tbread\t1\n2\thamburg\t2\n")
    rows = printed("retrieval", folder)
    assert [(row["set"], row["mode"], row["n"]) for row in rows] == [
        ("made", "bm25s-default", 2),
        ("made", "lexical", 2),
        ("mean", "bm25s-default", 1),
        ("mean", "lexical", 1),
    ]
    for row in rows:
        for measure in ("ndcg10", "recall10", "recall100"):
            assert row[measure] == 1.0
            assert row[f"{measure}_interval"] == [1.0, 1.0]
    assert rows[1]["n_passages"] == 3
    assert rows[1]["ndcg10_minus_bm25s-default_interval"] == [0.0, 0.0]
    assert all(row["queries_per_s"] > 0 for row in rows[:2])


def test_answers_measures_one_hop_and_what_is_left_without_the_article(tmp_path: Path) -> None:
    folder = tmp_path / "spans"
    write_lines(folder / "corpus.jsonl", PARAGRAPHS)
    question = "Where does the Elbe rise?"
    asked = {"question": question, "answers": ["Giant Mountains"], "gold_ids": ["elbe"]}
    write_lines(folder / "qa.jsonl", [asked])
    rows = {row["measure"]: row for row in printed("answers", folder)}
    assert rows["answer in first sentence"]["value"] == 1.0
    assert rows["answer in first sentence, gold paragraph given"]["value"] == 1.0
    assert rows["paragraph recall@8"]["value"] == 1.0
    assert rows["nothing found"]["value"] == 0.0
    assert "nothing found, its articles gone" in rows
    for row in rows.values():
        assert (row["set"], row["n"]) == ("spans", 1)
        check_interval(row)


def test_answers_measures_two_hops_over_a_question_s_own_paragraphs(tmp_path: Path) -> None:
    folder = tmp_path / "hops"
    write_lines(folder / "corpus.jsonl", PARAGRAPHS)
    asked = {
        "question": "On which river lies Hamburg and where does that river, the Elbe, rise?",
        "gold_ids": ["hamburg", "elbe"],
        "context_ids": ["bread", "elbe", "hamburg"],
    }
    write_lines(folder / "qa.jsonl", [asked])
    rows = {row["measure"]: row for row in printed("answers", folder)}
    assert list(rows) == [
        "both in top 2, one hop",
        "both in top 2, two hops",
        "both in top 4, two hops",
        "asked a second time",
    ]
    assert rows["both in top 4, two hops"]["value"] == 1.0
    for row in rows.values():
        check_interval(row)


def test_summaries_prints_every_choice_and_the_gain_over_the_first_sentence(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "abstracts"
    sentences = ["We describe the weather.", "Rye bread keeps for a week.", "Thanks to all."]
    item = {"title": "Bread", "sentences": sentences, "references": [sentences[1]]}
    write_lines(folder / "test.jsonl", [item, {"title": "no references", "sentences": ["x"]}])
    rows = {row["measure"]: row for row in printed("summaries", folder)}
    assert len(rows) == 15
    for kind in ("rouge1", "rouge2", "rougeL"):
        assert rows[f"oracle {kind}"]["value"] == 1.0
        assert rows[f"lead-1 {kind}"]["value"] == 0.0
        gain = rows[f"ours {kind}"]["value"] - rows[f"lead-1 {kind}"]["value"]
        assert rows[f"ours - lead-1 {kind}"]["value"] == pytest.approx(gain, abs=1e-4)
    # One word of the reference's six: 2 * 1 * 1/6 / (1 + 1/6).
    assert rows["title rouge1"]["value"] == pytest.approx(2 / 7, abs=1e-4)
    for row in rows.values():
        assert row["n"] == 1
        check_interval(row)


def test_scale_prints_each_size_and_the_exponent_between() -> None:
    named = ("--measure", "build", "--measure", "calls", "--measure", "records")
    done = run_command(
        "python", "-m", "benchmarks.scale", *named, "--measure", "agents", "--sizes", "100,200"
    )
    assert done.returncode == 0, done.stdout
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row.get("n") for row in rows] == [100, 200, None] * 4
    assert all(row["cpu_s"] > 0 and row["peak_mib"] > 10 for row in rows if "n" in row)
    assert all(-1 < row["cpu_s_exponent"] < 3 for row in rows if "n" not in row)
    assert all(row["failed"] == 0 for row in rows if "failed" in row)


def test_overhead_prints_a_median_between_its_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import overhead

    for name, value in (("RUNS", 3), ("N_CALLS", 5), ("N_REPLAYS", 5)):
        monkeypatch.setattr(overhead, name, value)
    overhead.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) >= 4
    for row in rows:
        assert row["low"] <= row["median"] <= row["high"], row
        assert row["promised"]


@pytest.mark.vllm
def test_in_process_measures_the_client_beside_bare_vllm(
    in_process: InProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from benchmarks import in_process as benchmark

    monkeypatch.setattr(benchmark, "RUNS", 3)
    monkeypatch.setattr(benchmark, "N_CALLS", 8)
    model = ModelRef.model_validate(f"vllm:{in_process.model}")
    in_process.loop.run(benchmark.measure(in_process.engine, model, str(tmp_path)))
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = {row["measure"]: row for row in printed}
    assert set(rows) == {
        "bare_cpu_ms_per_call", "client_cpu_ms_per_call", "added_cpu_ms_per_call",
        "output_tokens_per_call",
    }  # fmt: skip
    for row in rows.values():
        assert row["low"] <= row["median"] <= row["high"], row
        assert row["promised"]
    assert rows["bare_cpu_ms_per_call"]["low"] > 0
    assert 48 <= rows["output_tokens_per_call"]["median"] <= 96


def test_the_gpu_benchmark_reads_an_engines_log() -> None:
    from benchmarks.gpu import found_in

    log = (
        "Model loading took 30.74 GiB memory and 41.200000 seconds\n"
        "Available KV cache memory: 39.61 GiB\n"
        "Setting attention block size to 4176 tokens to ensure that\n"
        "GPU KV cache size: 9,043,968 tokens, Maximum concurrency for 32,768 tokens per request\n"
        "Graph capturing finished in 21 secs, took 0.84 GiB\n"
    )
    assert found_in(log) == {
        "weights_gib": 30.74, "cache_gib": 39.61, "block_tokens": 4176,
        "cache_tokens": 9_043_968, "graphs_gib": 0.84,
    }  # fmt: skip
    assert found_in("") == {}


@pytest.mark.vllm
def test_the_gpu_benchmark_sets_the_plan_beside_the_engine(
    in_process: InProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import gpu as benchmark
    from nemoflows.gpus import plan
    from nemoflows.models.weights import weights_of

    weights = weights_of(str(in_process.model))
    assert weights is not None
    made = plan(weights, gpu="h100", concurrent=8, context_tokens=4096)
    model = ModelRef.model_validate(f"vllm:{in_process.model}")
    in_process.loop.run(benchmark.measure(in_process.engine, model, made))
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = {row["measure"]: row for row in printed}
    assert rows["cache_tokens"]["planned"] == rows["cache_tokens"]["found"]
    assert rows["output_tokens_per_s, 8 agents"]["found"] > 0
