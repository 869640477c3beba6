"""Rewards cut off at bounds, or reduced to their sign."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rl_connectors.learner._settings import require_number
from rl_connectors.reward._reward import RewardConnector
from rl_core import ConnectorState
from rl_core.records import Step


@dataclass(frozen=True)
class ClipReward(RewardConnector):
    """Rewards clipped to [low, high]."""

    low: float = -1.0
    """Smallest reward."""
    high: float = 1.0
    """Largest reward, above `low`."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        require_number(self, "low")
        require_number(self, "high", above=self.low)

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Clip the rewards of all slots."""
        return state, replace(step, reward=np.minimum(np.maximum(step.reward, self.low), self.high))


@dataclass(frozen=True)
class SignReward(RewardConnector):
    """The sign of each reward: -1, 0 or 1, so that games of any score can be learned with the same settings.

    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning", Methods, training details.
    """

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Take the signs of the rewards of all slots."""
        return state, replace(step, reward=np.sign(step.reward))
