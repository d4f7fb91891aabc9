"""The wheel: what it holds, that plain pip resolves it, and a user's own image made of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.support import BIN, ROOT
from tests.wheels import built, environment

GOES_BACK = "looking at multiple versions"
"""What pip says when it takes an older release of a package because a newer one did not fit."""

FLOW = """
from flytekit import workflow
from nemoflows import Index, build_index

@workflow
def index_all(corpus: str) -> Index:
    return build_index(corpus=corpus)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("wheel"))


@pytest.mark.packages
def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    found = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "nemoflows").rglob("*") if path.is_file())
    wanted = {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}
    assert found == wanted
    assert "nemoflows/py.typed" in found


@pytest.mark.packages
def test_an_old_pip_resolves_it_without_going_back(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", "pip==23.2.1")
    done = subprocess.run(
        [python, "-m", "pip", "install", "--dry-run", str(wheel)],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "Would install" in done.stdout
    assert GOES_BACK not in done.stdout


@pytest.mark.packages
def test_a_users_image_with_the_newest_pip_runs_a_users_workflow(
    wheel: Path, tmp_path: Path
) -> None:
    context, root = tmp_path / "context", tmp_path / "root"
    (context / "dist").mkdir(parents=True)
    shutil.copy(wheel, context / "dist")
    (context / "flow.py").write_text(FLOW)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "elbe.md").write_text("The Elbe is 1,094 kilometres long.\n")
    python = environment(tmp_path / "venv")
    env = {"PATH": f"{python.parent}:{os.environ['PATH']}", "HOME": str(tmp_path / "home")}
    said = build(ROOT / "examples" / "image" / "Dockerfile", context, root, os.environ | env)
    assert "Successfully installed" in said
    assert GOES_BACK not in said
    env |= {"PYTHONPATH": str(root)}
    run = ["pyflyte", "run", "flow.py", "index_all", "--corpus", str(tmp_path / "docs")]
    for command in (["pyflyte-execute", "--help"], ["nemoflows", "--help"], run):
        said = shell(" ".join(command), root, os.environ | env)
    assert "n_documents=1" in said
    where = "python3 -c 'import nemoflows; print(nemoflows.__file__)'"
    assert shell(where, root, os.environ | env).startswith(str(python.parents[1]))


def build(dockerfile: Path, context: Path, root: Path, env: Mapping[str, str]) -> str:
    """Carry out a Dockerfile in a folder that stands for the image's /root; return what it said."""
    said, arguments = "", dict[str, str]()
    for line in dockerfile.read_text().splitlines():
        word, _, rest = line.partition(" ")
        match word:
            case "#" | "ENTRYPOINT":
                pass
            case "ARG":
                name, value = rest.split("=", 1)
                arguments[name] = value
            case "FROM":
                assert arguments[rest.removeprefix("$")] == "python:3.12-slim"
            case "WORKDIR":
                assert rest == "/root"
                root.mkdir()
            case "ENV":
                name, value = rest.split("=", 1)
                env = {**env, name: value.replace("/root", str(root))}
            case "COPY":
                pattern, to = rest.split()
                (root / to).mkdir(exist_ok=True)
                copied = [shutil.copy(path, root / to) for path in context.glob(pattern)]
                assert copied, line
            case "RUN":
                said += shell(rest, root, env)
            case _:
                raise AssertionError(line)
    return said


def shell(command: str, folder: Path, env: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=580,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_constraints_fit_the_bounds_and_name_no_host() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [Requirement(line) for line in project["dependencies"]]
    bounds += map(Requirement, project["optional-dependencies"]["dev"])
    pins = [Requirement(line) for line in text.splitlines()]
    for bound in (bound for bound in bounds if bound.name != "nemoflows"):
        fitting = [pin for pin in pins if pin.name == bound.name.lower()]
        assert fitting, f"{bound.name} has no line in constraints.txt"
        for pin in fitting:
            [version] = pin.specifier
            assert bound.specifier.contains(version.version), f"{pin} is outside {bound}"


def test_vectors_without_lancedb_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["lancedb"] = None
from nemoflows.search import build_index
try:
    build_index("nowhere", sys.argv[1], embed=lambda texts: 1 / 0, embedder="dense:org/model")
except Exception as error:
    print(type(error).__name__, error)
"""
    command = [BIN / "python", "-c", code, tmp_path / "root"]
    shown = subprocess.run(
        [str(word) for word in command], check=True, capture_output=True, text=True
    )
    assert shown.stdout.startswith("BadModel")
    assert "pip install 'nemoflows[dense]'" in shown.stdout
    assert not (tmp_path / "root").exists()
