"""What was done and earned before, as part of the observation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rl_connectors.obs._checks import is_whole
from rl_connectors.obs._leaves import add_parts, bound_copy, flattener, with_parts
from rl_core import ConnectorState, ObsConnector
from rl_core.env.spaces import Space, flat_dim, leaf_spaces
from rl_core.errors import ConfigError
from rl_core.records import Step
from rl_core.tree import Tree


@dataclass(frozen=True)
class PrevActionsPrevRewards(ObsConnector):
    """Adds the parts `prev_actions` `[num_actions * A]` and `prev_rewards` `[num_rewards]`, the most recent one last.

    An action is the env's, as one float vector of A numbers: discrete parts one-hot, boxes flattened, nested ones
    joined. A reward is as the connectors before gave it. What was before an episode began is 0. A Dict gets the parts
    beside its own; any other observation becomes the part `obs` of a Dict.
    """

    num_actions: int = 1
    """How many actions; 0 leaves the part out."""
    num_rewards: int = 1
    """How many rewards; 0 leaves the part out."""
    flatten: Callable[[Tree], np.ndarray] | None = field(default=None, init=False, repr=False, compare=False)
    """What makes vectors of the env's actions."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("num_actions", "num_rewards"):
            if not is_whole(getattr(self, name), 0):
                raise ConfigError(
                    f"PrevActionsPrevRewards: {name} is {getattr(self, name)!r}, expected a whole number of at least 0."
                )
        if not self.num_actions and not self.num_rewards:
            raise ConfigError("PrevActionsPrevRewards: both numbers are 0, so it adds nothing. Leave it out.")

    def bind(self, observation_space: Space, action_space: Space) -> PrevActionsPrevRewards:
        """Return a copy that knows the action space."""
        return bound_copy(self, flatten=flattener(action_space))

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the observation with the added parts.

        Raises:
            UnsupportedSpaceError: it has a part of that name already.
        """
        parts: dict[str, Space] = {}
        if self.num_actions:
            kinds = Discrete | MultiDiscrete | MultiBinary
            counted = all(isinstance(leaf, kinds) for _, leaf in leaf_spaces(action_space))
            # The env's actions may exceed the bounds of a Box where nobody clips them.
            low, high = (0.0, 1.0) if counted else (-np.inf, np.inf)
            parts["prev_actions"] = Box(low, high, (self.num_actions * flat_dim(action_space),), np.float32)
        if self.num_rewards:
            parts["prev_rewards"] = Box(-np.inf, np.inf, (self.num_rewards,), np.float32)
        return with_parts(observation_space, parts, "PrevActionsPrevRewards")

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Make the memory: `[B, num_actions, A]` and `[B, num_rewards]`, zeros."""
        sizes: dict[str, tuple[int, ...]] = {"actions": (self.num_actions, flat_dim(action_space))}
        sizes["rewards"] = (self.num_rewards,)
        kept = {name: size for name, size in sizes.items() if size[0]}
        return ConnectorState(slots={name: np.zeros((num_slots, *size), np.float32) for name, size in kept.items()})

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Remember the action and the reward of the step, and add the parts."""
        slots, parts = {}, {}
        begins = step.first.nonzero()[0]
        if self.num_actions:
            assert self.flatten is not None, "bound to its spaces by its chain"
            taken = 0.0 if step.action is None else self.flatten(step.action)
            actions = slots["actions"] = _remember(state.slots["actions"], taken, begins)
            parts["prev_actions"] = actions.reshape(len(actions), -1)
        if self.num_rewards:
            parts["prev_rewards"] = slots["rewards"] = _remember(state.slots["rewards"], step.reward, begins)
        return ConnectorState(slots=slots), step.with_obs(add_parts(step.obs, parts))


def _remember(memory: np.ndarray, newest: np.ndarray | float, begins: np.ndarray) -> np.ndarray:
    """Return a memory `[B, n, ...]` without the oldest entry and with the newest; 0 in slots that begin."""
    result = np.empty_like(memory)
    result[:, :-1] = memory[:, 1:]
    result[:, -1] = newest
    if len(begins):
        result[begins] = 0.0
    return result
