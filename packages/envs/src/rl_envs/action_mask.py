"""An env in which every observation says which actions are allowed."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_envs._checks import finite_number, share, whole_number

Array = np.ndarray[Any, Any]
Obs = dict[str, Array]
Info = dict[str, Any]


class ActionMaskEnv(gymnasium.Env[Any, Any]):
    """Point at a place on a line with numbered actions, of which some are forbidden at each step.

        reward = 1 - |action / (num_actions - 1) - (x + 1) / 2|

    Observation: `Dict(action_mask: MultiBinary(num_actions), observations: Box(-1, 1, (1,)))`: which actions are
    allowed (1) in this step, and x. Both are drawn anew at each step, whatever the action; at least one action is
    allowed. Action: `Discrete(num_actions)`. An episode is truncated after `episode_length` steps.

    For the default settings the best return, always the nearest allowed action, is 99.24 in 100 steps; a policy
    that chooses among the allowed actions at random reaches 100 (1 - 199/594) = 66.5.

    A check that tries random actions stumbles over the default settings, as it should: build algorithms with
    `disable_env_checking=True`, or let forbidden actions pass with `forbidden_reward`.

    Args:
        num_actions: At least 2.
        allowed_share: Each action is allowed with this probability, in [0, 1].
        episode_length: Steps per episode.
        forbidden_reward: None: a forbidden action raises ValueError. A number: it brings this reward instead.
    """

    def __init__(
        self,
        num_actions: int = 100,
        allowed_share: float = 0.5,
        episode_length: int = 100,
        forbidden_reward: float | None = None,
    ) -> None:
        self.num_actions = whole_number("ActionMaskEnv: num_actions", num_actions, at_least=2)
        self.allowed_share = share("ActionMaskEnv: allowed_share", allowed_share)
        self.episode_length = whole_number("ActionMaskEnv: episode_length", episode_length)
        self.forbidden_reward = (
            None if forbidden_reward is None else finite_number("ActionMaskEnv: forbidden_reward", forbidden_reward)
        )
        mask, box = spaces.MultiBinary(self.num_actions), spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = spaces.Dict({"action_mask": mask, "observations": box})
        self.action_space = spaces.Discrete(self.num_actions)
        self.num_steps = 0
        self.mask: Array = np.ones(self.num_actions, dtype=np.int8)
        self.place: Array = np.zeros(1, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Obs, Info]:
        """Draw the first place and mask."""
        super().reset(seed=seed)
        self.num_steps = 0
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, Info]:
        """Judge the action, and draw the next place and mask.

        Raises:
            ValueError: If the action is forbidden and there is no `forbidden_reward`.
        """
        number = int(action)
        if self.mask[number]:
            reward = 1.0 - abs(number / (self.num_actions - 1) - (float(self.place[0]) + 1.0) / 2.0)
        elif self.forbidden_reward is None:
            raise ValueError(
                f"ActionMaskEnv: action {number} is forbidden in this step; {int(self.mask.sum())} of "
                f"{self.num_actions} actions are allowed, those where the observation's 'action_mask' is 1. The policy "
                "has to heed the mask, or the env be made with forbidden_reward=<number>."
            )
        else:
            reward = self.forbidden_reward
        self.num_steps += 1
        return self._draw(), reward, False, self.num_steps >= self.episode_length, {}

    def _draw(self) -> Obs:
        self.place = self.np_random.uniform(-1.0, 1.0, 1).astype(np.float32)
        self.mask = (self.np_random.random(self.num_actions) < self.allowed_share).astype(np.int8)
        if not self.mask.any():
            self.mask[self.np_random.integers(self.num_actions)] = 1
        return {"action_mask": self.mask.copy(), "observations": self.place.copy()}
