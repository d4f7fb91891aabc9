"""A repository from elsewhere: a git address with a commit, an archive, an uploaded folder."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import socket
import stat
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nemoflows
from nemoflows.coding import snapshots
from nemoflows.coding.git_address import read_address
from nemoflows.coding.types import Repository
from nemoflows.errors import BadInput, EndpointDown
from nemoflows.models.hardware import Hardware
from nemoflows.sandbox.archives import unpack
from nemoflows.sandbox.trees import Tree
from nemoflows.settings import Settings
from nemoflows.tasks.flyte import images
from nemoflows.tasks.flyte.binding import bound, digest, environment, secrets
from nemoflows.types import Policy
from tests.coding import committed
from tests.git_server import GitServer, serve_dulwich, serve_git
from tests.object_stores import KEYS, serve_s3
from tests.pods import run_pod
from tests.support import run_command

FILES = {
    "m.py": "def f(x):\n    return x - 1\n",
    "test_m.py": "from m import f\n\n\ndef test_f():\n    assert f(1) == 2\n",
}
TOKEN = "x-hush-7f3a"


def git(repo: Path, *words: str) -> str:
    named = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", *named, *words], cwd=repo, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Return a checkout with all that a commit can hold."""
    folder = committed(tmp_path / "hosted" / "shop", FILES)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "é.txt").write_text("deep")
    (folder / "inner").symlink_to("a/b")
    (folder / "a" / "up").symlink_to("../m.py")
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "big.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    git(folder, "add", "-A")
    other = committed(folder.parent / "other", {"o.py": ""})
    git(folder, "submodule", "add", str(other), "sub")
    git(folder, "commit", "-qm", "all")
    return folder


@pytest.fixture
def server(repo: Path) -> Iterator[GitServer]:
    with serve_git(repo.parent) as running:
        yield running


def kept(repo: str, root: Path, **more: Any) -> tuple[Repository, Tree]:
    found = snapshots.snapshot(repo, root=str(root), **more)
    return found, snapshots.opened(found)


@pytest.mark.parametrize("mark", ["@", "#"])
def test_a_commit_is_fetched_from_gits_own_server(
    mark: str, server: GitServer, repo: Path, tmp_path: Path
) -> None:
    commit = git(repo, "rev-parse", "HEAD")
    for _ in range(3):  # later ones are not wanted
        (repo / "later.py").write_text(os.urandom(9).hex())
        git(repo, "add", "-A")
        git(repo, "commit", "-qm", "later")
    url = f"{server.url}/shop/.git"
    found, tree = kept(f"{url}{mark}{commit}", tmp_path / "kept", offline=True)
    assert (found.source, found.commit, found.origin, found.prefix) == (url, commit, "", "")
    assert {*tree.files} == {
        "m.py", "test_m.py", "run.sh", "a/b/é.txt", "big.bin", ".gitmodules", ".gitignore",
    }  # fmt: skip
    assert tree.files["m.py"].decode() == FILES["m.py"]
    assert tree.executable == {"run.sh"}
    assert tree.links == {"inner": "a/b", "a/up": "../m.py"}
    told = " ".join(found.left_out)
    for words in ("sub: a submodule", "big.bin: what git LFS", "out: a link that leads to nothing"):
        assert words in told
    with pytest.raises(BadInput, match=f"does not give the commit {'1' * 40}"):
        kept(f"{url}{mark}{'1' * 40}", tmp_path / "kept")


def test_a_commit_is_fetched_by_the_first_version_of_the_protocol(
    repo: Path, tmp_path: Path
) -> None:
    with serve_dulwich(repo) as url:
        commit = git(repo, "rev-parse", "HEAD")
        _, tree = kept(f"{url}@{commit}", tmp_path / "kept")
        assert "a/b/é.txt" in tree.files


def test_a_large_history_of_deltas_is_read(server: GitServer, repo: Path, tmp_path: Path) -> None:
    lines = [os.urandom(20).hex() for _ in range(3000)]
    for n in range(6):
        lines[n * 400] = f"changed {n}"
        (repo / f"long{n}.txt").write_text("\n".join(lines))
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "alike")
    git(repo, "gc", "-q")
    _, tree = kept(f"{server.url}/shop/.git@{git(repo, 'rev-parse', 'HEAD')}", tmp_path / "kept")
    assert tree.files["long5.txt"].decode() == "\n".join(lines)


def test_a_key_opens_what_is_closed_and_is_told_nowhere(
    server: GitServer, repo: Path, tmp_path: Path
) -> None:
    commit, url = git(repo, "rev-parse", "HEAD"), f"{server.url}/shop/.git"
    basic = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    server.wanted = f"Basic {basic}"
    with pytest.raises(BadInput, match=r"answers 401.*GIT_TOKEN") as without:
        kept(f"{url}@{commit}", tmp_path / "kept")
    found, _ = kept(f"{url}@{commit}", tmp_path / "kept", key=TOKEN)
    with pytest.raises(BadInput, match="the key in GIT_TOKEN does not open it") as wrong:
        kept(f"{url}@{commit}", tmp_path / "kept", key=f"me:{TOKEN}")
    host = server.url.removeprefix("http://")
    kept(f"{url}@{commit}", tmp_path / "kept", key=f"http://{TOKEN}@{host}")
    kept(f"{url}@{commit}", tmp_path / "kept", key=f"http://x-access-token:{TOKEN}@{host}")
    server.authorizations.clear()
    for other in (f"https://{TOKEN}@{host}", f"http://{TOKEN}@example.com", f"http://{TOKEN}@h:1"):
        with pytest.raises(BadInput, match="answers 401"):
            kept(f"{url}@{commit}", tmp_path / "kept", key=other)
    assert {*server.authorizations} == {None}, "it is for another host"
    told = f"{found.model_dump_json()}{without.value}{wrong.value}"
    assert TOKEN not in told
    for path in (tmp_path / "kept").rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "spelled",
    [
        f"https://{TOKEN}@h/x.git",
        f"https://u:{TOKEN}@h/x.git",
        f"https://h/x.git?token={TOKEN}",
        f"https://u:{TOKEN}@h",
        f"ssh://u:{TOKEN}@h/x.git",
    ],
)
def test_a_key_in_an_address_is_refused_and_not_repeated(spelled: str) -> None:
    for pin in ("", f"@{'a' * 40}"):
        with pytest.raises(BadInput) as error:
            read_address(spelled + pin)
        assert TOKEN not in error.value.message


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://example.com/x.git@" + "a" * 40, "Only https"),
        ("git@example.com:x.git", "cannot be read"),
        ("git://example.com/x.git@" + "a" * 40, "cannot be read"),
        ("https://example.com/x.git", "not pinned"),
        ("https://example.com/x.git@main", "not pinned"),
        ("https://example.com/x.git#abc123", "not pinned"),
        ("https://example.com/x.git@" + "A" * 40, "not pinned"),
    ],
)
def test_an_address_is_https_and_pinned(address: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        snapshots.snapshot(address, root="unused")
    with pytest.raises(BadInput, match=r"loopback alone, not example\.com"):
        read_address("git+https://example.com/x.git@" + "a" * 40, offline=True)


def test_no_host_leads_to_another(server: GitServer, repo: Path, tmp_path: Path) -> None:
    commit = git(repo, "rev-parse", "HEAD")
    with serve_git(repo.parent) as other:
        for place in (f"{other.url}/shop/.git", "https://169.254.169.254/x", "file:///etc"):
            where = {"Location": f"{place}/info/refs?service=git-upload-pack"}
            server.answers["/moved"] = (302, where, b"")
            with pytest.raises(BadInput, match="only its own host is asked"):
                kept(f"{server.url}/moved@{commit}", tmp_path / "kept", key=TOKEN)
        assert other.paths == []
    where = {"Location": "/shop/.git/info/refs?service=git-upload-pack"}
    server.answers["/moved"] = (301, where, b"")
    assert kept(f"{server.url}/moved@{commit}", tmp_path / "kept")[0].commit == commit


def test_what_is_no_git_or_away_is_told(server: GitServer, repo: Path, tmp_path: Path) -> None:
    commit = git(repo, "rev-parse", "HEAD")
    pin = f"/x@{commit}"
    html = (200, {"Content-Type": "text/html"}, b"<html>")
    broken = (200, {"Content-Type": "application/x-git-upload-pack-advertisement"}, b"00zz")
    for instead, kind, told in (
        (html, BadInput, "no git address"),
        (broken, BadInput, "does not give the commit"),
        ((404, {}, b""), BadInput, "answers 404"),
        ((503, {}, b""), EndpointDown, "HTTP 503"),
    ):
        server.answers["/x"] = instead
        with pytest.raises(kind, match=told):
            kept(server.url + pin, tmp_path / "kept")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(EndpointDown, match="does not answer"):
            kept(f"http://127.0.0.1:{free.getsockname()[1]}{pin}", tmp_path / "kept")


def packed(*objects: tuple[int, int, bytes]) -> bytes:
    """Return a pack of objects, each with the type and the length that it says it has."""
    whole = b"PACK" + (2).to_bytes(4) + len(objects).to_bytes(4)
    for kind, size, data in objects:
        head, left = [kind << 4 | size & 15], size >> 4
        while left:
            head[-1] |= 0x80
            head.append(left & 0x7F)
            left >>= 7
        whole += bytes(head) + zlib.compress(data)
    return whole + hashlib.sha1(whole).digest()


def test_bombs_are_refused_before_they_are_inflated() -> None:
    from nemoflows.coding.git_fetch import _files, _objects

    with pytest.raises(BadInput, match="more than 256 MiB"):
        _objects(packed((3, 10 << 30, bytes(1000))))
    base = bytes(1000)
    far = b"\xe8\x07" + b"\x80\x80\x80\x80\x40"  # of 1,000 bytes, says that it makes 16 GiB
    delta = hashlib.sha1(b"blob 1000\0" + base).digest()
    whole = packed((3, 1000, base), (7, len(far), far))
    at = whole.rindex(zlib.compress(far))
    with pytest.raises(BadInput, match="more than 256 MiB"):
        _objects(whole[:at] + delta + whole[at:])
    # Each folder holds the one below it ten times: ten thousand million files in ten objects.
    blob = b"blob 0\0"
    entry, objects = (b"100644 f\0", hashlib.sha1(blob).digest()), [(3, 0, b"")]
    for _ in range(10):
        head, ref = entry
        names = sorted(b"%d" % n for n in range(10))
        tree = b"".join(head.replace(b"f\0", b"f" + name + b"\0") + ref for name in names)
        objects.append((2, len(tree), tree))
        entry = (b"40000 f\0", hashlib.sha1(b"tree %d\0" % len(tree) + tree).digest())
    text = f"tree {entry[1].hex()}\nauthor a <a> 0 +0000\ncommitter a <a> 0 +0000\n\nx".encode()
    objects.append((1, len(text), text))
    commit = hashlib.sha1(b"commit %d\0" % len(text) + text).hexdigest()
    with pytest.raises(BadInput, match="50,000 files"):
        _files(_objects(packed(*objects)), commit)


def tarred(mode: Any, *entries: tuple[str, bytes, str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, kind, target, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, target, len(content)
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(content.encode()))
    return buffer.getvalue()


def zipped(*entries: tuple[str, int, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def archived(repo: Path, form: str) -> bytes:
    words = ["git", "archive", f"--format={form}", "--prefix=shop-1/", "HEAD"]
    return subprocess.run(words, cwd=repo, check=True, capture_output=True).stdout


def made_by_tar(repo: Path, form: str) -> bytes:
    """Return a checkout as somebody packs it, with all that lies about."""
    del form
    (repo / ".gitignore").write_text("cache\n.env\n")
    (repo / "cache").mkdir(exist_ok=True)
    (repo / "cache" / "x").write_text("x")
    (repo / ".env").write_text("KEY=secret")
    words = ["tar", "-C", str(repo.parent), "-cz", repo.name]
    return subprocess.run(words, check=True, capture_output=True).stdout


PACKERS: list[tuple[str, Callable[[Path, str], bytes]]] = [
    (".tar.gz", archived), (".tgz", archived), (".tar", archived), (".zip", archived),
    (".TAR.GZ", made_by_tar),
]  # fmt: skip


def test_an_archive_in_a_bucket_is_read_as_its_folder_would_be(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with serve_s3() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        files = fsspec.filesystem("s3", skip_instance_cache=True, endpoint_url=url)
        files.mkdir("archives")
        for ending, make in PACKERS:
            form = {".tgz": "tar.gz"}.get(ending, ending[1:])
            files.pipe_file(f"archives/in/shop{ending}", make(repo, form))
            found, tree = kept(f"s3://archives/in/shop{ending}", tmp_path / "kept")
            assert {"m.py", "test_m.py", "run.sh", "a/b/é.txt"} <= {*tree.files}
            assert not {".env", "cache/x"} & {*tree.files}
            assert not any(".git/" in path for path in tree.files)
            assert tree.executable == {"run.sh"}
            assert tree.links == {"inner": "a/b", "a/up": "../m.py"}
            assert (found.name, found.origin) == ("shop", "")
            assert found.source == f"s3://archives/in/shop{ending}"
            assert found.commit == git(repo, "rev-parse", "HEAD")
        with pytest.raises(BadInput, match=r"gone\.zip' cannot be read"):
            kept("s3://archives/in/gone.zip", tmp_path / "kept")


def test_a_folder_in_a_bucket_is_read_as_the_folder_would_be(
    repo: Path, tmp_path: Path, s3: str
) -> None:
    import fsspec

    (repo / "empty.py").touch()
    with (repo / ".gitignore").open("a") as rules:
        rules.write("cache/\n")
    before = kept(str(repo), tmp_path / "kept")[1]
    files = fsspec.filesystem("s3")
    for path in before.files:
        files.pipe_file(f"{s3}/shop/{path}", (repo / path).read_bytes())
    files.pipe_file(f"{s3}/shop/.git/hooks/pre-commit", b"never run")
    files.pipe_file(f"{s3}/shop/cache/x", b"left by a tool")
    found, tree = kept(f"{s3}/shop/", tmp_path / "kept")
    assert dict(tree.files) == dict(before.files)
    assert (found.name, found.origin, found.source) == ("shop", "", f"{s3}/shop/")
    files.pipe_file(f"{s3}/out/a//../../up.py", b"x")
    for wrong, told in (("gone", "holds no files"), ("out", "leads out of it")):
        with pytest.raises(BadInput, match=told):
            kept(f"{s3}/{wrong}", tmp_path / "kept")


F, DIR, SYM, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
SPARSE = tarfile.GNUTYPE_SPARSE


@pytest.mark.parametrize(
    "data",
    [
        tarred("w", ("/etc/cron", F, "", "x")),
        tarred("w:gz", ("../up.py", F, "", "x")),
        tarred("w", ("a/../../up.py", F, "", "x")),
        tarred("w", ("fifo", tarfile.FIFOTYPE, "", "")),
        tarred("w", ("dev", tarfile.CHRTYPE, "", "")),
        tarred("w", ("hard", HARD, "/etc/passwd", "")),
        tarred("w", ("a", F, "", "x"), ("a/b", F, "", "x")),
        tarred("w", ("l", SYM, "/etc", ""), ("l/passwd", F, "", "x")),
        zipped(("/abs.py", 0o100644, "x")),
        zipped(("../up.py", 0o100644, "x")),
        zipped(("pipe", stat.S_IFIFO | 0o644, "x")),
        zipped(("l", stat.S_IFLNK | 0o777, "a" * 5000)),
        b"no archive at all",
        b"",
        gzip.compress(b"no tar"),
        gzip.compress(b"x" * 9999)[:-20],
        zipped(("a", 0o100644, "x" * 999))[:-10],
    ],
    ids=lambda _: "archive",  # their bytes hold the time, and every worker has to name them alike
)  # fmt: skip
def test_an_archive_that_leads_out_or_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="Nothing was run"):
        unpack(data)


def test_links_of_an_archive_stay_inside() -> None:
    entries = [
        ("a/m.py", F, "", "x"),
        ("in", SYM, "a/m.py", ""),
        ("out", SYM, "/etc/passwd", ""),
        ("up", SYM, "../../x", ""),
        ("a/self", SYM, "self", ""),
        ("same.sh", HARD, "a/m.py", ""),
    ]
    found = unpack(tarred("w", *entries))
    assert found.tree.links == {"in": "a/m.py"}
    assert found.tree.files == {"a/m.py": b"x", "same.sh": b"x"}
    assert {one.partition(":")[0] for one in found.left_out} == {"out", "up", "a/self"}


def test_bombs_of_archives_are_refused() -> None:
    zeros = io.BytesIO()
    with gzip.GzipFile(fileobj=zeros, mode="wb", compresslevel=1) as packed_:
        for _ in range(400):
            packed_.write(bytes(1 << 20))
    many = zipped(*((f"{n}", 0o100644, "") for n in range(50_001)))
    sparse = bytearray(tarred("w", ("s", F, "", "")))
    sparse[124:136] = b"77777777777\0"  # 8 GiB, as it says
    sum_ = sum(sparse[:148]) + sum(sparse[156:512]) + 8 * 32
    sparse[148:156] = b"%06o\0 " % sum_
    for data in (zeros.getvalue(), many, bytes(sparse)):
        with pytest.raises(BadInput, match="more than 256 MiB or 50,000 files"):
            unpack(data)


def test_the_diff_applies_where_the_commit_is_checked_out(
    server: GitServer, repo: Path, tmp_path: Path
) -> None:
    commit = git(repo, "rev-parse", "HEAD")
    done = run_command(
        "pyflyte", "run", "workflows/coding.py", "fix_issue", "--repo",
        f"{server.url}/shop/.git@{commit}", "--issue", "f takes one away",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    [line] = [line for line in done.stdout.splitlines() if line.startswith("apply:")]
    assert line.endswith(f"in a checkout of {server.url}/shop/.git at {commit}")
    diff = line.split()[3].rstrip(",")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    git(clone, "checkout", "-q", commit)
    git(clone, "apply", diff)
    subprocess.run([sys.executable, "-m", "pytest", "-q", "test_m.py"], cwd=clone, check=True)


def test_a_pod_gets_the_key_from_its_secret_alone(
    server: GitServer, repo: Path, tmp_path: Path
) -> None:
    named = Settings(secrets={"GIT_TOKEN": "team/git"}, offline=False)
    made = bound(named, Policy())
    [secret] = secrets(made, efficient=False, frontier=False, fetches=True)
    assert (secret.group, secret.key, secret.env_var) == ("team", "git", "GIT_TOKEN")
    assert secrets(made, efficient=True, frontier=True) == []
    assert secrets(bound(Settings(), Policy()), efficient=False, frontier=False, fetches=True) == []
    basic = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    server.wanted = f"Basic {basic}"
    address = f"{server.url}/shop/.git@{git(repo, 'rev-parse', 'HEAD')}"
    env = {"NEMOFLOWS_SECRETS": '{"GIT_TOKEN": "team/git"}'}
    done = run_pod(nemoflows.snapshot, tmp_path / "a", env, repo=address)
    assert done.error is not None
    assert "secret 'team' of the namespace 'p-d' has no key 'git'" in done.error.message
    done = run_pod(nemoflows.snapshot, tmp_path / "b", env | {"GIT_TOKEN": TOKEN}, repo=address)
    assert done.outputs is not None, done.log
    assert TOKEN not in done.log


def test_a_team_s_own_image_of_tests_is_named_by_a_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hardware = Hardware(tests_image="second:1")
    for settings, image in (
        (Settings(tests_image="first:1"), "first:1"),
        (Settings(tests_image="first:1", hardware=hardware), "first:1"),
        (Settings(hardware=hardware), "second:1"),
    ):
        assert images.image(settings, gpu=False, tests=True) == image
        assert images.image(settings, gpu=False) is None
    monkeypatch.setenv("NEMOFLOWS_TESTS_IMAGE", "first:1")
    made = bound(Settings(), Policy())
    assert environment(made, efficient=False)["NEMOFLOWS_TESTS_IMAGE"] == "first:1"
    monkeypatch.delenv("NEMOFLOWS_TESTS_IMAGE")
    assert digest(made) != digest(bound(Settings(), Policy()))
    declared = run_command(
        "python", "-c", "from nemoflows import examine, research; print(examine.container_image, "
        "research.container_image)", env={"NEMOFLOWS_TESTS_IMAGE": "first:1"},
    )  # fmt: skip
    assert declared.stdout.split()[-2:] == ["first:1", "None"]
