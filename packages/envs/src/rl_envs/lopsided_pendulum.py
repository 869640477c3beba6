"""Pendulum whose observations are far from zero, so that something has to normalise them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from rl_envs._checks import whole_number

Array = np.ndarray[Any, Any]
Info = dict[str, Any]

LOW, HIGH = -4000.0, -1456.0
"""Bounds of each number of an observation."""
_REACH = np.array([1.0, 1.0, 8.0])


class LopsidedPendulum(PendulumEnv):
    """Pendulum-v1 with each of its three numbers stretched and moved to [-4000, -1456].

        observation = centre + half_width * numbers / reach

    Observation: `Box(3)`. Action: `Box(1)`, torque. Nothing is lost, but a network that takes the numbers as they are
    has a hard time. Returns are those of Pendulum-v1: about -150 for the best, -1,200 for a random policy.

    Args:
        max_steps: An episode is truncated after so many.
        render_mode: `"rgb_array"` or `"human"`; needs `rl-envs[render]`.
    """

    def __init__(self, max_steps: int = 200, render_mode: str | None = None) -> None:
        self.max_steps = whole_number("LopsidedPendulum: max_steps", max_steps)
        super().__init__(render_mode=render_mode)
        self.observation_space = spaces.Box(LOW, HIGH, (3,), np.float32)
        self.num_steps = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Start at a random angle; `options` may hold `x_init` and `y_init` as in gymnasium."""
        numbers, info = super().reset(seed=seed, options=options)
        self.num_steps = 0
        return _moved(numbers), info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, Info]:
        """Apply a torque."""
        numbers, reward, terminated, _, info = super().step(action)  # type: ignore[no-untyped-call]
        self.num_steps += 1
        return _moved(numbers), float(reward), terminated, self.num_steps >= self.max_steps, info


def _moved(numbers: Array) -> Array:
    """Stretch and move the pendulum's numbers."""
    moved: Array = (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * np.clip(numbers / _REACH, -1, 1)
    return moved.astype(np.float32)
