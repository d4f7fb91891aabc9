"""Images: what is installed into them works, and only what was asked for is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from flytekit import ImageSpec
from flytekit.configuration import ImageConfig
from flytekit.core.python_auto_container import get_registerable_container_image
from flytekit.image_spec.default_builder import create_docker_context

from nemoflows.errors import BadInput
from nemoflows.models.hardware import Hardware
from nemoflows.settings import Settings
from nemoflows.tasks.flyte import images
from nemoflows.types import ModelRef
from tests.support import BIN
from tests.wheels import built


@pytest.mark.packages
def test_the_commands_install_the_wheel_beside_what_is_there(tmp_path: Path) -> None:
    wheel = built(tmp_path / "dist")
    assert wheel.name == images.wheel_of(tmp_path).removeprefix("dist/")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python3"
    kept = "click==8.1.8"  # older than what would be taken, as packages of an image are
    subprocess.run([python, "-m", "pip", "install", "-q", kept], check=True)
    env = {**os.environ, "UV_PYTHON": str(python), "PATH": f"{BIN}:{os.environ['PATH']}"}
    for command in images.install_commands(str(python), str(wheel)):
        subprocess.run(
            command.replace("/tmp/kept.txt", str(tmp_path / "kept.txt")),
            shell=True,
            check=True,
            env=env,
        )
    code = (
        "import importlib.metadata as m, nemoflows; nemoflows.research; "
        "print(m.version('click'), m.version('nemoflows'), nemoflows.__file__)"
    )
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    version, _, place = done.stdout.split()[-3:]
    assert version == "8.1.8"
    assert place.startswith(str(tmp_path))
    for command in ("pyflyte", "nemoflows", "pyflyte-execute"):
        subprocess.run([python.with_name(command), "--help"], check=True, capture_output=True)


def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, gpu: bool) -> str:
    """Return the Dockerfile that flytekit would build an image from."""
    (tmp_path / "dist").mkdir()
    name = f"nemoflows-{metadata.version('nemoflows')}-py3-none-any.whl"
    (tmp_path / "dist" / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    image = images.image(Settings(registry="ghcr.io/me"), gpu=gpu)
    assert isinstance(image, ImageSpec)
    folder = tmp_path / "context"
    folder.mkdir()
    create_docker_context(image, folder)
    assert (folder / "dist" / name).exists()
    return (folder / "Dockerfile").read_text()


def test_the_gpu_image_is_vllms_own_with_this_library_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = context(tmp_path, monkeypatch, gpu=True)
    assert "FROM vllm/vllm-openai:v0.32.0" in file
    assert "--system-site-packages" in file
    assert "uv pip install --constraint /tmp/kept.txt /root/dist/nemoflows-" in file


def test_the_cpu_image_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = context(tmp_path, monkeypatch, gpu=False)
    assert "FROM python:3.12-slim" in file
    assert "vllm" not in file


def test_images_are_left_to_the_command_line_without_a_registry() -> None:
    assert images.image(Settings(), gpu=True) is None
    assert images.image(Settings(hardware=Hardware(image="mine:1")), gpu=True) == "mine:1"
    assert images.image(Settings(hardware=Hardware(image="mine:1")), gpu=False) is None


def test_an_unpublished_version_without_its_wheel_is_refused_when_it_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not images.is_published()  # a checkout, as its metadata says
    assert not images.wheel_of(tmp_path)
    image = images.image(Settings(registry="ghcr.io/me"), gpu=False)
    assert isinstance(image, ImageSpec)  # made, for a local run needs none
    with pytest.raises(BadInput, match=r"no dist/nemoflows-.*make wheel.*NEMOFLOWS_REGISTRY"):
        image.image_name()
    config = ImageConfig.auto(img_name="mine:1")
    with pytest.raises(BadInput, match="Nothing was registered"):
        get_registerable_container_image(image, config)


def test_a_version_from_an_index_is_installed_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "nemoflows-9.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: nemoflows\nVersion: 9.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert images.is_published()
    for embedder, wanted in {
        "": "nemoflows==9.1",
        "dense:org/model": "'nemoflows[dense]==9.1'",
        "openai:small": "'nemoflows[vectors]==9.1'",
    }.items():
        model = ModelRef.model_validate(embedder) if embedder else None
        settings = Settings(registry="ghcr.io/me")
        image = images.image(settings, gpu=False, embedder=model)
        assert isinstance(image, ImageSpec)
        assert image.commands[-1] == f"uv pip install --constraint /tmp/kept.txt {wanted}"
        assert image.image_name().startswith("ghcr.io/me/nemoflows:")
