"""Wheels of this checkout, and environments that they are installed into."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

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
    # The checkout is on this environment's path by a .pth file, which is not read from there.
    (site / "needs.pth").write_text(sysconfig.get_path("purelib"))
    for command in BIN.iterdir():
        text = command.read_bytes()[:200].decode(errors="replace")
        if text.startswith("#!") and not command.is_symlink():
            _, _, rest = command.read_text().partition("\n")
            (bin_ / command.name).write_text(f"#!{bin_ / 'python'}\n{rest}")
            (bin_ / command.name).chmod(0o755)
    return bin_
