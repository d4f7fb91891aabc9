"""Gather the documents that this Python environment brought along into one folder.

    python examples/installed_docs.py FOLDER

Readmes from the installed packages' metadata, and the sources (with their docstrings) of a few
packages: long-form text that nobody wrote for a demo.
"""

import shutil
import sys
from importlib import metadata
from pathlib import Path

SOURCES = ("tenacity", "fsspec", "rich", "aiohttp", "pydantic_settings")


def gather(folder: Path) -> int:
    """Copy the documents into `folder` and return how many there are."""
    shutil.rmtree(folder, ignore_errors=True)
    for package in metadata.distributions():
        name = package.metadata["Name"]
        readme = (package.read_text("METADATA") or "").partition("\n\n")[2]
        if len(readme) > 500:
            path = folder / f"{name}-{package.version}" / "README.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(readme, encoding="utf-8", errors="replace")
        for file in package.files or []:
            if file.suffix == ".py" and file.parts[0] in SOURCES:
                path = folder / f"{name}-{package.version}" / Path(*file.parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), path)
    return sum(path.is_file() for path in folder.rglob("*"))


if __name__ == "__main__":
    print(f"{gather(Path(sys.argv[1]))} documents in {sys.argv[1]}")
