"""Images: a small one for CPU tasks, vLLM's own for tasks with a GPU, plus this library.

Flyte builds them when a workflow is registered and NEMOFLOWS_REGISTRY says where they go.
"""

from __future__ import annotations

import shlex
from functools import cached_property
from importlib import metadata
from pathlib import Path

from flytekit import ImageSpec

from nemoflows.errors import BadInput
from nemoflows.gpus.serving import VLLM_IMAGE
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

CPU_IMAGE = "python:3.12-slim"

_PYTHON = {VLLM_IMAGE: "/usr/bin/python3", CPU_IMAGE: "/usr/local/bin/python3"}
"""Python of each base image. Source: their Dockerfiles; neither was built here."""


def image(
    settings: Settings, *, gpu: bool, tests: bool = False, embedder: ModelRef | None = None
) -> ImageSpec | str | None:
    """Return the image of a task; None leaves it to `--image`.

    Args:
        gpu: It runs a model in its process.
        tests: It reads a repository or runs its tests.
        embedder: It reads vectors of this model.
    """
    named = settings.tests_image or settings.hardware.tests_image
    own = settings.hardware.image if gpu else named if tests else ""
    if own:
        return own
    if not settings.registry:
        return None
    base = VLLM_IMAGE if gpu else CPU_IMAGE
    wheel = wheel_of(Path.cwd())
    package = f"/root/{wheel}" if wheel else f"nemoflows=={metadata.version('nemoflows')}"
    made = _Image if wheel or is_published() else _WithoutWheel
    return made(
        name="nemoflows-gpu" if gpu else "nemoflows-tests" if tests else "nemoflows",
        base_image=base,
        python_exec=_PYTHON[base],
        registry=settings.registry,
        copy=[wheel] if wheel else None,
        apt_packages=["git"] if tests else None,
        packages=["pytest"] if tests else None,
        commands=install_commands(_PYTHON[base], package, extra=_extra(settings, embedder)),
        entrypoint=[],
    )


def wheel_of(folder: Path) -> str:
    """Return the path, from a folder, of the wheel that `make wheel` put there; empty if none."""
    path = f"dist/nemoflows-{metadata.version('nemoflows')}-py3-none-any.whl"
    return path if (folder / path).is_file() else ""


def is_published() -> bool:
    """Return whether this installation came from a package index, by its version's name.

    Source: PEP 610; an installation from a folder, a file or a URL records where it came from.
    """
    return metadata.distribution("nemoflows").read_text("direct_url.json") is None


def install_commands(python: str, package: str, *, extra: str = "") -> list[str]:
    """Return the commands that add the library to an image, beside what is there.

    What the image's own Python holds is kept at its version, so that vLLM's 260 packages are
    neither resolved again nor changed. The builder provides `uv` and names the environment that
    it installs into in UV_PYTHON.

    Args:
        python: The base image's own Python.
        package: A wheel's path in the image, or `nemoflows==` and a version.
        extra: The extra to install, if any.
    """
    name, equals, version = package.partition("==")
    wanted = f"{name}[{extra}]{equals}{version}" if extra else package
    kept = "/tmp/kept.txt"  # noqa: S108  (inside the image)
    return [
        f"{python} -m pip list --format=freeze >{kept}",
        f"uv pip install --constraint {kept} {shlex.quote(wanted)}",
    ]


def _extra(settings: Settings, embedder: ModelRef | None) -> str:
    """Return the extra that the embedder needs, of every task that reads its vectors."""
    if embedder is None:
        return ""
    return "dense" if settings.embeds_here(embedder) else "vectors"


class _Image(ImageSpec):  # type: ignore[misc]  # flytekit has no types
    """An image that is built, or found where it was built before."""

    def exist(self) -> bool:
        """Return whether the registry has it.

        flytekit takes an image for built that it can neither build nor find: its pods would wait.

        Raises:
            BadInput: There is no Docker engine to look with, and so none to build with.
        """
        found: bool | None = super().exist()
        if found is None:
            raise BadInput(
                f"The image {self.image_name()} can neither be built nor looked for: no Docker "
                "engine answers, or the registry refuses. Start Docker and log in, or unset "
                "NEMOFLOWS_REGISTRY and name images that are built: --image, and `image` in "
                "NEMOFLOWS_HARDWARE for GPU tasks. Nothing was registered."
            )
        return found


class _WithoutWheel(ImageSpec):  # type: ignore[misc]  # flytekit has no types
    """An image that cannot be built, said when a registration asks for it, not in local runs."""

    @cached_property
    def tag(self) -> str:
        """Refuse: no build could install this version.

        Raises:
            BadInput: Always.
        """
        version = metadata.version("nemoflows")
        raise BadInput(
            f"No image can be built for {self.registry!r}: nemoflows {version} was installed from "
            f"a folder or a file, not from a package index, and {Path.cwd()} holds no "
            f"dist/nemoflows-{version}-py3-none-any.whl to install. Put the wheel there (`make "
            "wheel` in a checkout builds it), or unset NEMOFLOWS_REGISTRY and name your own image: "
            "--image, and `image` in NEMOFLOWS_HARDWARE for GPU tasks. Nothing was registered."
        )
