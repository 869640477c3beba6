"""CartPole whose observation is nested, so that something has to flatten it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from rl_envs._checks import whole_number

Obs = dict[str, Any]
Info = dict[str, Any]
_LIMIT = np.array([4.8, np.inf, 24 * np.pi / 180, np.inf], dtype=np.float32)


class DictCartPole(CartPoleEnv):
    """CartPole-v1 observed as a nest of dicts, tuples, boxes and a discrete part.

    Observation: `Dict(cart: Tuple(Box(1) position, Box(1) velocity), pole: Dict(angle: Box(1), velocity: Box(1)),
    side: Discrete(2))`; the side is 1 while the pole leans to the right. Action: `Discrete(2)`. Reward 1 per step.
    Nothing is lost: the task is as hard as CartPole. The best return is `max_steps`, a random policy reaches 22.3.

    Args:
        max_steps: An episode that gets so long is truncated.
        render_mode: `"rgb_array"` or `"human"`; needs `rl-envs[render]`.
    """

    def __init__(self, max_steps: int = 500, render_mode: str | None = None) -> None:
        self.max_steps = whole_number("DictCartPole: max_steps", max_steps)
        super().__init__(render_mode=render_mode)
        position, cart, angle, pole = (spaces.Box(-limit, limit, (1,), np.float32) for limit in _LIMIT)
        self.observation_space = spaces.Dict(  # type: ignore[assignment] # the base class knows only its own
            cart=spaces.Tuple([position, cart]),
            pole=spaces.Dict(angle=angle, velocity=pole),
            side=spaces.Discrete(2),
        )
        self.num_steps = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Obs, Info]:  # type: ignore[override]
        """Start near the upright position; `options` may hold `low` and `high` as in gymnasium."""
        numbers, info = super().reset(seed=seed, options=options)
        self.num_steps = 0
        return _nested(numbers), info

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, Info]:  # type: ignore[override]
        """Push the cart to the left (0) or right (1)."""
        numbers, reward, terminated, _, info = super().step(action)  # type: ignore[no-untyped-call]
        self.num_steps += 1
        return _nested(numbers), reward, terminated, self.num_steps >= self.max_steps, info


def _nested(numbers: np.ndarray[Any, Any]) -> Obs:
    """Sort the four numbers into their places."""
    position, cart, angle, pole = numbers.astype(np.float32).reshape(4, 1)
    return {
        "cart": (position, cart),
        "pole": {"angle": angle, "velocity": pole},
        "side": np.int64(angle[0] > 0),
    }
