"""The command that runs the tests: which interpreter, with what arguments of pytest."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import NamedTuple

from nemoflows.errors import BadInput


class Command(NamedTuple):
    """A command that runs pytest."""

    python: str
    arguments: list[str]


def read_command(test_command: str) -> Command:
    """Return the interpreter and pytest's arguments.

    Raises:
        BadInput: The command does not run pytest.
    """
    words = _words(test_command)
    if words and words[0] in {"pytest", "py.test"}:
        return Command(sys.executable, words[1:])
    if words and words[0].endswith(("/pytest", "/py.test")):
        words = [f"{words[0].rpartition('/')[0]}/python", "-m", "pytest", *words[1:]]
    if len(words) >= 3 and words[1:3] == ["-m", "pytest"]:
        own = words[0] in {"python", "python3"}
        python = sys.executable if own else shutil.which(words[0])
        if python is None:
            raise BadInput(
                f"test_command={test_command!r}: there is no {words[0]!r}. Nothing was run."
            )
        return Command(os.path.abspath(python), words[3:])  # noqa: PTH100  (links stay: venvs are)
    raise _no_pytest(test_command)


def located(test_command: str, folder: str) -> str:
    """Return the command with its interpreter's path read from the repository.

    Raises:
        BadInput: The path names nothing there.
    """
    words = _words(test_command)
    if not words or "/" not in words[0]:
        return test_command
    path = os.path.normpath(os.path.join(folder, os.path.expanduser(words[0])))  # noqa: PTH111, PTH118  (links stay)
    if not os.path.exists(path):  # noqa: PTH110
        raise BadInput(
            f"test_command={test_command!r}: there is no {path!r}. A relative path is read from "
            "the folder of the repository, which an uploaded, fetched or unpacked one has none of; "
            "write the whole path of an interpreter elsewhere, in a pod one of its image "
            "(NEMOFLOWS_TESTS_IMAGE). Nothing was run."
        )
    return test_command if path == words[0] else shlex.join([path, *words[1:]])


def _words(test_command: str) -> list[str]:
    try:
        return shlex.split(test_command)
    except ValueError as error:
        raise _no_pytest(test_command) from error


_DJANGO = (
    "pytest runs Django's tests with pytest-django installed in that environment: `PYTHON -m "
    'pytest --ds=PROJECT.settings -o python_files="test*.py"`. '
)
_OTHER_RUNNERS = {
    "unittest": "pytest runs unittest's tests as they are: leave test_command out, or write "
    '`python -m pytest -o python_files="test*.py"` for files with names such as testcalc.py. ',
    "manage.py": _DJANGO,
    "django-admin": _DJANGO,
    "nose": "pytest runs tests that are written for nose, but for its setup functions: "
    "`python -m pytest`. ",
    "tox": "Name the interpreter that it makes: `.tox/ENVIRONMENT/bin/python -m pytest`. ",
    "nox": "Name the interpreter that it makes: `.nox/SESSION/bin/python -m pytest`. ",
    "uv": "Name the interpreter that it makes: `.venv/bin/python -m pytest`. ",
    "poetry": "`poetry env info --executable` names the interpreter: `THAT -m pytest`. ",
    "hatch": "`hatch env find` names the environment: `THAT/bin/python -m pytest`. ",
    "pdm": "Name the interpreter that it makes: `.venv/bin/python -m pytest`. ",
}
"""What to write instead, by a word of the command."""


def _no_pytest(test_command: str) -> BadInput:
    words = {part for word in test_command.split() for part in (word, word.rpartition("/")[2])}
    hints = (hint for word, hint in _OTHER_RUNNERS.items() if word in words)
    return BadInput(
        f"test_command={test_command!r} does not run pytest. {next(hints, '')}Write `python -m "
        "pytest ARGUMENTS`, or the path of the interpreter that has what the repository needs in "
        "place of `python`; settings of the environment belong in pytest's own. Nothing was run."
    )
