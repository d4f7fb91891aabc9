"""Write `nemoflows/__init__.pyi`, what type checkers read: `python -m tests.stub`."""

from __future__ import annotations

from pathlib import Path

import nemoflows

PLACE = Path(nemoflows.__file__).with_suffix(".pyi")


def stub() -> str:
    """Return what type checkers are to read of the package."""
    lines = ["# Written by `python -m tests.stub`; a test holds it to that.", "# ruff: noqa: I001"]
    homes: dict[str, tuple[str, ...]] = getattr(nemoflows, "_HOMES")  # noqa: B009  (the stub has none)
    for home, names in homes.items():
        listed = "".join(f"    {name} as {name},\n" for name in names)
        lines.append(f"from {home} import (\n{listed})")
    public = "".join(f'    "{name}",\n' for name in sorted(sum(homes.values(), ())))
    return "\n".join([*lines, "", f"__all__ = [\n{public}]", ""])


if __name__ == "__main__":
    PLACE.write_text(stub())
