"""Returns of a rollout as further columns, for losses that ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rl_connectors.learner._settings import require_count, require_number
from rl_core import LearnerConnector, Rollout
from rl_core.ops.sequences import discounted_returns_to_go, sequence_n_step_target
from rl_core.records import Tree


@dataclass(frozen=True)
class ReturnsToGo(LearnerConnector):
    """Adds the column `extras["returns_to_go"]` `[T, B]`: discounted rewards from each step to its episode's end.

    What comes after the rollout, or after a truncation, is not known here and counts as 0: the sums are exact for
    episodes that terminate within the rollout, and too short for others. They are 0 at steps that are not real.

    Source: Sutton and Barto 2018, equation 3.9.
    """

    gamma: float = 0.99
    """Discount per step, 0 to 1."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_number(self, "gamma", at_least=0, at_most=1)

    def __call__(self, state: Tree, rollout: Rollout) -> tuple[Tree, Rollout, Mapping[str, float]]:
        """Add the column."""
        valid = _valid(rollout)
        ended = rollout.terminated | rollout.truncated | ~valid
        nothing = torch.zeros(rollout.reward.shape[1])
        column = discounted_returns_to_go(rollout.reward.masked_fill(~valid, 0.0), ended, nothing, self.gamma)
        return state, replace(rollout, extras={**rollout.extras, "returns_to_go": column}), {}


@dataclass(frozen=True)
class NStepReturns(LearnerConnector):
    """Adds two columns `[T, B]`: what the next k steps gave, and the weight of the value after them.

        n_step_return[t]   = reward[t] + ... + gamma^(k - 1) * reward[t + k - 1]
        n_step_discount[t] = gamma^k, 0 where the last of these steps terminated

    k is `num_steps`, or less where the episode or the rollout ends before. Both are 0 at steps that are not real.

    Source: Sutton and Barto 2018, equation 7.1.
    """

    num_steps: int = 3
    """Most steps to sum over, at least 1."""
    gamma: float = 0.99
    """Discount per step, 0 to 1."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_count(self, "num_steps")
        require_number(self, "gamma", at_least=0, at_most=1)

    def __call__(self, state: Tree, rollout: Rollout) -> tuple[Tree, Rollout, Mapping[str, float]]:
        """Add the columns."""
        zeros = torch.zeros_like(rollout.reward)

        def windows(reward: Tensor, next_value: Tensor) -> Tensor:
            ends = (rollout.terminated, rollout.truncated, _valid(rollout))
            return sequence_n_step_target(reward, *ends, next_value, n_step=self.num_steps, gamma=self.gamma)[0]

        columns = {
            "n_step_return": windows(rollout.reward, zeros),
            # Without rewards, and with a value of 1 everywhere, the target is the discount of that value.
            "n_step_discount": windows(zeros, torch.ones_like(zeros)),
        }
        return state, replace(rollout, extras={**rollout.extras, **columns}), {}


def _valid(rollout: Rollout) -> Tensor:
    """Return which steps are real, `[T, B]`."""
    return torch.ones_like(rollout.terminated) if rollout.valid is None else rollout.valid
