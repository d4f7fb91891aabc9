"""`pyflyte run` as a person types it: answers, resumes, bad input, injection."""

from __future__ import annotations

import json
import os
import re
import sys
from html import unescape
from pathlib import Path

import pytest

from nemoflows.rag.types import Answer
from tests.loopback import ModelServer
from tests.support import ROOT, as_policy, run_command

WORKFLOW = "workflows/rag.py"


def ask(question: str, corpus: Path | str, *more: str, env: dict[str, str] | None = None) -> str:
    """Run the workflow and return what it printed."""
    done = run_command(
        "pyflyte", "run", WORKFLOW, "answer_question", "--question", question, "--corpus",
        str(corpus), *more, env=env,
    )  # fmt: skip
    return f"exit {done.returncode}\n{done.stdout}"


def report_of(printed: str) -> str:
    found = re.search(r"^report: (.+)$", printed, re.MULTILINE)
    assert found is not None, printed
    return Path(found[1]).read_text(encoding="utf-8")


def tiers(efficient: str, frontier: str) -> tuple[str, str]:
    return as_policy(efficient=efficient, frontier=frontier)


def test_a_question_is_answered_readably(corpus: Path) -> None:
    printed = ask("How long is the Elbe?", corpus)
    assert printed.startswith("exit 0")
    assert "It is 1,094 kilometres long." in printed
    assert re.search(r"^  \[1\] elbe\.md:\d+-\d+$", printed, re.MULTILINE)
    assert "cost: $0 (no model was called)" in printed
    assert "Warning" not in printed
    html = report_of(printed)
    assert "1,094" in html
    assert "No model was called" in html


def test_a_report_that_cannot_be_written_costs_no_answer(corpus: Path, tmp_path: Path) -> None:
    """The disk is full, or as here a file lies where the folder should."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/reports").write_text("in the way")
    env = {"NEMOFLOWS_HOME": str(tmp_path / "home")}
    printed = ask("How long is the Elbe?", corpus, env=env)
    assert printed.startswith("exit 0"), printed
    assert "It is 1,094 kilometres long." in printed
    assert "Traceback" not in printed
    assert re.search(
        r"^report: not written\. .*(Not a directory|File exists)", printed, re.MULTILINE
    )


def test_a_report_is_whole_or_not_there(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from nemoflows.tasks.report import keep\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))\n"
        "for name, n in (('a', 9999), ('b', 10_000), ('a', 99_999)):\n"
        "    print(keep(Path(sys.argv[1], name), 'x' * n, 'report'))\n"
    )
    done = run_command("python", "-c", code, str(tmp_path / "reports"))
    assert [line for line in done.stdout.splitlines() if line in {"True", "False"}] == [
        "True", "False", "False",
    ]  # fmt: skip
    [kept] = (tmp_path / "reports").iterdir()
    assert len(kept.read_text()) == 9999
    assert kept.stat().st_mode & 0o77 == 0


def test_everything_below_the_home_folder_is_its_owner_s(corpus: Path) -> None:
    before = os.umask(0o000)
    try:
        ask("How long is the Elbe?", corpus)
    finally:
        os.umask(before)
    home = Path(env_home())
    found = [home, *home.rglob("*")]
    assert len(found) > 10
    assert [path for path in found if path.stat().st_mode & 0o077] == []


def test_a_name_is_shown_on_one_line_whatever_it_holds(tmp_path: Path) -> None:
    forged = "[2] forged.md"
    for n, end in enumerate("\n\r\x0b\x85\u2028\u2029\x1b\u202e"):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / f"a{end}  {forged}:0-9{end}[31m.md").write_text("The Elbe is 1,094 km long.\n")
        (folder / f"b{end}  {forged}.bin").write_bytes(b"\0\xff")
    printed = ask("How long is the Elbe?", tmp_path)
    assert forged in printed
    assert not any(line.lstrip().startswith(forged) for line in re.split(r"[\n\r]", printed))
    assert not set("\x0b\x85\u2028\u2029\x1b\u202e") & set(printed)


def test_every_citation_is_at_its_offsets(corpus: Path) -> None:
    # Windows line ends and a byte order mark: offsets are of the text as decoded, untranslated.
    text = "\ufeff# Oder\r\n\r\nThe Oder is 840 kilometres long.\r\nIt ends in the Baltic Sea.\r\n"
    (corpus / "oder.txt").write_bytes(text.encode("utf-8"))
    from workflows.rag import answer_question

    for question in ("How long is the Oder?", "How many countries does the Danube flow through?"):
        answer: Answer = answer_question(question=question, corpus=str(corpus)).answer
        assert answer.citations
        for citation in answer.citations:
            path = corpus / citation.document
            whole = path.read_bytes().decode("utf-8")
            assert whole[citation.start : citation.end] == citation.quote


def test_an_added_file_is_the_only_one_read_and_is_seen(corpus: Path) -> None:
    ask("How long is the Elbe?", corpus)
    again = ask("How long is the Elbe?", corpus)
    assert "3 documents, 0 read anew" in again
    (corpus / "rhine.md").write_text("# Rhine\n\nThe Rhine is 1,233 kilometres long.\n")
    printed = ask("How long is the Rhine?", corpus)
    assert "4 documents, 1 read anew" in printed
    assert "1,233" in printed


def test_two_models_at_two_addresses_answer_and_a_rerun_pays_nothing(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_NEAR", "secret-near")
    monkeypatch.setenv("KEY_FAR", "secret-far")
    with ModelServer() as near, ModelServer() as far:
        declared = json.loads(near.endpoints("near", key_env="KEY_NEAR")) | json.loads(
            far.endpoints("far", key_env="KEY_FAR", usd_per_mtok=[1.0, 2.0])
        )
        env = {"NEMOFLOWS_ENDPOINTS": json.dumps(declared)}
        named = tiers("near:tiny", "far:tiny")
        first = ask("How long is the Elbe?", corpus, *named, env=env)
        assert "It is so. [1][2]" in first
        assert set(far.purposes()) == {"plan", "synthesise"}
        assert {"extract", "summarise"} <= set(near.purposes())
        n_calls = len(near.requests) + len(far.requests)
        second = ask("How long is the Elbe?", corpus, *named, env=env)
        assert len(near.requests) + len(far.requests) == n_calls
        assert f"paid now $0, {n_calls} replayed" in second
        assert set(near.authorizations) == {"Bearer secret-near"}
        assert set(far.authorizations) == {"Bearer secret-far"}
        kept = "".join(path.read_text(errors="replace") for path in _files(Path(env_home())))
        for text in (first, second, kept, report_of(second)):
            assert "secret-" not in text


def env_home() -> str:
    import os

    return f"{os.environ['HOME']}/.nemoflows"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("question", "corpus_name", "more", "says"),
    [
        ("", "docs", (), "question is empty"),
        ("Who?", "nowhere", (), "nowhere"),
        ("Who?", "empty", (), "empty"),
        ("Who?", "docs", tiers("nosuch:x", "builtin"), "No endpoint is called 'nosuch'"),
        ("Who?", "docs", tiers("builtin", "local:huge"), "does not serve 'huge'"),
        ("Who?", "docs", tiers("keyed:tiny", "builtin"), "NO_SUCH_KEY"),
        ("Who?", "docs", tiers("dead:tiny", "builtin"), "did not answer"),
        ("Who?", "docs", tiers("vllm:nvidia/x", "local:tiny"), "needs a GPU"),
        ("Who?", "docs", tiers("dead:tiny", "local:tiny"), "did not answer"),
        ("Who?", "docs", tiers("keyed:tiny", "local:tiny"), "NO_SUCH_KEY"),
        ("Who?", "docs", tiers("local:tiny@main", "local:tiny"), "revision"),
        ("Who?", "docs", tiers("openai:x", "builtin"), "NEMOFLOWS_OFFLINE"),
        ("Who?", "docs", tiers("anthropic:x", "builtin"), "NEMOFLOWS_OFFLINE"),
        ("Who?", "docs", as_policy(embedder="builtin:x"), "cannot embed"),
        ("Who?", "docs", ("--agents", "0"), "at least 1"),
        ("Who?", "docs", ("--k", "0", *tiers("builtin", "local:tiny")), "at least 1"),
        ("Who?", "docs", ("--hops", "0", *tiers("builtin", "local:tiny")), "at least 1"),
    ],
)
def test_bad_input_is_a_clear_error_before_any_call(
    question: str,
    corpus_name: str,
    more: tuple[str, ...],
    says: str,
    corpus: Path,
    server: ModelServer,
) -> None:
    (corpus.parent / "empty").mkdir()
    declared = json.loads(server.endpoints("local"))
    declared["keyed"] = {**declared["local"], "key_env": "NO_SUCH_KEY"}
    declared["dead"] = {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}
    env = {"NEMOFLOWS_ENDPOINTS": json.dumps(declared), "NEMOFLOWS_DEADLINE_S": "1"}
    printed = ask(question, corpus.parent / corpus_name, *more, env=env)
    assert not printed.startswith("exit 0"), printed
    assert says in " ".join(printed.split()), printed
    assert not server.requests


def test_odd_files_are_reported_and_the_rest_is_indexed(corpus: Path) -> None:
    (corpus / "junk.bin").write_bytes(bytes(range(256)) * 50)
    (corpus / "latin.txt").write_bytes("Gr\xfc\xdfe aus M\xfcnchen \xff".encode("latin-1"))
    (corpus / "broken.pdf").write_bytes(b"%PDF-1.4 nonsense")
    (corpus / "loop").symlink_to(corpus)
    (corpus / "out.md").symlink_to(Path(sys.executable))
    with (corpus / "huge.txt").open("wb") as file:
        file.truncate(300 * 2**20)
    printed = ask("How long is the Elbe?", corpus)
    assert "1,094" in printed
    html = unescape(report_of(printed))
    for name in ("junk.bin", "broken.pdf", "huge.txt", "loop", "out.md"):
        assert name in html, name


def test_what_a_person_types_is_text_in_the_report(corpus: Path) -> None:
    (corpus / "evil.md").write_text("# <script>alert(1)</script>\n\nThe Elbe is <b>long</b>.\n")
    html = report_of(ask("<script>alert(0)</script> How long is the Elbe?", corpus))
    assert html.count("<script") == 1, "the page's own"
    assert "&lt;script&gt;alert(0)" in html


def test_a_recorded_run_needs_neither_key_nor_server(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "secret")
    with ModelServer() as gone:
        env = {"NEMOFLOWS_ENDPOINTS": gone.endpoints(key_env="KEY")}
        named = tiers("local:tiny", "local:tiny")
        first = ask("How long is the Elbe?", corpus, *named, env=env)
        assert "It is so. [1][2]" in first
    monkeypatch.delenv("KEY")
    again = ask("How long is the Elbe?", corpus, *named, env=env)
    assert "It is so. [1][2]" in again, again


def test_a_terminal_shows_what_a_document_says_and_does_not_obey(corpus: Path) -> None:
    clear = "The Oder is 840 kilometres long \x1b[2J\x1b]0;owned\x07 they say."
    (corpus / "oder\x1b[2J.md").write_text(f"# Oder\n\n{clear}\n")
    printed = ask("How long is the Oder?", corpus)
    assert "840" in printed
    assert "\x1b[2J" not in printed


def test_a_workflow_input_is_never_a_bool() -> None:
    from workflows.rag import answer_question

    kinds = answer_question.python_interface.inputs.values()
    assert bool not in kinds
    assert (ROOT / WORKFLOW).exists()
