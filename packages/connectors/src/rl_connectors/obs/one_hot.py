"""Discrete parts of an observation as one-hot vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rl_connectors.obs._leaves import flattener
from rl_connectors.obs.leafwise import BatchFn, LeafwiseObs
from rl_core.env.spaces import Space, flat_dim


@dataclass(frozen=True)
class OneHotObs(LeafwiseObs):
    """Every Discrete leaf as a one-hot vector, every MultiDiscrete one as those of its parts joined.

    Other leaves stay as they are. A Discrete is counted from its `start`.

    Example:
        `Discrete(3, start=1)` becomes `Box(0, 1, (3,))`, and 2 becomes `[0, 1, 0]`.
    """

    takes: ClassVar[str] = "Discrete and MultiDiscrete leaves"

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Make a leaf one-hot if it is discrete."""
        if not isinstance(leaf, Discrete | MultiDiscrete):
            return None
        return Box(0.0, 1.0, (flat_dim(leaf),), np.float32), flattener(leaf)
