"""Wheels of this checkout, and environments that they are installed into."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, PackagePath, distribution, distributions
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

from tests.support import BIN, ROOT


def built(folder: Path) -> Path:
    """Return a wheel of this checkout."""
    command = [sys.executable, "-m", "uv", "build", "-q", "--wheel", "--out-dir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, timeout=240)
    [wheel] = folder.glob("*.whl")
    return wheel


def environment(folder: Path, pip: str = "pip") -> Path:
    """Return the Python of a new virtual environment with the `pip` that is wanted."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python3"
    subprocess.run([python, "-m", "pip", "install", "-q", "-U", pip], check=True, timeout=240)
    return python


def image(folder: Path) -> Path:
    """Return the `bin` of an environment as an image has it: the wheel, and what that needs.

    It shares the packages of this environment, and none of the files of this checkout.
    """
    wheel = built(folder / "wheel")
    venv.create(folder / "image", symlinks=True)
    bin_, [site] = folder / "image" / "bin", (folder / "image").glob("lib/*/site-packages")
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    _fill(site)
    for command in BIN.iterdir():
        text = command.read_bytes()[:200].decode(errors="replace")
        if text.startswith("#!") and not command.is_symlink():
            _, _, rest = command.read_text().partition("\n")
            (bin_ / command.name).write_text(f"#!{bin_ / 'python'}\n{rest}")
            (bin_ / command.name).chmod(0o755)
    return bin_


def _fill(site: Path) -> None:
    """Put this environment's packages into another one, as links.

    The checkout is on this one's path by a .pth file; none is taken over. What pytest loads is
    really there: a sandbox shows an interpreter's own files alone.
    """
    loaded = {"pytest"} | {
        one.name for one in distributions() if any(e.group == "pytest11" for e in one.entry_points)
    }
    shown = {file.parts[0] for name in loaded for file in _files(name, set())}
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.suffix == ".pth" or path.name.startswith(("nemoflows", "__pycache__")):
            continue
        if path.name not in shown:
            (site / path.name).symlink_to(path)
        elif path.is_dir():
            shutil.copytree(path, site / path.name)
        else:
            shutil.copy2(path, site)


def _files(name: str, seen: set[str]) -> Iterator[PackagePath]:
    """Yield the files of a distribution and of those that it needs."""
    if name in seen:
        return
    seen.add(name)
    with suppress(PackageNotFoundError):
        found = distribution(name)
        yield from found.files or []
        for needed in map(Requirement, found.requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                yield from _files(needed.name, seen)
