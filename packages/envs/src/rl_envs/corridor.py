"""A corridor to walk down."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_envs._checks import whole_number

Array = np.ndarray[Any, Any]
Info = dict[str, Any]

_TILE = 16
"""Pixels along the side of a place in the picture."""


class SimpleCorridor(gymnasium.Env[Array, Any]):
    """Walk from the left end of a corridor to the goal at its right end.

    Observation: `Box(0, length, (1,))`, the place; the start is 0, the goal `length`. Action: `Discrete(2)`, 0 left
    and 1 right; left of 0 is a wall. Reward: 1 for the step onto the goal, which terminates the episode, and -0.1 for
    every other.

    The best return is 1 - 0.1 (length - 1). A random policy takes length (length + 1) steps on average and so reaches
    1 - 0.1 (length (length + 1) - 1), slightly more where `max_steps` cuts it short. For length 10: 0.1 and -9.9.

    Args:
        length: Steps from the start to the goal.
        max_steps: An episode that gets so long is truncated, as a policy that never turns right would go on for ever.
        render_mode: `"rgb_array"`, or `"ansi"` for a line of text.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, length: int = 10, max_steps: int = 1000, render_mode: str | None = None) -> None:
        self.length = whole_number("SimpleCorridor: length", length)
        self.max_steps = whole_number("SimpleCorridor: max_steps", max_steps)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"SimpleCorridor: render_mode is {render_mode!r}, expected 'ansi', 'rgb_array' or None.")
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0.0, float(self.length), (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.place = 0
        self.num_steps = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Go back to the start."""
        super().reset(seed=seed)
        self.place = self.num_steps = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, Info]:
        """Go left (0) or right (1)."""
        self.place = max(0, self.place + (1 if action == 1 else -1))
        self.num_steps += 1
        arrived = self.place >= self.length
        return self._obs(), 1.0 if arrived else -0.1, arrived, self.num_steps >= self.max_steps, {}

    def render(self) -> Any:
        """Draw the corridor: the agent red, the goal green; None without a render mode."""
        if self.render_mode == "ansi":
            places = ["."] * self.length + ["G"]
            places[self.place] = "A"
            return "".join(places)
        if self.render_mode is None:
            return None
        picture = np.full((_TILE, _TILE * (self.length + 1), 3), 255, dtype=np.uint8)
        for place, colour in ((self.length, (0, 160, 0)), (self.place, (200, 0, 0))):
            picture[2:-2, place * _TILE + 2 : (place + 1) * _TILE - 2] = colour
        return picture

    def _obs(self) -> Array:
        return np.array([self.place], dtype=np.float32)
