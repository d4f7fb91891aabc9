"""Bootstrap intervals, so that no benchmark prints a number without its uncertainty; and fits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Floats = NDArray[np.float64]


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


def folds(n: int, *, k: int = 5, seed: int = 0) -> list[NDArray[np.bool_]]:
    """Return `k` masks over `n` items, each item held out once."""
    which = np.random.default_rng(seed).permutation(n) % k
    return [which == fold for fold in range(k)]


def fit_logistic(features: Floats, right: Floats, *, ridge: float = 1.0) -> Floats:
    """Return the weights of a logistic regression on standardised features, the bias first.

    Source: iteratively reweighted least squares with a ridge penalty, Hastie, Tibshirani and
    Friedman, The Elements of Statistical Learning (2009), section 4.4.1.
    """
    centre, spread = features.mean(0), features.std(0) + 1e-9
    x = _with_bias((features - centre) / spread)
    penalty = np.eye(x.shape[1]) * ridge
    penalty[0, 0] = 0.0
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        curve = (x * (p * (1 - p))[:, None]).T @ x + penalty
        weights = weights + np.linalg.solve(curve, x.T @ (right - p) - penalty @ weights)
    raw = weights[1:] / spread
    found: Floats = np.concatenate(([weights[0] - raw @ centre], raw))
    return found


def predict(weights: Floats, features: Floats) -> Floats:
    """Return the probabilities that a fit gives."""
    found: Floats = 1 / (1 + np.exp(-_with_bias(features) @ weights))
    return found


def _with_bias(features: Floats) -> Floats:
    return np.hstack((np.ones((len(features), 1)), features))
