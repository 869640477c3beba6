"""Mean and standard deviation of all rows seen so far, exact to rounding however they are split into rollouts.

They are kept as a dict, which a connector's state can hold: `count`, `mean` and `m2`, the sum of squared distances
from the mean.

Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", equation 2.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def no_moments(size: int) -> dict[str, Any]:
    """Return the moments of no rows of `size` numbers."""
    return {"count": 0, "mean": np.zeros(size), "m2": np.zeros(size)}


def add_rows(moments: dict[str, Any], rows: Array) -> dict[str, Any]:
    """Return the moments with rows `[N, D]` taken in."""
    if not len(rows):
        return moments
    rows = rows.astype(np.float64)
    count = moments["count"] + len(rows)
    mean = rows.mean(0)
    delta, share = mean - moments["mean"], len(rows) / count
    m2 = moments["m2"] + np.square(rows - mean).sum(0) + np.square(delta) * (moments["count"] * share)
    return {"count": count, "mean": moments["mean"] + delta * share, "m2": m2}


def deviation(moments: dict[str, Any]) -> Array:
    """Return the standard deviation `[D]`; 1 where nothing has varied yet."""
    variance: Array = moments["m2"] / max(moments["count"], 1)
    return np.sqrt(np.where(variance > 0, variance, 1.0))
