"""Continuous actions as a choice among evenly spaced values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiDiscrete

from rl_connectors.action._leaves import BatchFn, LeafAction, bounds_of, finite_box
from rl_core.env.spaces import Space, describe
from rl_core.errors import ConfigError, UnsupportedSpaceError


@dataclass(frozen=True)
class DiscretizeAction(LeafAction):
    """Each number of the env's Boxes `[A]` takes one of `num_bins` values, evenly spaced, both bounds among them.

        result = low + bin (high - low) / (num_bins - 1)

    The module decides in Discrete(num_bins) where A is 1, else in MultiDiscrete([num_bins] * A). Leaves of other
    spaces stay as they are.

    Source: Tang & Agrawal 2020, "Discretizing Continuous Action Space for On-Policy Optimization", section 3.
    """

    takes: ClassVar[str] = "Box leaves of floats"
    num_bins: int
    """Values per number, at least 2."""

    def __post_init__(self) -> None:
        """Check the number of bins.

        Raises:
            ConfigError: it is not a whole number of at least 2.
        """
        if type(self.num_bins) is not int or self.num_bins < 2:
            raise ConfigError(f"DiscretizeAction: got num_bins={self.num_bins!r}, expected an int of at least 2.")

    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Make a leaf discrete if it is a Box of floats.

        Raises:
            UnsupportedSpaceError: its bounds are not finite, or it has more than one axis.
        """
        box = finite_box(leaf, "DiscretizeAction")
        if box is None:
            return None
        if len(box.shape) > 1 or box.shape == (0,):
            raise UnsupportedSpaceError(
                f"DiscretizeAction takes Boxes of shape [A], A at least 1, and got {describe(box)}. Flatten the env's "
                "actions with a gymnasium wrapper."
            )
        low, high = (bound.reshape(-1).numpy() for bound in bounds_of(box))
        # Worked out in double precision, so that the bounds are met exactly.
        table = np.linspace(low.astype(np.float64), high.astype(np.float64), self.num_bins, axis=1).astype(low.dtype)
        values = torch.from_numpy(table)  # [A, num_bins]
        if len(low) == 1:
            return Discrete(self.num_bins), lambda action: values[0, action].reshape(-1, *box.shape)
        column = torch.arange(len(low))
        return MultiDiscrete([self.num_bins] * len(low)), lambda action: values[column, action]
