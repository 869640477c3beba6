"""Actions scaled from a range of the module's own to the bounds of the env."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from gymnasium.spaces import Box

from rl_connectors.action._leaves import BatchFn, LeafAction, bounds_of, finite_box
from rl_connectors.learner._settings import require_number
from rl_core.env.spaces import Space


@dataclass(frozen=True)
class RescaleAction(LeafAction):
    """The module decides in [low, high], which is scaled to the finite bounds of the env's Boxes.

        result = env_low + (env_high - env_low) clip((action - low) / (high - low), 0, 1)

    Leave `environment(normalize_actions)` off: it would scale once more. Leaves of other spaces stay as they are.
    """

    takes: ClassVar[str] = "Box leaves of floats"
    low: float = -1.0
    """What becomes the env's lower bound."""
    high: float = 1.0
    """What becomes the env's upper bound, above `low`."""

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            ConfigError: it is not finite, or empty.
        """
        require_number(self, "low")
        require_number(self, "high", above=self.low)

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Scale a leaf if it is a Box of floats.

        Raises:
            UnsupportedSpaceError: its bounds are not finite.
        """
        box = finite_box(leaf, "RescaleAction")
        if box is None:
            return None
        low, high = bounds_of(box)
        scale = 1.0 / (self.high - self.low)
        space = Box(self.low, self.high, box.shape, box.dtype.type)
        return space, lambda action: torch.lerp(low, high, ((action.to(low.dtype) - self.low) * scale).clamp(0.0, 1.0))
