"""Bootstrap intervals, so that no benchmark prints a number without its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Interval = tuple[float, float]


def interval(values: Sequence[float], *, seed: int = 0, n: int = 2000) -> Interval:
    """Return the 95 % percentile bootstrap interval of the mean of `values`.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.

    Args:
        values: One measurement per item; at least one.
        seed: Of the resampling, so that a rerun prints the same interval.
        n: Resamples.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size:
        raise ValueError("no values: the interval of a mean needs at least one")
    draws = np.random.default_rng(seed)
    # One resample at a time: n x len(values) indices at once would not fit for large sets.
    means = [sample[draws.integers(0, sample.size, sample.size)].mean() for _ in range(n)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def paired_interval(
    a: Sequence[float], b: Sequence[float], *, seed: int = 0, n: int = 2000
) -> Interval:
    """Return the interval of the mean of `a - b`, item by item; above 0: `a` is better."""
    if len(a) != len(b):
        raise ValueError(f"not paired: {len(a)} values against {len(b)}")
    return interval(np.subtract(a, b).tolist(), seed=seed, n=n)
