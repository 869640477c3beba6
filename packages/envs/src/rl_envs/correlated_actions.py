"""An env with two actions of which the second should answer the first."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

Array = np.ndarray[Any, Any]
Info = dict[str, Any]


class CorrelatedActionsEnv(gymnasium.Env[Array, Any]):
    """One step, two actions: the first cancels the observation up to 1, the second cancels what the first has made.

        reward = -|1 - (o + a1)| - |o + a1 + a2|

    Observation: `Box(-1, 1, (1,))`, o, uniform. Action: `Tuple(Discrete(3), Box(-2, 2, (1,)))`, a1 in {0, 1, 2} and
    a2. The episode terminates after its only step.

    Mean returns, exactly: the best policy, a1 = round(1 - o) and a2 = -(o + a1), reaches -1/4 (for o alone, 1 - o is
    1/4 away from a whole number on average); a uniformly random one -167/72 = -2.319.

    What a head that does not see a1 can reach depends on how random a1 is. If a1 follows from o, a2 can follow from o
    too, and independent heads reach the same -1/4. As long as a1 is drawn they fall behind by the mean distance of a1
    from its median: for uniform a1 the best a2 that sees it reaches -5/6, the best that does not -5/6 - 2/3 = -3/2.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Tuple((spaces.Discrete(3), spaces.Box(-2.0, 2.0, (1,), np.float32)))
        self.number = 0.0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """Draw the observation."""
        super().reset(seed=seed)
        self.number = float(np.float32(self.np_random.uniform(-1.0, 1.0)))
        return self._obs(), {}

    def step(self, action: tuple[Any, Array]) -> tuple[Array, float, bool, bool, Info]:
        """Judge both actions; ends the episode."""
        total = self.number + int(action[0])
        reward = -abs(1.0 - total) - abs(total + float(action[1][0]))
        return self._obs(), reward, True, False, {}

    def _obs(self) -> Array:
        return np.array([self.number], dtype=np.float32)
