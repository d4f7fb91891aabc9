"""What is read of a repository, and that nothing of it runs meanwhile."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from nemoflows.coding import snapshots
from nemoflows.errors import BadInput
from nemoflows.sandbox import trees
from nemoflows.sandbox.ignored import Chain
from nemoflows.sandbox.listing import Listing, folded
from nemoflows.storage.beneath import Root

NAMES = ["a", "b", "ab", "a.py", "b.o", "A", "x y", "a-b", "é", " s", "#h", "!n", "build", "*"]
PIECES = [
    "a", "b", "*", "?", "**", "/", "[ab]", "[!a]", "[^b]", "[a-c]", "[[:alpha:]]", ".py", "\\a",
    "\\*", "\\ ", " ", "x", "build", "[", "]", "[]a]", "[a\\-b]", "!", "#", "\\#", "\\!", "é",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_rules_of_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.email=a@b", "-c", "user.name=n", "-c", "core.fsmonitor=false"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def checkout(folder: Path, **files: str) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    git(folder, "init", "-q")
    return folder


def names(folder: Path) -> list[str]:
    with Root(folder) as root:
        return Listing(folder).names(root)


@pytest.mark.parametrize("seed", range(40))
def test_files_are_those_that_git_lists(seed: int, tmp_path: Path) -> None:
    draw, top = random.Random(seed), tmp_path / "top"
    top.mkdir()
    for _ in range(25):
        path = top / "/".join(draw.choice(NAMES) for _ in range(draw.randint(1, 4)))
        if not any(each.is_file() for each in (path, *path.parents)) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
    checkout(top)
    found = [path for path in top.rglob("*") if ".git" not in path.parts]
    tracked = [str(p.relative_to(top)) for p in found if p.is_file() and draw.random() < 0.2]
    git(top, "-c", f"index.version={draw.choice([2, 3, 4])}", "--literal-pathspecs", "add", "--",
        "build-rules", *tracked) if (top / "build-rules").write_text("") == 0 else None  # fmt: skip
    for folder in draw.sample([top, *(p for p in found if p.is_dir())], 2):
        lines = ["".join(draw.choices(PIECES, k=draw.randint(1, 6))) for _ in range(5)]
        (folder / ".gitignore").write_text("\n".join(lines) + "\n")
    listed = git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    assert names(top) == sorted(set(listed.split("\0")) - {""})


def test_a_rule_with_many_wildcards_takes_no_time() -> None:
    chain = Chain().below("", b"*a*a*a*a*a*a*a*a*a*a*a*a*b\n**/a/**/a/**/a/**/a/**/a/**/b\n")
    assert not chain.ignores("a" * 250, is_folder=False)
    assert not chain.ignores("/".join("a" * 1000), is_folder=False)
    assert chain.ignores("x/a/a/y/a/a/a/b", is_folder=False)


def test_too_many_rules_are_refused(tmp_path: Path) -> None:
    checkout(tmp_path, **{f"{n}/.gitignore": "*x\n" * 60_000 for n in range(3)})
    with pytest.raises(BadInput, match="ignore rules"):
        names(tmp_path)
    (tmp_path / ".gitignore").write_text("#" * (1 << 20))
    with pytest.raises(BadInput, match="longer than"):
        names(tmp_path)


@pytest.mark.parametrize("key", ["core.fsmonitor", "core.sshCommand", "core.hooksPath", "alias"])
def test_no_program_of_a_repository_s_settings_is_started(key: str, tmp_path: Path) -> None:
    """Not by a watcher, nor to fetch a file of rules that git has lost."""
    top = checkout(tmp_path / "top", **{".gitignore": "x\n", "m.py": "x = 1\n"})
    git(top, "add", "-A")
    git(top, "commit", "-qm", "x")
    lost = git(top, "rev-parse", "HEAD:.gitignore").strip()
    git(top, "update-index", "--skip-worktree", ".gitignore")
    (top / ".gitignore").unlink()
    (top / ".git/objects" / lost[:2] / lost[2:]).unlink()
    command = f"touch {tmp_path}/ran"
    settings = {
        "core.repositoryformatversion": "1", "extensions.partialClone": "origin",
        "remote.origin.promisor": "true", "protocol.ext.allow": "always",
        "remote.origin.url": f"ext::sh -c {command.replace(' ', '% ')}",
        "alias.ls-files" if key == "alias" else key: f"!{command}" if key == "alias" else command,
    }  # fmt: skip
    for name, value in settings.items():
        subprocess.run(["git", "config", "--file", top / ".git/config", name, value], check=True)
    code = "import sys; from pathlib import Path; from nemoflows.sandbox import trees\n"
    code += (
        "sys.addaudithook(lambda name, _: 'subprocess' in name and sys.exit('a process'))\n"
        f"print(sorted(trees.read(Path({str(top)!r}))[0].files))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "['m.py']\n", done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("way", ["folder", "file", "deep", "top"])
def test_nothing_outside_is_read(way: str, tmp_path: Path) -> None:
    (tmp_path / "outside/in").mkdir(parents=True)
    for path in ("secret.txt", "in/secret.txt"):
        (tmp_path / "outside" / path).write_text("hush")
    top = checkout(tmp_path / "top", **{"m.py": "", "d/in/secret.txt": "", "d/secret.txt": ""})
    git(top, "add", "-A")
    place = {"folder": "d", "file": "d/secret.txt", "deep": "d/in", "top": "d"}[way]
    subprocess.run(["rm", "-r", top / place], check=True)
    (top / place).symlink_to(tmp_path / "outside" / place.removeprefix("d").strip("/"))
    tree, left_out = trees.read(top / "d" if way == "deep" else top)
    assert b"hush" not in tree.files.values()
    assert any(place.rpartition("/")[2] in each for each in left_out)


def test_an_index_names_nothing_but_plain_files(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", **{"m.py": "", "x.git/config": ""})
    git(top, "add", "-A")
    (tmp_path / "x").write_text("hush")
    for name in (b".gIt/config", b"../../x/abcd", b"/etc/passwdx", b"a/./b/../../"):
        index = (top / ".git/index").read_bytes()
        (top / ".git/index").write_bytes(index.replace(b"x.git/config"[: len(name)], name))
        assert names(top) == ["m.py", "x.git/config"], name
        (top / ".git/index").write_bytes(index)


def test_a_broken_index_is_told_and_its_rules_still_hold(tmp_path: Path) -> None:
    top = checkout(tmp_path, **{"m.py": "", ".env": "KEY", ".gitignore": ".env\n"})
    git(top, "add", "-A")
    index = (top / ".git/index").read_bytes()
    for damaged in (b"", b"DIRC", index[:40], index[:90], os.urandom(300), index[:8] + b"\xff" * 4):
        (top / ".git/index").write_bytes(damaged)
        tree, left_out = trees.read(top)
        assert set(tree.files) == {"m.py", ".gitignore"}
        assert ".git/index" in left_out[0]


def test_a_worktree_and_repositories_within_are_read_as_git_does(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", **{"m.py": "", "kept.o": "", "info": ""})
    git(top, "add", "-A")
    git(top, "commit", "-qm", "x")
    git(top, "worktree", "add", "-q", str(tmp_path / "tree"))
    (top / ".git/info").mkdir(exist_ok=True)
    (top / ".git/info/exclude").write_text("*.secret\n")
    (tmp_path / "tree/a.secret").write_text("hush")
    checkout(tmp_path / "tree/within", **{"secret.py": ""})
    (tmp_path / "tree/.gitignore").write_text("*.o\n")
    tree, left_out = trees.read(tmp_path / "tree")
    assert set(tree.files) == {"m.py", "kept.o", "info", ".gitignore"}
    assert left_out == ["within: a repository of its own"]


def test_rules_that_are_no_file_hold_nothing_up(tmp_path: Path) -> None:
    top = checkout(tmp_path, **{"m.py": ""})
    os.mkfifo(top / ".gitignore")
    assert trees.read(top)[1] == [".gitignore: not a regular file"]


@pytest.mark.parametrize("name", ["commondir", "HEAD", "index", "info/exclude", "packed-refs"])
@pytest.mark.parametrize("odd", ["pipe", "device", "zero byte"])
def test_parts_of_git_that_are_no_files_hold_nothing_up(
    name: str, odd: str, tmp_path: Path
) -> None:
    repo = checkout(tmp_path / "repo", **{"a.py": "", "b.py": ""})
    place = repo / ".git" / name
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    if odd == "pipe":
        os.mkfifo(place)
    elif odd == "device":
        place.symlink_to("/dev/zero")
    else:
        place.write_bytes(b"ref: refs/heads/a\0b\n")
    if name == "packed-refs":
        (repo / ".git" / "HEAD").write_text("ref: refs/heads/none\n")
    assert names(repo) == ["a.py", "b.py"]
    assert isinstance(Listing(repo).commit(), str)


def test_rules_of_the_user_s_own_hold(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", **{"m.py": "", "m.key": ""})
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text("[core]\n\teditor = x\n\texcludesFile = ~/rules\n")
    (tmp_path / "home/rules").write_text("*.key\n")
    assert names(top) == ["m.py"]


def test_names_are_compared_as_the_least_exact_file_system_does() -> None:
    for name in (
        ".GIT",
        ".g\u200cit",
        ".git. ",
        "\uff0egit",
        ".git\u2060",
    ):
        assert folded(name) == ".git"
    assert folded("ﬁle") == "file"
    assert folded("git") != ".git"


def test_a_repository_beyond_a_link_is_not_read(tmp_path: Path) -> None:
    checkout(tmp_path / "outside/sub", **{"secret.py": "hush"})
    top = checkout(tmp_path / "top", **{"m.py": "", "d/sub": "", "sub: x": ""})
    git(top, "add", "-A")
    for path in ("d/sub", "sub: x"):
        (top / path).unlink()
    (top / "d").rmdir()
    for path in ("d", "sub"):
        (top / path).symlink_to(tmp_path / "outside")
    (top / "sub: x").symlink_to("/etc")
    kept = snapshots.snapshot(str(top), root=str(tmp_path / "root"))
    assert set(snapshots.opened(kept).files) == {"m.py"}
    assert "d/sub: a link is on its way" in kept.left_out
    assert len(kept.left_out) == 4


def test_repositories_within_are_read_as_far_as_they_are_there(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", **{"m.py": ""})
    place = top
    for n in range(snapshots.MAX_DEPTH + 2):
        place = checkout(place / "in", **{f"{n}.py": ""})
    commit = "1" * 40
    git(top, "update-index", "--add", "--cacheinfo", f"160000,{commit},gone")
    git(top, "update-index", "--add", "--cacheinfo", f"160000,{commit},empty")
    git(top, "update-index", "--add", "--cacheinfo", f"160000,{commit},in")
    (top / "empty").mkdir()
    (top / "to").symlink_to("in/in")
    kept = snapshots.snapshot(str(top), root=str(tmp_path / "root"))
    tree = snapshots.opened(kept)
    assert len(tree.files) == 1 + snapshots.MAX_DEPTH
    assert tree.links == {"to": "in/in"}
    deep = "/".join(["in"] * (snapshots.MAX_DEPTH + 1))
    told = "a submodule that is not there (git submodule update --init)"
    assert sorted(kept.left_out) == sorted([f"empty: {told}", f"{deep}: a repository of its own"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_repository_whose_settings_are_closed_is_refused(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top", **{"m.py": ""})
    (top / ".git").chmod(0o000)
    with pytest.raises(BadInput, match="cannot be read"):
        trees.read(top)


@pytest.mark.parametrize("name", ["sitecustomize.py", "src/usercustomize/__init__.py"])
def test_what_python_runs_at_its_start_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "repo" / name).parent.mkdir(parents=True)
    (tmp_path / "repo" / name).write_text("raise SystemExit")
    with pytest.raises(BadInput, match=f"has {name}, which Python runs"):
        snapshots.snapshot(str(tmp_path / "repo"), root=str(tmp_path / "kept"))
