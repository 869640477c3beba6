"""Shared by the reward pieces: they leave observations as they are, in the learner, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rl_core import ConnectorState, ObsConnector
from rl_core.env.spaces import Space
from rl_core.tree import Tree


@dataclass(frozen=True)
class RewardConnector(ObsConnector):
    """Base of pieces that change only the reward: derive a frozen dataclass and write `__call__`."""

    rebuildable: ClassVar[bool] = True

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the same space."""
        return observation_space

    def rebuild(self, state: ConnectorState, obs: Tree, first: np.ndarray) -> Tree:
        """Return the observations, which sampling did not change either."""
        return obs

    def rebuild_final(self, state: ConnectorState, before: Tree, final: Tree) -> Tree:
        """Return the true last observations, which sampling did not change either."""
        return final
