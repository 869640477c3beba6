"""Tiny deterministic environments whose every observation and return is known in advance, and some that misbehave."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

Info = dict[str, Any]


class CountdownEnv(gymnasium.Env[np.ndarray[Any, Any], Any]):
    """Episodes of fixed length with reward 1 per step; the observation `[1]` is the share of steps that is left.

    Args:
        length: Steps per episode, which is also the return.
        end: How an episode ends.
    """

    def __init__(self, length: int = 5, end: Literal["terminated", "truncated"] = "terminated") -> None:
        self.length = length
        self.end = end
        self.left = length
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray[Any, Any], Info]:
        """Start with all steps left."""
        super().reset(seed=seed)
        self.left = self.length
        return self._obs(), {}

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, Info]:
        """Take one step off."""
        self.left -= 1
        done = self.left == 0
        return self._obs(), 1.0, done and self.end == "terminated", done and self.end == "truncated", {}

    def _obs(self) -> np.ndarray[Any, Any]:
        return np.array([self.left / self.length], dtype=np.float32)


class ObservationIsTimeEnv(gymnasium.Env[np.ndarray[Any, Any], Any]):
    """The observation `[2]` is (steps in this episode, episodes begun), the reward the number of the step.

    Episode k is `length + k % spread` steps long, so that slots soon end at different times, and every third is
    truncated while the others terminate.
    """

    def __init__(self, length: int = 3, spread: int = 3, offset: int = 0) -> None:
        self.length = length
        self.spread = spread
        self.time = 0
        self.episode = offset
        self.observation_space = spaces.Box(0.0, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray[Any, Any], Info]:
        """Start the next episode; a seed sets its number, so that slots differ."""
        super().reset(seed=seed)
        self.time = 0
        self.episode = seed if seed is not None else self.episode + 1
        return self._obs(), {"episode": self.episode}

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, Info]:
        """Go on by one."""
        self.time += 1
        done = self.time >= self.length + self.episode % self.spread
        cut = self.episode % 3 == 0
        return self._obs(), float(self.time), done and not cut, done and cut, {"time": self.time}

    def _obs(self) -> np.ndarray[Any, Any]:
        return np.array([self.time, self.episode], dtype=np.float32)


class BufferEnv(ObservationIsTimeEnv):
    """Returns the same array each time and overwrites it, as careless envs do."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.buffer = np.zeros(2, dtype=np.float32)

    def _obs(self) -> np.ndarray[Any, Any]:
        self.buffer[:] = self.time, self.episode
        return self.buffer


class NestedEnv(gymnasium.Env[dict[str, Any], Any]):
    """Dict and Tuple spaces with every kind of leaf, as observation and as action; the reward is 1.

    All leaves of the observation follow from the step count, so they can be recomputed: see `observation_at`.
    """

    def __init__(self, length: int = 4) -> None:
        self.length = length
        self.time = 0
        self.observation_space = spaces.Dict(
            [  # pairs keep an order that is not alphabetical
                ("position", spaces.Box(-1.0, 1.0, (2,), np.float32)),
                ("mode", spaces.Discrete(3, start=1)),
                ("parts", spaces.Tuple([spaces.MultiDiscrete([2, 5]), spaces.MultiBinary(3)])),
                ("deep", spaces.Dict([("image", spaces.Box(0, 255, (2, 2, 1), np.uint8))])),
            ]
        )
        self.action_space = spaces.Dict(
            [
                ("move", spaces.Box(-2.0, 2.0, (2,), np.float32)),
                ("keys", spaces.Tuple([spaces.Discrete(4, start=-1), spaces.MultiDiscrete([3, 2])])),
                ("flags", spaces.MultiBinary(2)),
            ]
        )

    @staticmethod
    def observation_at(time: int) -> dict[str, Any]:
        """Return the observation after `time` steps of an episode."""
        return {
            "position": np.array([np.sin(time), np.cos(time)], dtype=np.float32),
            "mode": np.int64(1 + time % 3),
            "parts": (np.array([time % 2, time % 5]), np.array([time % 2, 1, 0], dtype=np.int8)),
            "deep": {"image": np.full((2, 2, 1), time % 256, dtype=np.uint8)},
        }

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[dict[str, Any], Info]:
        """Start at time 0."""
        super().reset(seed=seed)
        self.time = 0
        return self.observation_at(0), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, Info]:
        """Go on by one; an action outside the space is refused."""
        if not self.action_space.contains(action):
            raise ValueError(f"the action {action} is not in {self.action_space}")
        self.time += 1
        return self.observation_at(self.time), 1.0, self.time >= self.length, False, {}


class ImageEnv(gymnasium.Env[np.ndarray[Any, Any], Any]):
    """12 x 12 x 3 uint8 images with one bright column; reward 1 for the action that names its third of the image."""

    def __init__(self, length: int = 8) -> None:
        self.length = length
        self.time = 0
        self.column = 0
        self.observation_space = spaces.Box(0, 255, (12, 12, 3), np.uint8)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray[Any, Any], Info]:
        """Draw a column."""
        super().reset(seed=seed)
        self.time = 0
        return self._draw(), {}

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, Info]:
        """Judge the action and draw the next column."""
        reward = float(int(action) == self.column // 4)
        self.time += 1
        return self._draw(), reward, False, self.time >= self.length, {}

    def _draw(self) -> np.ndarray[Any, Any]:
        self.column = int(self.np_random.integers(12))
        image = np.zeros((12, 12, 3), dtype=np.uint8)
        image[:, self.column] = 255
        return image


class NanRewardEnv(CountdownEnv):
    """The reward of step 3 is NaN."""

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, Info]:
        """Step; the third reward is not a number."""
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, float("nan") if self.left == self.length - 3 else reward, terminated, truncated, info


class LeavingSpaceEnv(CountdownEnv):
    """The observation of step 3 is 2, outside its space [0, 1]."""

    def _obs(self) -> np.ndarray[Any, Any]:
        return np.array([2.0], dtype=np.float32) if self.left == self.length - 3 else super()._obs()


class RaisingEnv(CountdownEnv):
    """Step 3 raises a RuntimeError."""

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, Info]:
        """Step; the third time fails."""
        if self.left == self.length - 2:
            raise RuntimeError("the simulator crashed")
        return super().step(action)
