"""Hints in the reward that leave it as it was which policy is best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rl_connectors.learner._settings import require_number
from rl_connectors.reward._reward import RewardConnector
from rl_core import ConnectorState
from rl_core.env.spaces import Space
from rl_core.errors import BadObservationError, ConfigError
from rl_core.records import Step
from rl_core.tree import Tree


@dataclass(frozen=True)
class ShapeReward(RewardConnector):
    """Adds the growth of a potential of the state to the reward.

        result = reward + gamma potential(next obs) - potential(obs),  the potential of a terminal state is 0

    The discounted return of an episode changes by exactly -potential(first obs), so it stays as it was which policy is
    best; where the episode is cut off, gamma^T potential(last obs) is added, which a value of that observation makes up
    for.

    Example:
        >>> def nearness(obs):  # [B, 2] -> [B]
        ...     return -np.abs(obs[:, 0])
        >>> ShapeReward(nearness, gamma=0.99)

    Source: Ng, Harada & Russell 1999, "Policy Invariance Under Reward Transformations", theorem 1 and equation 2.
    """

    potential_fn: Callable[[Tree], np.ndarray]
    """From the observations `[B, ...]`, as the pieces before give them, to the potentials `[B]`, finite. It is called
    once per step and must not change them; to be stored it must be defined at the top level of a module."""
    gamma: float
    """Discount factor, 0 to 1: the one that is trained with."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if not callable(self.potential_fn):
            raise ConfigError(
                f"ShapeReward: got potential_fn={self.potential_fn!r}, expected a function of observations [B, ...]."
            )
        require_number(self, "gamma", at_least=0, at_most=1)

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Make the potentials of the observations before, `[B]`."""
        return ConnectorState(slots=np.zeros(num_slots))

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Add the growth of the potential; nothing where an episode begins.

        Raises:
            BadObservationError: the potential of some slots is not finite.
        """
        potential = self._potential(step)
        growth = self.gamma * np.where(step.terminated, 0.0, potential) - state.slots
        reward = (step.reward + np.where(step.first, 0.0, growth)).astype(np.float32)
        return ConnectorState(slots=potential), replace(step, reward=reward)

    def _potential(self, step: Step) -> np.ndarray:
        """Call the function and check what it gives, `[B]`, float64."""
        given = np.asarray(self.potential_fn(step.obs))
        if given.shape != step.first.shape:
            raise ValueError(
                f"potential_fn returned shape {given.shape}, expected [B] = {step.first.shape}: one number per slot."
            )
        finite = np.isfinite(given)
        if not finite.all():
            slots = np.flatnonzero(~finite)
            raise BadObservationError(
                slots.tolist(),
                f"ShapeReward: its potential is {given[slots[0]]}, expected a finite number. Correct potential_fn, "
                "or the env if the observation is not finite either.",
            )
        return given.astype(np.float64)
