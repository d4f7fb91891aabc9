from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from nemoflows.errors import BadInput
from nemoflows.sandbox.copies import Copy
from nemoflows.sandbox.inside import clearing, landlock, syscalls, users
from nemoflows.sandbox.levels import LEVELS, Level, Limits, at_least
from nemoflows.sandbox.runs import Ended, Job, Sandbox, available
from nemoflows.sandbox.trees import Tree
from tests.attacks import CONTAINED_AT, SCRIPTS, script
from tests.support import ROOT

T = TypeVar("T")
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
"""An interpreter that any user can start, wherever ours lies."""
SCRIPT = f"attack{os.getpid()}.py"
"""Of this process alone: others run these tests beside it."""
AVAILABLE = asyncio.run(available())
LIMITS = Limits(seconds=20, memory_mib=512, processes=24, file_mib=8)
SHORT = LIMITS.model_copy(update={"seconds": 2})


def use(level: Level, work: Callable[[Sandbox], Awaitable[T]]) -> T:
    async def go() -> T:
        sandbox = Sandbox(level, n=2)
        try:
            return await work(sandbox)
        finally:
            await sandbox.aclose()

    return asyncio.run(go())


def attack(level: Level, source: str, limits: Limits = LIMITS) -> Ended:
    job = Job(Tree({SCRIPT: source.encode()}), limits, argv=[PYTHON, SCRIPT])
    return use(level, lambda sandbox: sandbox.run(job))


def weakest_containing(name: str) -> Level:
    """Return the weakest level that contains an attack, as the table of the levels says."""
    mine = name in {"kill the parent", "environment"} and os.geteuid() != 0
    return "landlock" if mine else CONTAINED_AT[name]


def left_over() -> list[str]:
    """Return the processes that a run left behind, by the word in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if SCRIPT in words:
            found.append(words)
    return found


async def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(9000):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about in three minutes")


@pytest.fixture(params=AVAILABLE)
def level(request: pytest.FixtureRequest) -> Level:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """Return somewhere outside that would be worth reaching, reachable but for the sandbox."""
    monkeypatch.setenv("OPENAI_API_KEY", "hush")
    outside = Path("/tmp") / f"nemoflows-outside-{os.getpid()}"  # every parent can be entered
    (outside / "open").mkdir(parents=True)
    outside.chmod(0o777)
    (outside / "open").chmod(0o777)
    for name in ("secret.txt", "open/there"):
        (outside / name).write_text("hush")
        (outside / name).chmod(0o666)
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(tcp.getsockname())
    echo = threading.Thread(target=lambda: udp.sendto(b"x", udp.recvfrom(1)[1]))
    echo.start()
    unix, datagrams = (
        socket.socket(socket.AF_UNIX),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    )
    unix.bind(str(outside / "sock"))
    unix.listen()
    datagrams.bind(str(outside / "datagrams"))
    for name in ("sock", "datagrams"):
        (outside / name).chmod(0o777)
    sleeper = subprocess.Popen(["sleep", "60"], env={"SECRET": "hush"})
    try:
        yield {"outside": outside, "port": tcp.getsockname()[1], "parent": sleeper.pid}
        assert sleeper.poll() is None, "the parent was killed"
        assert (outside / "open" / "there").read_text() == "hush"
        assert (outside / "open" / "there").stat().st_mode & 0o777 == 0o666
    finally:
        sleeper.kill()
        sleeper.wait()
        with socket.socket(type=socket.SOCK_DGRAM) as waker:  # the thread that still waits
            waker.sendto(b"x", udp.getsockname())
        echo.join()
        for opened in (tcp, udp, unix, datagrams):
            opened.close()
        shutil.rmtree(outside)


def test_every_level_that_the_kernel_has_is_available() -> None:
    """Else a level that cannot be set up would count as one that the machine lacks."""
    if landlock.abi() >= landlock.LEAST_ABI and syscalls.supported():
        assert "landlock" in AVAILABLE
    namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork"]
    if shutil.which("unshare"):
        allowed = subprocess.run([*namespaces, "true"], capture_output=True, check=False)
        assert ("full" in AVAILABLE) >= (allowed.returncode == 0)
    assert at_least("landlock", AVAILABLE) in {"landlock", "full"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_attack_is_contained(name: str, level: Level, places: dict[str, object]) -> None:
    if LEVELS.index(level) < LEVELS.index(weakest_containing(name)):
        pytest.skip(f"the level {level} does not claim to contain it")

    async def beside_another(sandbox: Sandbox) -> Ended:
        other = Job(Tree({SCRIPT: b""}), LIMITS, argv=["/bin/sleep", "1"])
        source = script(name, **places).encode()
        job = Job(Tree({SCRIPT: source}), LIMITS, argv=[PYTHON, SCRIPT])
        waiting = asyncio.create_task(sandbox.run(other))
        await asyncio.sleep(0.3)
        ended = await sandbox.run(job)
        await waiting
        return ended

    ended = use(level, beside_another)
    assert ended.why == "ended"
    assert ended.output.strip(), "the attack did not even try"
    assert "ESCAPED" not in ended.output
    assert "hush" not in ended.output


def test_the_attacks_get_through_where_nothing_contains_them(
    places: dict[str, object], tmp_path: Path
) -> None:
    """Else a script with a mistake in it would count as contained."""
    needs_a_run = {"another's copy", "new namespace by clone3", "dns", "kill the parent"}
    for name in set(SCRIPTS) - needs_a_run - {"truncate outside", "change modes outside"}:
        (tmp_path / SCRIPT).write_text(script(name, **places))
        home = os.environ | {"HOME": str(tmp_path)}
        done = subprocess.run(
            [PYTHON, SCRIPT], cwd=tmp_path, env=home, capture_output=True, text=True, check=False
        )
        assert "ESCAPED" in done.stdout, (name, done.stdout, done.stderr)


def test_a_fork_bomb_ends_and_leaves_nothing(level: Level) -> None:
    bomb = (
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"
    )
    started_s = time.monotonic()
    assert attack(level, bomb, SHORT).why in {"time", "memory"}
    assert time.monotonic() - started_s < 120
    assert left_over() == []


def test_processes_are_bounded(level: Level) -> None:
    many = (
        "import os, time\nn = 0\ntry:\n    while n < 500:\n        n += 1\n"
        "        if os.fork() == 0:\n            time.sleep(30)\n"
        "except OSError:\n    print('refused at', n)\n"
    )
    ended = attack(level, many)
    assert "refused at" in ended.output
    assert left_over() == []


@pytest.mark.parametrize(
    "source",
    [
        "x = bytearray(10 << 30)",
        "import mmap\nm = mmap.mmap(-1, 10 << 30)\nfor n in range(0, 10 << 30, 4096): m[n] = 1",
    ],
    ids=["private", "shared"],
)
def test_ten_gigabytes_are_refused(level: Level, source: str) -> None:
    ended = attack(level, source)
    assert ended.why == "memory" or ended.status not in {0, None}


def test_many_small_processes_share_one_limit_of_memory(level: Level) -> None:
    source = (
        "import os, time\nfor _ in range(10):\n    if os.fork() == 0:\n"
        "        x = b'x' * (100 << 20)\n        time.sleep(30)\ntime.sleep(30)"
    )
    assert attack(level, source).why == "memory"


def test_a_file_of_ten_gigabytes_is_refused(level: Level) -> None:
    source = (
        "import os\nf = open(os.environ['HOME'] + '/big', 'wb')\n"
        "for _ in range(10240): f.write(bytes(1 << 20))\nprint('ESCAPED')"
    )
    ended = attack(level, source)
    assert ended.status != 0
    assert "ESCAPED" not in ended.output


def test_a_gigabyte_of_output_is_cut(level: Level) -> None:
    source = "import sys\nfor _ in range(1024): sys.stdout.write('x' * (1 << 20))\nprint('the end')"
    ended = attack(level, source)
    assert len(ended.output) < 100_000
    assert "left out" in ended.output
    assert ended.output.rstrip().endswith("the end")


def test_a_run_is_the_same_whatever_the_caller_s_umask(level: Level) -> None:
    before = os.umask(0o077)
    try:
        source = "import os\nprint(open('/dev/null').read() == '', oct(os.umask(0)))\n"
        assert attack(level, source).output == "True 0o22\n"
    finally:
        os.umask(before)


def test_an_endless_loop_is_ended(level: Level) -> None:
    ended = attack(level, "while True: pass", SHORT)
    assert ended.why == "time"
    assert ended.seconds < 10


def test_a_daemon_that_forked_twice_is_ended(level: Level) -> None:
    source = (
        "import os, signal, time\nfor n in range(1, 65):\n"
        "    try:\n        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n"
        "    os._exit(0)\nprint('gone')\n"
    )
    ended = attack(level, source)
    assert ended.status == 0
    assert ended.seconds < 10
    assert left_over() == []


def test_a_run_is_ended_when_its_caller_is_killed(level: Level) -> None:
    here = Path(f"/tmp/nemoflows-killed-{os.getpid()}")
    here.mkdir(mode=0o755)
    code = (
        "import asyncio, os\nfrom nemoflows.sandbox.runs import *\nname = os.environ['SCRIPT']\n"
        f"job = Job(Tree({{name: b'while True: pass'}}), argv=[{PYTHON!r}, name])\n"
        f"asyncio.run(Sandbox({level!r}, n=1).run(job))\n"
    )  # its own command line does not name the script
    environment = os.environ | {"TMPDIR": str(here), "SCRIPT": SCRIPT}
    caller = subprocess.Popen([sys.executable, "-c", code], env=environment)
    asyncio.run(wait_until(lambda: bool(left_over())))
    assert list(here.glob("nemoflows-run-*"))
    caller.kill()
    caller.wait()
    asyncio.run(wait_until(lambda: not left_over()))
    asyncio.run(wait_until(lambda: not list(here.iterdir())))
    here.rmdir()


def test_a_cancelled_run_is_ended(level: Level) -> None:
    async def work(sandbox: Sandbox) -> None:
        job = Job(Tree({SCRIPT: b"while True: pass"}), argv=[PYTHON, SCRIPT])
        running = asyncio.create_task(sandbox.run(job))
        await wait_until(lambda: bool(left_over()))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await wait_until(lambda: not left_over())
        assert (await sandbox.run(Job(Tree({"a": b""}), argv=["/bin/true"]))).status == 0

    use(level, work)


def test_a_server_of_ones_own_works_where_the_network_is_ones_own() -> None:
    if "full" not in AVAILABLE:
        pytest.skip("no namespaces here")
    source = (
        "import socket, threading\ns = socket.create_server(('127.0.0.1', 0))\n"
        "threading.Thread(target=lambda: s.accept()[0].sendall(b'hi'), daemon=True).start()\n"
        "print(socket.create_connection(s.getsockname()).recv(2))"
    )
    assert "b'hi'" in attack("full", source).output


def test_sockets_that_no_namespace_separates_are_refused() -> None:
    """A kernel without the family refuses it otherwise: only the filter's word is EPERM."""
    if "full" not in AVAILABLE:
        pytest.skip("no namespaces here")
    source = (
        "import errno, socket\nfor family in (38, 40):  # AF_ALG, AF_VSOCK\n    try:\n"
        "        socket.socket(family, socket.SOCK_STREAM)\n"
        "    except OSError as error:\n        print(errno.errorcode[error.errno])\n"
    )
    assert attack("full", source).output.split() == ["EPERM", "EPERM"]


def test_an_event_loop_works_without_sockets(level: Level) -> None:
    assert (
        "done"
        in attack(level, "import asyncio\nasyncio.run(asyncio.sleep(0))\nprint('done')").output
    )


def test_a_weaker_machine_is_refused_with_the_remedy() -> None:
    with pytest.raises(BadInput, match="min_sandbox=weak"):
        at_least("landlock", ("weak",))


def test_an_interpreter_that_is_none_is_an_error() -> None:
    async def work() -> None:
        for python in ("/nonexistent/python", "/bin/false"):
            with pytest.raises(BadInput, match="test_command"):
                await Sandbox("weak", python=python, n=1).run(
                    Job(Tree({"a": b""}), argv=["/bin/true"])
                )

    asyncio.run(work())


def test_nothing_is_left_in_the_temporary_folder(
    level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    here = Path("/tmp") / f"nemoflows-left-{os.getpid()}"
    here.mkdir(mode=0o755)
    monkeypatch.setenv("TMPDIR", str(here))
    try:
        attack(
            level,
            "import os\np = os.environ['HOME'] + '/d'\nos.mkdir(p)\n"
            "open(p + '/f', 'w').close()\nos.symlink('/usr', p + '/link')\nos.chmod(p, 0)",
        )
        assert list(here.iterdir()) == []
    finally:
        shutil.rmtree(here)


LEAVES_MUCH = """
import os
for place in (os.environ["HOME"], os.getcwd(), "/tmp"):
    for act in (
        lambda: [os.mkdir(f"{place}/{n}") or open(f"{place}/{n}/f", "w") for n in "ab"],
        lambda: os.chmod(f"{place}/a", 0),
        lambda: open(f"{place}/kept.txt", "a").write("x"),
        lambda: os.rename(f"{place}/d/kept.txt", f"{place}/d/moved"),
        lambda: os.symlink("/usr", f"{place}/b/link"),
        lambda: os.chmod(f"{place}/d", 0),
    ):
        try:
            act()
        except OSError:
            pass
os.chdir(os.environ["HOME"])
for _ in range(3000):
    os.mkdir("deep")
    os.chdir("deep")
print("left")
"""
SHOWS = """
import os
for folder, names, files in sorted(os.walk(".")):
    for name in sorted(files):
        print(folder, name, open(os.path.join(folder, name)).read()[:9].split()[0])
print(os.listdir(os.environ["HOME"]))
"""


def test_nothing_that_a_run_leaves_reaches_the_next_one(
    level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", f"/tmp/nemoflows-left-{os.getpid()}")
    here = Path(tempfile.gettempdir())
    here.mkdir(mode=0o755)
    before = set(Path("/tmp").iterdir())
    kept = {"kept.txt": b"kept", "d/kept.txt": b"kept", "e/kept.txt": b"kept"}

    async def work(sandbox: Sandbox) -> list[Ended]:
        jobs = [
            Job(Tree(kept | {SCRIPT: text.encode()}), LIMITS, argv=[PYTHON, SCRIPT])
            for text in (LEAVES_MUCH, SHOWS, SHOWS)
        ]
        return [await sandbox.run(job) for job in jobs]

    try:
        left, *shown = use(level, work)
        assert left.output == "left\n"
        for each in shown:
            assert each.output.splitlines() == [
                f". {SCRIPT} import", ". kept.txt kept", "./d kept.txt kept", "./e kept.txt kept",
                "[]",
            ]  # fmt: skip
        assert list(here.iterdir()) == []
    finally:
        shutil.rmtree(here, ignore_errors=True)
        for path in set(Path("/tmp").iterdir()) - before:  # at a level that lets it write there
            if path.name in {"a", "b"}:
                clearing.remove(str(path))


def test_files_without_a_byte_are_bounded_in_memory() -> None:
    if "full" not in AVAILABLE:
        pytest.skip("no namespaces here")
    source = (
        "import os\nfor place in (os.environ['HOME'], '/dev/shm'):\n    try:\n"
        "        for n in range(100_000): os.mknod(f'{place}/{n}')\n"
        "    except OSError as error:\n        print(error.strerror)\n"
    )
    assert attack("full", source).output == "No space left on device\n" * 2


@pytest.mark.parametrize("nest", [0, 2100], ids=["flat", "deep"])
def test_files_without_number_end_a_run_and_leave_nothing(
    nest: int, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", f"/tmp/nemoflows-many-{os.getpid()}")
    here = Path(tempfile.gettempdir())
    here.mkdir(mode=0o755)
    source = (
        "import os\nos.chdir(os.environ['HOME'])\n"
        f"for _ in range({nest}):\n    os.mkdir('d')\n    os.chdir('d')\n"
        "for n in range(400_000): open(str(n), 'w').close()\nprint('ESCAPED')\n"
    )
    try:
        if not os.statvfs(here).f_ffree and level != "full":
            pytest.skip("this file system does not count its files")
        ended = attack(level, source, LIMITS.model_copy(update={"seconds": 300}))
        assert ended.why == "files" or "No space left" in ended.output
        assert "ESCAPED" not in ended.output
        assert list(here.iterdir()) == []
    finally:
        shutil.rmtree(here)


@pytest.mark.parametrize("after", ["", "os.unlink(str(n))"], ids=["kept", "unlinked"])
def test_many_files_share_one_limit_of_bytes(after: str, level: Level) -> None:
    source = (
        "import os, time\nos.chdir(os.environ['HOME'])\nkept = []\nfor n in range(100):\n"
        "    kept.append(open(str(n), 'wb', 0))\n    kept[-1].write(bytes(4 << 20))\n"
        f"    {after}\n    time.sleep(0.01)\nprint('ESCAPED')\n"
    )
    ended = attack(level, source)
    assert ended.why == "files" or "No space left" in ended.output
    assert "ESCAPED" not in ended.output
    again = attack(level, source.replace("str(n)", "'one'").replace("range(100)", "range(9)"))
    assert ("ESCAPED" in again.output) == (not after), "one file written anew is one file"


@pytest.mark.parametrize("tamper", [
    lambda path: path.write_bytes(b"evil"),
    lambda path: (path.unlink(), path.write_bytes(b"kept")),
    lambda path: (path.unlink(), path.mkdir()),
    lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    lambda path: path.chmod(0o777),
    lambda path: os.utime(path, (0, 0)),
    lambda path: (path.with_name("x").hardlink_to(path), path.unlink()),
    lambda path: (path.parent.rename(path.parents[1] / "y"), path.parent.symlink_to("y")),
    lambda path: path.parent.chmod(0),
])  # fmt: skip
def test_a_copy_is_what_it_should_be_whatever_was_done_to_it(
    tamper: Callable[[Path], object], tmp_path: Path
) -> None:
    before = Tree({"d/a": b"kept", "d/b": b"kept", "c": b"kept"}, frozenset({"c"}))
    after = before.changed({"d/b": "new", "e/f": "new"})
    copy = Copy(tmp_path)
    copy.show(before)
    untouched = (tmp_path / "c").stat()
    tamper(tmp_path / "d/a")
    for tree in (after, before):
        copy.show(tree)
        found = [path for path in tmp_path.rglob("*") if not path.is_dir() or path.is_symlink()]
        assert {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in found} == tree.files
        assert not any(path.is_symlink() for path in found)
    now = (tmp_path / "c").stat()
    assert (now.st_ino, now.st_ctime_ns) == (untouched.st_ino, untouched.st_ctime_ns), "once"


def test_folders_of_servers_that_were_killed_are_removed(tmp_path: Path) -> None:
    old, held, young, other = (tmp_path / f"{clearing.PREFIX}{n}" for n in range(4))
    other = tmp_path / "somebody-s"
    for path in (old, held, young, other):
        (path / "copy").mkdir(parents=True)
    for path in (old, held, other):
        os.utime(path, (0, 0))
    lock = clearing.hold(str(held))
    clearing.sweep(str(tmp_path))
    os.close(lock)
    assert set(tmp_path.iterdir()) == {held, young, other}


def test_all_this_holds_for_an_ordinary_user_too() -> None:
    """Run this file again as nobody, with an interpreter that nobody can start."""
    if os.geteuid() != 0:
        pytest.skip("this is the ordinary user's run")
    version = subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=True).stdout
    if version.split()[1].rpartition(".")[0] != f"{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip(f"{PYTHON} cannot load our packages: it is {version.strip()}")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    for place in (ROOT, Path(packages)):
        if not all(folder.stat().st_mode & 1 for folder in (place, *place.parents)):
            pytest.skip(f"nobody may enter {place}")
    home = Path(f"/tmp/nemoflows-nobody-{os.getpid()}")
    home.mkdir()
    os.chown(home, 65534, 65534)
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         f"--basetemp={home}/tmp", __file__],
        env={"PYTHONPATH": f"{ROOT}:{packages}", "HOME": str(home), "PATH": os.environ["PATH"]},
        cwd=ROOT, user=65534, group=65534, extra_groups=[], check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    shutil.rmtree(home)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_two_fork_servers_never_run_as_the_same_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become others")
    (one, first), (two, second) = users.lease(), users.lease()
    with first, second:
        assert one != two
    with subprocess.Popen(["sleep", "60"], user=one, extra_groups=[]) as stray:
        three, third = users.lease()
        third.close()
        stray.kill()
    assert three != one


def test_a_temporary_folder_that_takes_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    with pytest.raises(BadInput, match="TMPDIR"):
        attack("weak", "print()")
