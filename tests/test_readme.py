"""The README and `docs/` are true: their code runs, their commands are run, their names exist."""

from __future__ import annotations

import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import nemoflows
from nemoflows.cli.main import main
from nemoflows.coding.types import Effort
from nemoflows.models import BUILT_IN, Endpoint
from nemoflows.models.hardware import Hardware
from nemoflows.sandbox.levels import Limits
from nemoflows.settings import PREFIX, Settings, read_setting
from nemoflows.types import Policy, Setting
from nemoflows.workflows.coding import write_function
from tests.support import ROOT, run_command

PATHS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in PATHS}
README, WHOLE = PAGES["README.md"], "\n".join(PAGES.values())
RUN = "\n".join(
    path.read_text(encoding="utf-8")
    for path in [*(ROOT / "tests").glob("*.py"), ROOT / ".ci" / "run"]
    if path.name != Path(__file__).name
)
"""What the tests and the whole check run."""
ELSEWHERE = {
    "flytectl demo",  # as below
    "kubectl apply",  # as below
    "kubectl create secret",  # Kubernetes' own
    "make test-dense",  # installs torch: not a part of the whole check
    "pyflyte execution",  # Flyte's own, and it needs a cluster
}
"""Commands of the pages that nothing here runs, by their first words."""
PROGRAMS = ("make", "nemoflows", "pyflyte", "python", "kubectl", "pip", "docker", "uv")


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a language; every second fence closes one."""
    pieces = re.split(r"^```(\w*)$", page, flags=re.MULTILINE)
    opened = zip(pieces[1::4], pieces[2::4], strict=True)
    return [code.lstrip("\n") for found, code in opened if found == language]


def prose(page: str) -> str:
    """Return a page without its blocks of code."""
    return "".join(re.split(r"^```\w*$", page, flags=re.MULTILINE)[::2])


def inline(page: str) -> list[str]:
    """Return the words in code style, of the prose."""
    return [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose(page))]


def commands() -> list[list[str]]:
    """Return the commands of all pages as words, whether in a block or in a sentence."""
    lines = [
        line.removeprefix("$ ")
        for code in blocks(WHOLE, "sh")
        for line in code.replace("\\\n", " ").splitlines()
    ]
    typed = [words for words in inline(WHOLE) if words.split()[0] in PROGRAMS and " " in words]
    found = (shlex.split(line, comments=True) for line in [*lines, *typed])
    return [_without_folder(words) for words in found if words]


def _without_folder(words: list[str]) -> list[str]:
    return [words[0].removeprefix(".venv/bin/"), *words[1:]]


def tables(first: str) -> list[str]:
    """Return the first cells of the tables whose first column is headed so."""
    found = re.findall(rf"^\| {first} \|.*\n\|[-| ]+\n((?:\|.*\n?)+)", WHOLE, re.MULTILINE)
    return [row.split("|")[1].strip() for rows in found for row in rows.splitlines()]


def names_in(cells: list[str]) -> list[str]:
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_a_newcomer_can_read_it() -> None:
    assert len(README.splitlines()) <= 150


def test_every_page_is_linked_and_every_link_leads_somewhere() -> None:
    for path in PATHS:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (path.parent / link).exists(), (path.name, link)
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", README))
    assert linked == set(PAGES) - {"README.md"}


CODE = [(name, code) for name, page in PAGES.items() for code in blocks(page, "python")]


@pytest.mark.parametrize(("page", "code"), CODE, ids=[name for name, _ in CODE])
def test_its_code_runs(page: str, code: str, tmp_path: Path) -> None:
    script = tmp_path / f"{page.removesuffix('.md').lower()}.py"
    script.write_text(code)
    done = run_command("python", script, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    if "open_client" in code:
        assert "urgency='high'" in done.stdout
        assert "cost: $0" in done.stdout


def test_its_readme_has_a_step_of_ones_own() -> None:
    assert any("open_client" in code for code in blocks(README, "python"))


COMMANDS = commands()


def proof(words: list[str]) -> list[str]:
    """Return what must stand in the tests, or in the whole check, for a command to be run there."""
    texts = [" ".join(words)]
    match words:
        case ["make", *targets]:
            texts = [f"make {target}" for target in targets if "=" not in target]
        case ["pyflyte", *rest] if "run" in rest:
            named = [word for word in rest[rest.index("run") + 1 :] if not word.startswith("-")]
            texts = [f'"{named[0]}"', f'"{named[1]}"']
        case ["pyflyte", *rest] if "register" in rest:
            texts = ["make register"]
        case ["nemoflows", command, *rest]:
            inner = [word for word in rest[:1] if word in _inner(command)]
            texts = [f'"nemoflows", "{command}"', *(f'"{name}"' for name in inner)]
        case ["python", "-m", module, *_]:
            texts = [module]
        case ["python", script, *_]:
            texts = [f'"{script}"']
        case ["pip", "install", *_]:
            texts = ['"install"']
    return texts


def _inner(command: str) -> dict[str, Any]:
    found = main.get_command(click.Context(main), command)
    return dict(found.commands) if isinstance(found, click.Group) else {}


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:60])
def test_every_command_is_run_by_a_test_or_by_the_whole_check(words: list[str]) -> None:
    if words[0] == "export":
        given = [word.partition("=")[0].removeprefix(PREFIX) for word in words[1:]]
        assert {name.lower() for name in given} <= set(Settings.model_fields)
        return
    said = " ".join(words)
    if said.startswith(tuple(ELSEWHERE)):
        return
    elsewhere = [text for text in proof(words) if text in ELSEWHERE or _is_needed(text)]
    missing = [text for text in proof(words) if text not in elsewhere and not _is_run(text)]
    assert not missing, f"{said}: nothing runs {missing}"


def _is_run(text: str) -> bool:
    return re.search(rf"{re.escape(text)}(?![\w-])", RUN) is not None


def _is_needed(text: str) -> bool:
    """Return whether a target is one that another needs, which is run."""
    target = text.removeprefix("make ")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    needs = re.findall(rf"^([\w-]+):.*\b{re.escape(target)}\b", makefile, re.MULTILINE)
    return text.startswith("make ") and any(_is_run(f"make {name}") for name in needs)


def test_something_is_found_to_be_run() -> None:
    said = [" ".join(words) for words in COMMANDS]
    for start in ("make demo", "pyflyte run workflows/rag.py", "nemoflows gpus", "python -m"):
        assert any(words.startswith(start) for words in said), start
    assert not _is_run("make nothing")
    assert not _is_run('"nemoflows", "nothing"')


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for words in COMMANDS if words[0] == "make" for word in words[1:]}
    named = {word for word in named if "=" not in word}
    assert named >= {"demo", "test", "lint", "types", "package", "register", "test-dense"}
    assert named <= targets


def options(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def test_every_input_that_it_names_is_one() -> None:
    known: set[str] = set()
    for words in COMMANDS:
        if words[0] != "pyflyte" or ".py" not in " ".join(words):
            continue
        place = next(n for n, word in enumerate(words) if word.endswith(".py"))
        module = import_module(words[place].removesuffix(".py").replace("/", "."))
        workflow = getattr(module, words[place + 1])
        inputs = {f"--{name}" for name in workflow.python_interface.inputs}
        assert options(words[place:]) <= inputs, words
        known |= inputs
    known |= {f"--{name}" for name in write_function.python_interface.inputs}
    known.add("--image")  # pyflyte's own
    for text in inline(WHOLE):
        if text.startswith("--") and not text.startswith("--help"):
            assert options(text.split()) <= known, text


def test_every_option_of_the_command_is_one() -> None:
    for words in COMMANDS:
        if words[0] != "nemoflows":
            continue
        command = main.get_command(click.Context(main), words[1])
        assert command is not None, words
        if isinstance(command, click.Group) and len(words) > 2:
            command = command.commands[words[2]]
        known = {name for each in command.params for name in each.opts}
        assert options(words) - {"--help"} <= known, words


READ: dict[str, type[Setting]] = {"--policy": Policy, "--effort": Effort, "--limits": Limits}


def test_every_value_that_it_shows_can_be_read() -> None:
    typed = re.findall(r"(--(?:policy|effort|limits)) '(\{[^']+\})'", " ".join(WHOLE.split()))
    assert {name for name, _ in typed} == set(READ)
    for name, text in typed:
        kind = READ[name]
        said = read_setting(kind, text, kind()).model_dump(mode="json")
        assert json.loads(text).items() <= said.items()
    for text in re.findall(rf"{PREFIX}HARDWARE='(.+?)'", WHOLE):
        assert Hardware.model_validate_json(text) != Hardware()
    shown = [yaml.safe_load(text) for text in blocks(WHOLE, "yaml")]
    assert shown
    for given in shown:
        assert set(given) == set(Policy.model_fields)
        assert Policy.model_validate(given)


def test_its_endpoints_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    [declared] = re.findall(r"NEMOFLOWS_ENDPOINTS='(.+)'", README)
    assert json.loads(declared)
    monkeypatch.setenv("NEMOFLOWS_ENDPOINTS", declared)
    assert Settings().endpoints["local"].dialect == "vllm-server"
    shown = {name.removesuffix(":") for name in names_in(tables("endpoint"))} - {"compatible"}
    assert shown - {"+lora", "NEMOFLOWS_ENDPOINTS"} <= set(BUILT_IN)


def test_every_setting_is_in_the_tables() -> None:
    named = {name.removeprefix(PREFIX).lower() for name in names_in(tables("variable"))}
    assert named == set(Settings.model_fields)
    assert len(named) <= 15
    assert {name.lower() for name in re.findall(rf"{PREFIX}([A-Z_]+)", WHOLE)} == named
    assert set(names_in(tables("field"))) == set(Policy.model_fields)
    rows = re.findall(rf"^\| `{PREFIX}(\w+)` \| (.*) \|", WHOLE, re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", text)) for name, text in rows}
    assert told["HARDWARE"] - {"see"} == set(Hardware.model_fields)
    assert told["ENDPOINTS"] == set(Endpoint.model_fields)


def test_every_task_is_in_the_table() -> None:
    rows = set(names_in(tables("task")))
    public = {name for name in dir(nemoflows) if name.islower()}
    assert rows <= public
    assert public - rows <= set(inline(README)), "what is no task is named in a sentence"


def test_every_module_is_on_the_map() -> None:
    listed = next(code for code in blocks(WHOLE, "") if code.startswith("nemoflows/"))
    for path in (ROOT / "nemoflows").iterdir():
        name = f"{path.name}/" if path.is_dir() else path.name
        if not name.startswith("_") and path.suffix in {".py", ""}:
            assert name in listed, name
    for name in re.findall(r"[\w/]+(?:\.py|/)(?= |$)", listed, re.MULTILINE):
        assert (ROOT / name).exists() or (ROOT / "nemoflows" / name).exists(), name


def test_every_file_it_names_exists() -> None:
    folders = "docs|examples|workflows|benchmarks|nemoflows|tests"
    for name in re.findall(rf"`((?:{folders})/[\w/.-]+)`", WHOLE):
        assert (ROOT / name).exists(), name
