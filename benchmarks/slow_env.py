"""An env that takes as long as a simulator; runners in other processes import it from here."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

SECONDS = 1e-3


class SlowEnv(gymnasium.Env[np.ndarray, Any]):
    """Computes for a millisecond per step; 100 steps are an episode."""

    observation_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Compute."""
        end = time.process_time() + SECONDS
        while time.process_time() < end:
            pass
        self.time += 1
        return np.zeros(4, np.float32), 1.0, False, self.time == 100, {}
