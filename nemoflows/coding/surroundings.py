"""What a clean copy lacks, and which failures are of the surroundings and not of the issue.

A file that git ignores is taken into the copy only where a failing test asks for it by name, and
never one that looks like a key.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath

from nemoflows.coding.commands import read_command
from nemoflows.coding.runs import Ran
from nemoflows.coding.types import CodingTask, TestReport, TestResult
from nemoflows.sandbox.listing import Listing
from nemoflows.sandbox.trees import Tree
from nemoflows.storage.beneath import Root

MAX_FILES = 10_000
MAX_BYTES = 64 << 20
"""Of what is taken in beside the tree."""
_COPY = r"(?:[^'\"\s]*/nemoflows-run-[^/]+/copy/)"
_RUN = re.compile(r"[^'\"\s]*/nemoflows-run-[^/]+/(?!copy/)")
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_NO_NAME = re.compile(
    r"cannot import name '(\w+)' from (?:partially initialized module )?'([\w.]+)'"
)
_NO_METADATA = re.compile(r"No package metadata was found for ([\w.-]+)")
_NO_FILE = re.compile(
    r"(?:No such file or directory|Not a directory|not found)[^'\"\n]{0,40}['\"]([^'\"\n]+)['\"]"
)
_NO_GIT = re.compile(r"not a git repository|'git', '|unable to detect version|InvalidGitRepository")
_NOT_WRITABLE = re.compile(
    r"(?:Read-only file system|Permission denied|Operation not permitted): ['\"]([^'\"\n]+)['\"]"
)
_NO_NETWORK = re.compile(
    r"gaierror|Temporary failure in name resolution|Name or service not known|"
    r"Network is unreachable|nodename nor servname"
)
_SECRET = re.compile(
    r"(?:^|/)(?:\.(?:netrc|npmrc|pypirc|pgpass|htpasswd|dockercfg)|\.(?:aws|docker|kube|ssh|azure)|"
    r"id_(?:rsa|dsa|ecdsa|ed25519)[^/]*|[^/]*(?:secret|credential|token|passw|service.account)[^/]*|"
    r"[^/]*\.env(?:\.[^/]*)?|"
    r"[^/]*\.(?:pem|key|p12|pfx|jks|keystore|kdbx|tfvars|tfstate))(?:$|/)",
    re.IGNORECASE,
)
_GIT_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tbare = false\n"
"""In place of the checkout's own, which may name programs, and addresses with keys."""
_GIT_PARTS = ("HEAD", "packed-refs", "shallow", "index", "refs", "objects")


def lacking(ran: Ran, tree: Tree, origin: str) -> dict[str, bytes]:
    """Return the files of the original folder that failing tests asked the copy for in vain."""
    if not os.path.isdir(origin):  # noqa: PTH112
        return {}
    folder, found = Path(origin), dict[str, bytes]()
    for text in _texts(ran):
        for path in _asked_for(text, tree, folder):
            found |= _files_at(folder, path, tree)
        if _NO_GIT.search(text) and ".git/HEAD" not in tree.files:
            found |= _git_files(folder)
    return found if sum(map(len, found.values())) <= MAX_BYTES else {}


def apart(task: CodingTask, report: TestReport, tree: Tree, outside: Ran | None) -> dict[str, str]:
    """Return the failing tests that fail by the surroundings, each with the reason.

    Args:
        outside: What these tests say in the original folder; None where that is not known.
    """
    passed, modules = set[str](), set[str]()
    if outside is not None and outside.complete:
        passed = {r.test for r in outside.results if r.outcome == "passed"}
        modules = {test.partition("::")[0] for test in outside.collected}
    found = {}
    for result in report.failing:
        why = reason(result.text, task, report.level)
        if result.test in passed or ("::" not in result.test and result.test in modules):
            found[result.test] = (
                why or f"it passes in the folder itself; here: {_last(result.text)}"
            )
        elif not task.target_tests and (known := _forbidden(result, task, tree)):
            found[result.test] = known
    return found


def reason(text: str, task: CodingTask, level: str) -> str:
    """Return what of the surroundings a failure's text tells of; empty for nothing."""
    if entry := _left_out(text, task):
        return entry
    if _NO_GIT.search(text):
        return f"it asks git, and the copy has no history: {_last(text)}"
    if found := _NO_MODULE.search(text) or _NO_NAME.search(text):
        return (
            f"{found[0]} in the copy; `-o pythonpath=DIR` in test_command names a module's folder, "
            "and what git ignores is committed, or made by conftest.py"
        )
    if found := _NOT_WRITABLE.search(text):
        return f"{found[1]} cannot be written in the sandbox (level {level}); use tmp_path"
    if found := _NO_FILE.search(text):
        return f"{found[1]} is not in the copy"
    return ""


def _left_out(text: str, task: CodingTask) -> str:
    """Return which of the files that are not in the copy a failure names, with the reason."""
    for entry in task.repository.left_out:
        path = entry.partition(": ")[0]
        if re.search(rf"(?<![\w.-]){re.escape(path)}(?![\w.-])", text):
            return f"{entry}; it is not in the copy"
    return ""


def _forbidden(result: TestResult, task: CodingTask, tree: Tree) -> str:
    """Return what the level forbids, or no interpreter of ours can give."""
    text = result.text
    if (found := _NOT_WRITABLE.search(text)) and _is_kept(found[0], found[1]):
        return f"{found[1]} cannot be written in the sandbox; use tmp_path"
    if _NO_NETWORK.search(text):
        return f"it needs a network, which no test run has: {_last(text)}"
    if found := _NO_FILE.search(text):
        path = found[1]
        if (entry := _left_out(path, task)) and not _is_said(text, path):
            return entry
        if elsewhere := _elsewhere(path, result.test, task, tree):
            return elsewhere
    if found := _NO_MODULE.search(text):
        return _not_installed(found, result.test, task, tree)
    return ""


def _not_installed(found: re.Match[str], test: str, task: CodingTask, tree: Tree) -> str:
    """Return why a module is not there, where no change to the repository can mend it."""
    top = found[1].partition(".")[0]
    if place := _edited_at(top, task):
        return (
            f"{found[0]}: test_command's interpreter takes it from {place}, outside its own "
            "folders and the repository, where no test run reads; `pip install` without -e, from "
            "that project's folder, copies it"
        )
    theirs = any(top in path.removesuffix(".py").split("/") for path in tree.files)
    if re.search(rf"\b{re.escape(top)}\b", task.issue) or ("::" in test and not theirs):
        return ""
    if theirs:
        place = _below(top, test, tree)
        return place and (
            f"{found[0]}: it lies in {place}, as where tests are run there: name that folder, or "
            f"add `-o pythonpath={place}` to test_command"
        )
    return f"{found[0]}: install it for the interpreter that test_command names"


def _below(top: str, test: str, tree: Tree) -> str:
    """Return the folder below which a module lies that tests which are run at the top miss."""
    ends = (f"/{top}/__init__.py", f"/{top}.py")
    paths = [f"/{path}" for path in tree.files]
    places = {p.removesuffix(end).lstrip("/") for p in paths for end in ends if p.endswith(end)}
    if not places or places & {"", "src"}:
        return ""
    return max(sorted(places), key=lambda place: test.startswith(f"{place}/"))


def _edited_at(top: str, task: CodingTask) -> str:
    """Return the folder outside that a package is linked to, or a path file or a finder names."""
    python = Path(read_command(task.test_command).python)
    prefixes = {python.parent.parent, python.resolve().parent.parent}
    own = prefixes | ({Path(task.repository.origin)} if task.repository.origin else set())
    for place in sorted(p for prefix in prefixes for p in prefix.glob("lib*/python3*/*-packages")):
        found = [link for link in (place / top, place / f"{top}.py") if link.is_symlink()]
        for file in (*place.glob("*.pth"), *place.glob("__editable__*.py")):
            with suppress(OSError):
                text = file.read_text("utf-8", "replace")
                found += map(
                    Path, re.findall(rf"['\"]{re.escape(top)}['\"]: ['\"](/[^'\"]+)", text)
                )
                folders = [Path(line) for line in text.splitlines() if line.startswith("/")]
                found += [f / name for f in folders for name in (top, f"{top}.py")]
        for each in found:
            real = each.resolve()
            if real.exists() and not any(map(real.is_relative_to, own)):
                return str(real.parent)
    return ""


def _elsewhere(path: str, test: str, task: CodingTask, tree: Tree) -> str:
    """Return where a file is that a test looks for in vain: above the folder, or below another.

    A test looks there that is meant to be run in another folder, and fails in the folder itself.
    """
    origin = task.repository.origin
    outside = os.path.isabs(path) and not re.match(f"{_COPY}|/tmp/|/var/tmp/", path)  # noqa: PTH117
    if outside and os.path.isdir(os.path.dirname(path)) and not path.startswith(f"{origin}/"):  # noqa: PTH112, PTH120
        return f"it needs {path}, which lies outside the repository"
    run = _RUN.match(path)
    path = os.path.normpath(f"../{path[run.end() :]}" if run else path)
    if os.path.isabs(path) or path.rpartition("/")[2] in task.issue:  # noqa: PTH117
        return ""
    if path.startswith("../"):
        there = bool(origin) and os.path.exists(os.path.join(origin, path))  # noqa: PTH110, PTH118
        return f"it needs {path}, which lies outside the folder that is named" if there else ""
    above = [parent.as_posix() for parent in PurePosixPath(test.partition("::")[0]).parents[:-1]]
    for parent in above:
        if f"{parent}/{path}" in tree.files:
            return f"it reads {path} in {parent}, as where tests are run there: name that folder"
    return ""


def _is_said(text: str, path: str) -> bool:
    """Return whether an assertion names a path in its message alone: it had failed by then."""
    for line in re.findall(r"^>\s+(assert .+)$", text, re.MULTILINE):
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            [node] = ast.parse(line).body
            if isinstance(node, ast.Assert) and node.msg and path not in ast.unparse(node.test):
                return path in ast.unparse(node.msg)
    return False


def _is_kept(told: str, path: str) -> bool:
    """Return whether it was the sandbox that kept a path from being written."""
    inside = not os.path.isabs(path) or re.match(_COPY, path)  # noqa: PTH117
    return told.startswith("Read-only") or not inside or os.geteuid() != 0


def _texts(ran: Ran) -> Iterator[str]:
    yield from (r.text for r in [*ran.broken, *ran.results] if r.outcome in {"failed", "error"})
    if not ran.complete:
        yield ran.output


def _last(text: str) -> str:
    lines = [line.removeprefix("E").strip() for line in text.splitlines() if line.startswith("E ")]
    return (lines or [line.strip() for line in text.splitlines() if line.strip()] or [""])[-1][:300]


def _asked_for(text: str, tree: Tree, folder: Path) -> Iterator[str]:
    for found in _NO_MODULE.finditer(text):
        yield from _module_paths(found[1], tree, folder)
    for found in _NO_NAME.finditer(text):
        yield from _module_paths(f"{found[2]}.{found[1]}", tree, folder)
    for found in _NO_METADATA.finditer(text):
        name = re.sub(r"[-_.]+", "_", found[1])
        paths = [*folder.glob("*.egg-info"), *folder.glob("*/*.egg-info")]
        yield from (
            p.relative_to(folder).as_posix() for p in paths if p.stem.lower() == name.lower()
        )
    for found in _NO_FILE.finditer(text):
        inside = re.sub(rf"^(?:{_COPY}|{re.escape(str(folder))}/)", "", found[1])
        path = os.path.normpath(inside)
        if not os.path.isabs(path) and not path.startswith(".."):  # noqa: PTH117
            yield path


def _module_paths(name: str, tree: Tree, folder: Path) -> Iterator[str]:
    """Return where a module of that name is in the folder, below any place of its package."""
    top, *rest = name.split(".")
    roots = {"", "src/"}
    for path in tree.files:
        if f"/{top}/" in f"/{path}":
            roots.add(f"/{path}".partition(f"/{top}/")[0].lstrip("/") + "/")
    for root in sorted(root.lstrip("/") for root in roots):
        base = "/".join([f"{root}{top}", *rest])
        yield from (f"{base}.py", base)
        parent = (folder / base).parent
        if parent.is_dir():
            yield from (
                each.relative_to(folder).as_posix()
                for each in parent.glob(f"{base.rpartition('/')[2]}.*so")
            )


def _files_at(folder: Path, path: str, tree: Tree) -> dict[str, bytes]:
    """Return a file, or all below a folder, that is inside, is no key and lies behind no link."""
    place, found, room = folder / path, dict[str, bytes](), MAX_BYTES
    if path in {".", ""}:
        return {}
    below = sorted(islice(place.rglob("*"), MAX_FILES + 1)) if place.is_dir() else []
    if len(below) > MAX_FILES:
        return {}
    with Root(folder) as root:
        for each in below or [place]:
            name = each.relative_to(folder).as_posix()
            is_taken = name in tree.files or ".git" in each.relative_to(folder).parts
            if is_taken or each.suffix == ".pyc" or _SECRET.search(name):
                continue
            with suppress(OSError):  # a link, a folder, a pipe, closed, or too long
                found[name] = root.read(name, limit_bytes=room)[0]
                room -= len(found[name])
    return found


def _git_files(folder: Path) -> dict[str, bytes]:
    """Return what answers `git describe`: commits, tags and HEAD, and none of the settings."""
    if Listing(folder).top != folder:  # of a larger repository, whose history is not the copy's
        return {}
    git = folder.resolve() / ".git"
    places = [git / part for part in _GIT_PARTS]
    files = [p for place in places for p in (place, *place.rglob("*")) if p.is_file()]
    if git.is_symlink() or not all(each.resolve().is_relative_to(git) for each in files):
        return {}
    if not (git / "HEAD").is_file() or sum(each.stat().st_size for each in files) > MAX_BYTES:
        return {}
    found = {f".git/{each.relative_to(git).as_posix()}": each.read_bytes() for each in files}
    kept = {f".git/{folder}/.kept": b"" for folder in ("refs", "objects")}  # git wants both
    return found | kept | {".git/config": _GIT_CONFIG}


def told(set_apart: Mapping[str, str]) -> str:
    """Return what was set apart, in one line."""
    return "; ".join(f"{test}: {why}" for test, why in list(set_apart.items())[:5])


def failing_elsewhere(set_apart: Mapping[str, str], outside: Ran | None) -> Sequence[str]:
    """Return the tests of modules that were set apart which fail in the folder itself."""
    results = outside.results if outside else []
    return [
        r.test
        for r in results
        if r.test.partition("::")[0] in set_apart and r.outcome in {"failed", "error"}
    ]
