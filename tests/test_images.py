"""Images: what is installed into them works, and only what was asked for is changed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from flytekit import ImageSpec
from flytekit.image_spec.default_builder import create_docker_context

from nemoflows.settings import Settings
from nemoflows.tasks.flyte import images
from tests.support import BIN, ROOT


def built(folder: Path) -> Path:
    """Return a wheel of this checkout."""
    command = [sys.executable, "-m", "uv", "build", "-q", "--wheel", "--out-dir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, timeout=240)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.mark.packages
def test_the_commands_install_the_wheel_beside_what_is_there(tmp_path: Path) -> None:
    wheel = built(tmp_path / "dist")
    assert wheel.name == images.wheel_of(tmp_path).removeprefix("dist/")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if not name.startswith("nemoflows")]
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


def test_images_are_left_to_the_command_line_without_a_registry(tmp_path: Path) -> None:
    assert images.image(Settings(), gpu=True) is None
    assert images.image(Settings(gpu_image="mine:1"), gpu=True) == "mine:1"
    assert images.image(Settings(gpu_image="mine:1"), gpu=False) is None
    assert images.wheel_of(tmp_path).startswith("nemoflows==")
