"""Flyte's edge of the library: resources, retries, places. CPU and GPU tasks live apart.

Importing one task registers every task of its module, so a module holds tasks of one binding.
"""

from nemoflows.tasks.flyte.binding import overrides
from nemoflows.tasks.flyte.decorator import POLICY, task
from nemoflows.tasks.flyte.mapped import mapped

__all__ = ["POLICY", "mapped", "overrides", "task"]
