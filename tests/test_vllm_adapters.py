"""LoRA adapters on the real engine: random ones, written by the tests in PEFT's layout."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from nemoflows.calls import Outcome, Unanswered
from nemoflows.engines.vllm import Vllm
from nemoflows.engines.vllm.adapters import engine_arguments, find
from nemoflows.errors import BadModel
from nemoflows.types import ModelRef
from tests.engines import InProcess
from tests.support import request

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
ASKED: dict[str, Any] = {"sampling": {"temperature": 0}, "max_output_tokens": 12}


@pytest.fixture(scope="module")
def adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from tests.tiny_nemotron import make_adapter

    folder = tmp_path_factory.mktemp("adapters")
    return [
        make_adapter(folder / "attention", base=tiny, modules=ATTENTION),
        make_adapter(folder / "mlp", base=tiny, modules={"up_proj", "down_proj"}),
        make_adapter(folder / "mamba", base=tiny, modules={"in_proj", "out_proj"}, rank=8),
    ]


def written(outcome: Outcome) -> str:
    """Return what was written, finished or not: random weights end when they like."""
    assert not isinstance(outcome, Unanswered), outcome
    return outcome.reply.text


@pytest.mark.vllm
def test_each_adapter_changes_what_is_written_and_the_base_stays(
    in_process: InProcess, adapters: list[Path]
) -> None:
    async def one_by_one() -> list[str]:
        places = [None, *adapters, None]
        return [written(await in_process.ask(lora=place, **ASKED)) for place in places]

    async def at_once() -> list[str]:
        places = [None, *adapters] * 3
        asks = [in_process.ask(lora=place, **ASKED) for place in places]
        return [written(outcome) for outcome in await asyncio.gather(*asks)]

    base, *changed, again = in_process.loop.run(one_by_one())
    assert base == again
    assert len({base, *changed}) == 4
    assert in_process.loop.run(at_once()) == [base, *changed] * 3, "a batch mixes them"


@pytest.mark.vllm
def test_an_adapter_for_another_model_is_refused_and_the_engine_goes_on(
    in_process: InProcess, tiny: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    from tests.tiny_nemotron import make_adapter

    other = make_adapter(tmp_path / "other", base=tiny, modules=ATTENTION)
    tensors = load_file(other / "adapter_model.safetensors")
    renamed = {name.replace("q_proj", "gate_proj"): kept for name, kept in tensors.items()}
    save_file(renamed, other / "adapter_model.safetensors")
    with pytest.raises(BadModel, match=r"(?s)refuses the adapter .*gate_proj"):
        in_process.loop.run(in_process.ask(lora=other, **ASKED))
    assert written(in_process.loop.run(in_process.ask(**ASKED)))


@pytest.mark.vllm
def test_the_cpu_build_keeps_a_slot_empty_for_the_base(
    in_process: InProcess, adapters: list[Path], tiny: Path, tmp_path: Path
) -> None:
    from tests.tiny_nemotron import make_adapter

    more = [
        make_adapter(tmp_path / str(seed), base=tiny, modules=ATTENTION, seed=seed)
        for seed in (4, 5)
    ]
    for place in (*adapters, more[0]):
        in_process.loop.run(in_process.ask(lora=place, **ASKED))
    with pytest.raises(BadModel, match=r"has 5 slots .* Raise max_loras"):
        in_process.loop.run(in_process.ask(lora=more[1], **ASKED))


def make_fake(folder: Path, *, weights: bytes = b"w" * 64, config: str = '{"r": 8}') -> Path:
    """Write what looks like an adapter from outside."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(config)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def spelled(adapter: Path | str) -> ModelRef:
    return ModelRef.model_validate(f"vllm:org/base+{adapter}")


def test_an_adapter_is_part_of_the_key_by_its_content_not_its_place(tmp_path: Path) -> None:
    one = make_fake(tmp_path / "one")
    copy = shutil.copytree(one, tmp_path / "copy")
    retrained = make_fake(tmp_path / "retrained", weights=b"v" * 64)
    engine = Vllm({}, deadline_s=1)
    base = ModelRef.model_validate("vllm:org/base")
    keys = [
        engine.key(request(model=str(model)))
        for model in (base, spelled(one), spelled(copy), spelled(retrained))
    ]
    assert keys[1] == keys[2]
    assert len({keys[0], keys[1], keys[3]}) == 3
    assert str(tmp_path) not in engine.model_fingerprint(spelled(one))
    numbers = [find(spelled(place), offline=True).number for place in (one, copy, retrained)]
    assert numbers[0] == numbers[1] != numbers[2]


@pytest.mark.parametrize(
    ("content", "told"),
    [({}, "adapter_config.json and adapter_model.safetensors"),
     ({"adapter_config.json": '{"r": 8}'}, "lacks adapter_model.safetensors"),
     ({"adapter_config.json": "{}", "adapter_model.safetensors": ""}, "no rank `r`"),
     ({"adapter_config.json": "[", "adapter_model.safetensors": ""}, "no rank `r`")],
)  # fmt: skip
def test_a_folder_that_is_no_adapter_is_refused_before_any_call(
    content: dict[str, str], told: str, tmp_path: Path
) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BadModel, match=told):
        find(spelled(tmp_path), offline=True)


@pytest.mark.parametrize("missing", ["/no/such/folder", "./none", "name", "a/b/c"])
def test_an_adapter_that_is_nowhere_is_refused_with_a_remedy(missing: str) -> None:
    with pytest.raises(BadModel, match="Mend the path"):
        find(spelled(missing), offline=True)


def test_an_engine_gets_room_for_the_rank_of_the_adapter(tmp_path: Path) -> None:
    config = '{"r": 8, "rank_pattern": {"o_proj": 17}}'
    assert find(spelled(make_fake(tmp_path / "a", config=config)), offline=True).rank == 17
    assert engine_arguments(0) == {}
    assert engine_arguments(17) == {"enable_lora": True, "max_lora_rank": 32, "max_loras": 4}
