"""Rewards in units of the spread of the returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rl_connectors.learner._settings import require_number
from rl_connectors.reward._reward import RewardConnector
from rl_core import ConnectorState
from rl_core.env.spaces import Space
from rl_core.records import Step
from rl_core.tree import Tree


@dataclass(frozen=True)
class NormalizeReward(RewardConnector):
    """Divides rewards by the running standard deviation of the discounted return so far.

        return = gamma return + reward,  from 0 at the beginning of each episode
        result = clip(reward / sqrt(variance of all returns + epsilon), -clip, clip)

    The mean is not taken off, since that would change which policy is best. Steps that an env spends on resetting
    itself do not count. Its statistics are the numbers `count`, `mean` and `m2`; the variance is m2 / count, and 1
    before there is data.

    Source: Engstrom et al. 2020, "Implementation Matters in Deep Policy Gradients", algorithm 1, here without carrying
    the return of an episode over to the next; Chan, Golub & LeVeque 1979, "Updating Formulae and a Pairwise Algorithm
    for Computing Sample Variances", equation 2.1.
    """

    gamma: float = 0.99
    """Discount factor, 0 to 1: the one that is trained with."""
    clip: float = 10.0
    """Largest size of a result, above 0."""
    epsilon: float = 1e-8
    """Added to the variance, above 0."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_number(self, "gamma", at_least=0, at_most=1)
        require_number(self, "clip", above=0)
        require_number(self, "epsilon", above=0)

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Make the statistics of no data, and returns of 0, `[B]`."""
        return ConnectorState(shared=_statistics(0.0, 0.0, 0.0), slots=np.zeros(num_slots))

    def observe(self, state: ConnectorState, step: Step) -> Tree:
        """Count the returns after a step."""
        real = ~step.artificial & (~step.first | step.terminated | step.truncated)
        returns = self._returns(state.slots, step)
        num = int(np.count_nonzero(real))
        if num < len(returns):
            returns = returns[real]
            if not num:
                return state.shared
        mean = np.add.reduce(returns) / num
        returns = returns - mean
        return _combined([_numbers(state.shared), (num, mean, returns @ returns)])

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Divide the rewards of all slots."""
        count, _, m2 = _numbers(state.shared)
        scale = 1.0 / math.sqrt((m2 / count if count else 1.0) + self.epsilon)
        reward = np.minimum(np.maximum(step.reward * scale, -self.clip), self.clip).astype(np.float32, copy=False)
        slots = np.where(step.first, 0.0, self._returns(state.slots, step))
        return ConnectorState(state.shared, slots), replace(step, reward=reward)

    def _returns(self, before: np.ndarray, step: Step) -> np.ndarray:
        """Return the discounted returns after a step, `[B]`, float64."""
        returns: np.ndarray = before * self.gamma + step.reward
        return returns

    def merge(self, shared: Sequence[Tree], base: Tree) -> Tree:
        """Combine the statistics of several runners, as if one had seen all data.

        The base is in each of them, and is taken out of all but one.
        """
        count, mean, m2 = _numbers(base)
        parts = [_numbers(part) for part in shared]
        own = [_without(part, (count, mean, m2)) for part in parts]
        return _combined([(count, mean, m2), *own])


Numbers = tuple[float, float, float]
"""How many returns, their mean, and the sum of the squares of their distances from it."""


def _numbers(statistics: Tree) -> Numbers:
    return float(statistics["count"]), float(statistics["mean"]), float(statistics["m2"])


def _statistics(count: float, mean: float, m2: float) -> Tree:
    return {"count": np.float64(count), "mean": np.float64(mean), "m2": np.float64(m2)}


def _combined(parts: Sequence[Numbers]) -> Tree:
    """Return the statistics of all returns of several parts."""
    total = sum(count for count, _, _ in parts)
    if not total:
        return _statistics(0.0, 0.0, 0.0)
    mean = sum(count * mean for count, mean, _ in parts) / total
    m2 = sum(m2 + count * (part - mean) ** 2 for count, part, m2 in parts)
    return _statistics(total, mean, m2)


def _without(whole: Numbers, part: Numbers) -> Numbers:
    """Return the numbers of the returns of `whole` that are not in `part`."""
    count = whole[0] - part[0]
    if not count:
        return 0.0, 0.0, 0.0
    shift = (whole[1] - part[1]) * whole[0] / count  # from the mean of `part` to that of the others
    return count, part[1] + shift, max(whole[2] - part[2] - shift**2 * part[0] * count / whole[0], 0.0)
