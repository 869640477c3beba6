"""gymnasium's CartPole seen in other ways, each as a single env and as one that steps all slots at once in numpy.

Letters of the axes: B env slot, D feature.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.vector.utils import batch_space

from rl_envs._checks import whole_number

Array = np.ndarray[Any, Any]
Info = dict[str, Any]

HEAVY_WIDTH = 1024
_HEAVY_SEED = 20_240_601  # any constant does; another one is another env
_ANGLE_LIMIT = 24 * np.pi / 180
_LIMIT: Array = np.array([4.8, np.inf, _ANGLE_LIMIT, np.inf], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class View:
    """What is observed of CartPole's four numbers: cart position, cart velocity, pole angle, angular velocity."""

    limit: Array
    """`[D]`, float32: observations lie in [-limit, limit]."""
    look: Callable[[Array], Array]
    """From `[..., 4]` to `[..., D]`, float32, in memory of its own."""

    def space(self) -> spaces.Box:
        """Make the space of one observation."""
        return spaces.Box(-self.limit, self.limit, dtype=np.float32)


@functools.cache
def heavy_projection() -> Array:
    """The fixed projection `[4, 1024]` of `HeavyCartPole`, float32.

    Independent draws of a normal distribution with variance 1/4: the rows are nearly orthogonal, and the mean square
    of the 1024 features is about that of the four numbers.
    """
    random = np.random.default_rng(_HEAVY_SEED)
    return (0.5 * random.standard_normal((4, HEAVY_WIDTH))).astype(np.float32)


ALL = View(_LIMIT, lambda state: state)
POSITIONS = View(_LIMIT[[0, 2]], lambda state: state[..., [0, 2]])
PROJECTED = View(np.full(HEAVY_WIDTH, np.inf, dtype=np.float32), lambda state: state @ heavy_projection())


class ViewedCartPole(CartPoleEnv):
    """CartPole-v1 with an episode limit of its own and a view; the base of the classes below.

    Args:
        max_steps: An episode that gets so long is truncated.
        render_mode: `"rgb_array"` or `"human"`; needs `rl-envs[render]`.
    """

    view: ClassVar[View] = ALL

    def __init__(self, max_steps: int = 500, render_mode: str | None = None) -> None:
        self.max_steps = whole_number(f"{type(self).__name__}: max_steps", max_steps)
        super().__init__(render_mode=render_mode)
        self.observation_space = self.view.space()
        self.num_steps = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Start near the upright position; `options` may hold `low` and `high` as in gymnasium."""
        state, info = super().reset(seed=seed, options=options)
        self.num_steps = 0
        return self.view.look(state), info

    def step(self, action: Any) -> tuple[Array, float, bool, bool, Info]:
        """Push the cart to the left (0) or right (1)."""
        state, reward, terminated, _, info = super().step(action)  # type: ignore[no-untyped-call]
        self.num_steps += 1
        return self.view.look(state), reward, terminated, self.num_steps >= self.max_steps, info


class ViewedCartPoleVector(CartPoleVectorEnv):
    """`ViewedCartPole` in B slots that one numpy call steps; gymnasium's autoreset mode NEXT_STEP.

    Args:
        num_envs: B.
        max_steps: An episode that gets so long is truncated.
        render_mode: `"rgb_array"`; needs `rl-envs[render]`.
    """

    view: ClassVar[View] = ALL

    def __init__(self, num_envs: int = 1, max_steps: int = 500, render_mode: str | None = None) -> None:
        self.screens = None  # gymnasium's `close` asks for it, also when the settings are refused here
        name = type(self).__name__
        whole_number(f"{name}: num_envs", num_envs)
        limit = whole_number(f"{name}: max_steps", max_steps)
        super().__init__(num_envs=num_envs, max_episode_steps=limit, render_mode=render_mode)
        self.single_observation_space = self.view.space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Start every slot near the upright position; one generator serves all slots."""
        state, info = super().reset(seed=seed, options=options)
        return self.view.look(state), info

    def step(self, action: Array) -> tuple[Array, Array, Array, Array, Info]:
        """Push the carts to the left (0) or right (1); a slot that ended before starts anew instead."""
        state, reward, terminated, truncated, info = super().step(action)
        return self.view.look(state), reward, terminated, truncated, info


class StatelessCartPole(ViewedCartPole):
    """CartPole without the two velocities: one observation does not tell where the pole is going.

    Observation: `Box(2)`, cart position and pole angle. Action: `Discrete(2)`. Reward 1 per step.

    The best return is `max_steps`, and memory is needed for it: the difference of two successive observations tells
    the velocity, and two weights for each number then balance the pole for 500 steps. Of the policies that see only
    the present observation, the best that is logistic in it reaches about 49. A random policy reaches 22.3.

    Args:
        max_steps: An episode that gets so long is truncated.
        render_mode: `"rgb_array"` or `"human"`; needs `rl-envs[render]`.
    """

    view = POSITIONS


class StatelessCartPoleVector(ViewedCartPoleVector):
    """`StatelessCartPole` in slots that step at once."""

    view = POSITIONS


class HeavyCartPole(ViewedCartPole):
    """CartPole with its four numbers spread over 1024 features, so that a network has something to multiply.

        observation = state @ heavy_projection()

    Observation: `Box(1024)`, unbounded. Action: `Discrete(2)`. Reward 1 per step. Nothing is lost: the task is as
    hard as CartPole. The best return is `max_steps`, a random policy reaches 22.3.

    Args:
        max_steps: An episode that gets so long is truncated.
        render_mode: `"rgb_array"` or `"human"`; needs `rl-envs[render]`.
    """

    view = PROJECTED


class HeavyCartPoleVector(ViewedCartPoleVector):
    """`HeavyCartPole` in slots that step at once."""

    view = PROJECTED


class TruncatedCartPole(ViewedCartPole):
    """CartPole with short episodes: train with `max_steps=50`, evaluate with 500.

    An agent that takes the cut for an end of the world, and does not value the state after it, is in for less.

    Observation: `Box(4)` as in CartPole-v1. Action: `Discrete(2)`. Reward 1 per step. The best return is `max_steps`;
    a random policy reaches 21.8 of 50.

    Args:
        max_steps: An episode that gets so long is truncated.
        render_mode: `"rgb_array"` or `"human"`; needs `rl-envs[render]`.
    """

    def __init__(self, max_steps: int = 50, render_mode: str | None = None) -> None:
        super().__init__(max_steps, render_mode)


class TruncatedCartPoleVector(ViewedCartPoleVector):
    """`TruncatedCartPole` in slots that step at once."""

    def __init__(self, num_envs: int = 1, max_steps: int = 50, render_mode: str | None = None) -> None:
        super().__init__(num_envs, max_steps, render_mode)
