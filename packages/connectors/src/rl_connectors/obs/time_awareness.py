"""How far an episode has come, as part of the observation: with a time limit, values depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box

from rl_connectors.obs._checks import is_whole
from rl_connectors.obs._leaves import add_parts, with_parts
from rl_core import ConnectorState, ObsConnector
from rl_core.env.spaces import Space
from rl_core.errors import ConfigError
from rl_core.records import Step
from rl_core.tree import Tree

_MOST_STEPS = 2**22
"""Up to here a float32 fraction tells the number of steps exactly."""


@dataclass(frozen=True)
class TimeAwareness(ObsConnector):
    """Adds the part `time`, `[1]`: steps since the episode began / `max_steps`, at most 1.

    A Dict gets it beside its own parts; any other observation becomes the part `obs` of a Dict.

    Source: Pardo et al. 2018, "Time Limits in Reinforcement Learning", section 3.
    """

    rebuildable: ClassVar[bool] = True
    max_steps: int
    """Steps after which the env cuts an episode, 1 to 4,194,304."""

    def __post_init__(self) -> None:
        """Check the number of steps."""
        if not is_whole(self.max_steps, 1) or self.max_steps > _MOST_STEPS:
            raise ConfigError(
                f"TimeAwareness: max_steps is {self.max_steps!r}, expected a whole number from 1 to {_MOST_STEPS}: the "
                "time limit of the env."
            )

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the observation with the part `time`.

        Raises:
            UnsupportedSpaceError: it has a part of that name already.
        """
        return with_parts(observation_space, {"time": Box(0.0, 1.0, (1,), np.float32)}, "TimeAwareness")

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Make the numbers of steps, `[B]`."""
        return ConnectorState(slots=np.zeros(num_slots, np.int64))

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Count the step and add the part."""
        elapsed = (state.slots + 1) * ~step.first
        return ConnectorState(slots=elapsed), step.with_obs(self._add(step.obs, elapsed))

    def rebuild(self, state: ConnectorState, obs: Tree, first: np.ndarray) -> Tree:
        """Count the steps of a whole rollout; see `ObsConnector.rebuild`."""
        row = np.arange(len(first))[:, np.newaxis]
        begins = first & (row > 0)
        # The row from which to count; row 0 is some steps into its episode.
        start = np.maximum.accumulate(np.where(begins, row, -state.slots), axis=0)
        return self._add(obs, row - start)

    def rebuild_final(self, state: ConnectorState, before: Tree, final: Tree) -> Tree:
        """Count one more step than before the true last observations."""
        return self._add(final, np.rint(before["time"][:, 0] * np.float64(self.max_steps)) + 1)

    def _add(self, obs: Tree, elapsed: np.ndarray) -> Tree:
        """Add the part to observations `[..., *]` after `elapsed` `[...]` steps."""
        fraction = np.minimum(elapsed / self.max_steps, 1.0).astype(np.float32)
        return add_parts(obs, {"time": fraction[..., np.newaxis]})
