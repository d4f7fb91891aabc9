"""Wheels of this checkout, and environments that they are installed into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import ROOT


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
