"""Images: a small one for CPU tasks, vLLM's own for tasks with a GPU, plus this library.

Flyte builds them when a workflow is registered and NEMOFLOWS_REGISTRY says where they go.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from flytekit import ImageSpec

from nemoflows.settings import Settings

VLLM_IMAGE = "vllm/vllm-openai:v0.32.0"
"""The release that the library was tested with, on its CPU build."""


CPU_IMAGE = "python:3.12-slim"


_PYTHON = {VLLM_IMAGE: "/usr/bin/python3", CPU_IMAGE: "/usr/local/bin/python3"}
"""Python of each base image. Source: their Dockerfiles; neither was built here."""


def install_commands(python: str, wheel: str) -> list[str]:
    """Return the commands that add the library to an image, beside what is there.

    What the image's own Python holds is kept at its version, so that vLLM's 260 packages are
    neither resolved again nor changed. The builder provides `uv` and names the environment that
    it installs into in UV_PYTHON.
    """
    kept = "/tmp/kept.txt"  # noqa: S108  (inside the image)
    return [
        f"{python} -m pip list --format=freeze >{kept}",
        f"uv pip install --constraint {kept} {wheel}",
    ]


def wheel_of(folder: Path) -> str:
    """Return the wheel that `make wheel` put below a folder, else the released version's name."""
    version = metadata.version("nemoflows")
    found = folder / "dist" / f"nemoflows-{version}-py3-none-any.whl"
    return f"dist/{found.name}" if found.is_file() else f"nemoflows=={version}"


def image(settings: Settings, *, gpu: bool) -> ImageSpec | str | None:
    """Return the image of a task; None leaves it to `--image`."""
    if gpu and settings.gpu_image:
        return settings.gpu_image
    if not settings.registry:
        return None
    base = VLLM_IMAGE if gpu else CPU_IMAGE
    wheel = wheel_of(Path.cwd())
    is_file = wheel.startswith("dist/")
    return ImageSpec(
        name="nemoflows-gpu" if gpu else "nemoflows",
        base_image=base,
        python_exec=_PYTHON[base],
        registry=settings.registry,
        copy=[wheel] if is_file else None,
        commands=install_commands(_PYTHON[base], f"/root/{wheel}" if is_file else wheel),
        entrypoint=[],
    )
