"""What `pyflyte run workflows/coding.py fix_issue` and `write_function` take."""

from nemoflows.workflows.coding import fix_issue, write_function

__all__ = ["fix_issue", "write_function"]
