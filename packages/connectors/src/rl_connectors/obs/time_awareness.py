"""How much of the episode has passed, as part of the observation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from gymnasium.spaces import Box

from rl_connectors._checks import is_whole
from rl_connectors.obs._leaves import obs_with, space_with
from rl_core import ConnectorState, ObsConnector, Step
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError


@dataclass(frozen=True)
class TimeAwareness(ObsConnector):
    """Adds `time`, the share of the time limit that has passed: `Dict(obs, time)`.

    Source: Pardo et al. 2018, "Time Limits in Reinforcement Learning", section 3.
    """

    max_steps: int
    """Steps of an episode at most; above 0. Later steps show 1."""

    def __post_init__(self) -> None:
        """Check the limit."""
        if not is_whole(self.max_steps, 1):
            raise ConfigError(f"TimeAwareness: got max_steps={self.max_steps!r}, expected an int of at least 1.")

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """The observation with one number more."""
        return space_with(observation_space, {"time": Box(0.0, 1.0, (1,), np.float32)}, "TimeAwareness")

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """No step taken."""
        return ConnectorState(slots=np.zeros(num_slots, np.int64))

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Count the step of each slot."""
        steps = np.where(step.first, 0, state.slots + 1)
        time = np.minimum(steps / self.max_steps, 1.0).astype(np.float32)[:, np.newaxis]
        return ConnectorState(slots=steps), replace(step, obs=obs_with(step.obs, {"time": time}))
