"""Running mean and variance of batches, exact to rounding however the data is split.

Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", equation 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Moments(NamedTuple):
    """Of the numbers seen so far, element by element."""

    num_rows: float
    """Rows seen."""
    mean: Array
    """`[...]`, float64."""
    m2: Array
    """`[...]`, float64: sum of squared distances from the mean."""


def moments_of(rows: Array) -> Moments:
    """The moments of rows `[N, ...]`."""
    rows = rows.astype(np.float64, copy=False)
    count = len(rows)
    mean = np.add.reduce(rows, 0) / max(count, 1)
    distance = rows - mean
    return Moments(float(count), mean, np.add.reduce(distance * distance, 0))


def joined(one: Moments, two: Moments) -> Moments:
    """The moments of two sets of rows together."""
    count = one.num_rows + two.num_rows
    if not count:
        return one
    delta = two.mean - one.mean
    share = two.num_rows / count
    return Moments(count, one.mean + delta * share, one.m2 + two.m2 + delta * delta * (one.num_rows * share))


def since(whole: Moments, base: Moments) -> Moments:
    """The moments of what came after `base`: the inverse of `joined`."""
    count = whole.num_rows - base.num_rows
    if not count:
        return Moments(0.0, np.zeros_like(whole.mean), np.zeros_like(whole.m2))
    mean = whole.mean + (whole.mean - base.mean) * (base.num_rows / count)
    delta = mean - base.mean
    m2 = whole.m2 - base.m2 - delta * delta * (base.num_rows * count / whole.num_rows)
    return Moments(count, mean, np.maximum(m2, 0.0))


def merged(parts: Sequence[Moments], base: Moments) -> Moments:
    """The moments of everything that several runners saw, who all started from `base`."""
    total = base
    for part in parts:
        total = joined(total, since(part, base))
    return total


def standard_deviation(moments: Moments) -> Array:
    """`[...]`: of all rows seen; 1 before there are two."""
    if moments.num_rows < 2:
        return np.ones_like(moments.m2)
    return np.sqrt(moments.m2 / moments.num_rows)
