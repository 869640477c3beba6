"""Actions clipped to the bounds of the env."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box

from rl_connectors.action._leaves import BatchFn, LeafAction, bounds_of
from rl_core.env.spaces import Space


@dataclass(frozen=True)
class ClipAction(LeafAction):
    """Clips Box actions to their bounds; the module decides in unbounded ones, so that it squashes nothing itself.

    The config clips to the env's bounds anyway unless `environment(clip_actions=False)`. This piece is for another
    place in the chain, such as behind `ActionNoise`. Leaves of other spaces stay as they are.
    """

    takes: ClassVar[str] = "Box leaves of floats"

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Clip a leaf if it is a Box of floats."""
        if not (isinstance(leaf, Box) and leaf.dtype.kind == "f"):
            return None
        low, high = bounds_of(leaf)
        space = Box(-np.inf, np.inf, leaf.shape, leaf.dtype.type)
        return space, lambda action: torch.clamp(action, low, high)
