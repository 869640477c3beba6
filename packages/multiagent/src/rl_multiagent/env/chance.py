"""Draws with given probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


def choose(options: Sequence[Option], probabilities: Sequence[float] | np.ndarray, rng: np.random.Generator) -> Option:
    """Draw one of several options.

    Args:
        options: N of any kind.
        probabilities: `[N]`, or weights that they are in proportion to.
        rng: Draws one number.
    """
    bounds = np.cumsum(probabilities)
    return options[int(bounds[:-1].searchsorted(rng.random() * bounds[-1], side="right"))]
