"""What the agent did and got before, as part of the observation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from rl_connectors._checks import is_whole
from rl_connectors.obs._leaves import bound_copy, obs_with, space_with
from rl_core import ConnectorState, ObsConnector, Step
from rl_core.env.spaces import Space, flat_dim, flatten_batch
from rl_core.errors import ConfigError
from rl_core.records import Tree

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PrevActionsPrevRewards(ObsConnector):
    """Adds the last actions and rewards of the episode: `Dict(obs, prev_actions, prev_rewards)`.

    Actions of any space are flattened, discrete ones one-hot. The most recent is last; before the episode there are
    zeros. An observation that is a Dict keeps its keys and gets the two beside them.
    """

    num_actions: int = 1
    """How many actions; 0 for none."""
    num_rewards: int = 1
    """How many rewards; 0 for none."""
    action_space: Space | None = field(default=None, init=False, repr=False, compare=False)
    """The env's action space."""

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("num_actions", "num_rewards"):
            value = getattr(self, name)
            if not is_whole(value, 0):
                raise ConfigError(f"PrevActionsPrevRewards: got {name}={value!r}, expected an int of at least 0.")
        if not self.num_actions + self.num_rewards:
            raise ConfigError("PrevActionsPrevRewards: num_actions and num_rewards are both 0, so it does nothing.")

    def bind(self, observation_space: Space, action_space: Space) -> PrevActionsPrevRewards:
        """Remember the action space."""
        return bound_copy(self, action_space=action_space)

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """The observation with the vectors of actions and rewards."""
        widths = {"prev_actions": self.num_actions * flat_dim(action_space), "prev_rewards": self.num_rewards}
        parts = {name: Box(-np.inf, np.inf, (width,), np.float32) for name, width in widths.items() if width}
        return space_with(observation_space, parts, "PrevActionsPrevRewards")

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Zeros."""
        widths = (self.num_actions * flat_dim(action_space), self.num_rewards)
        return ConnectorState(slots=tuple(np.zeros((num_slots, width), np.float32) for width in widths))

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Push the newest action and reward."""
        begins = step.first if step.first.any() else None
        actions, rewards = state.slots
        if self.num_actions:
            newest = None if step.action is None else flatten_batch(self._action_space(), step.action)
            actions = _pushed(actions, newest, begins)
        if self.num_rewards:
            rewards = _pushed(rewards, step.reward[:, np.newaxis], begins)
        parts = {"prev_actions": actions, "prev_rewards": rewards}
        parts = {name: part for name, part in parts.items() if part.shape[1]}
        return ConnectorState(slots=(actions, rewards)), replace(step, obs=obs_with(step.obs, parts))

    def _action_space(self) -> Space:
        assert self.action_space is not None, "bound by its chain"
        return self.action_space


def _pushed(memory: Array, newest: Tree, begins: Array | None) -> Array:
    """Move the memory `[B, n * D]` on by one entry `[B, D]`; None of them, and zeros where an episode begins."""
    if newest is None:
        return np.zeros_like(memory)
    width = newest.shape[1]
    result = np.empty_like(memory)
    result[:, :-width] = memory[:, width:]
    result[:, -width:] = newest
    if begins is not None:
        result[begins] = 0
    return result
