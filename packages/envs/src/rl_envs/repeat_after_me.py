"""An env whose action is to be its observation, for spaces of any structure."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_core.env.spaces import check_supported, space_from_json
from rl_envs._checks import whole_number

Tree = Any
Info = dict[str, Any]


class RepeatAfterMe(gymnasium.Env[Tree, Tree]):
    """Say what you see: the action space is the observation space, whatever its structure.

        reward = -distance(action, observation acted on)

    The distance is summed over all numbers of the space: |a - o| for a Box, 0 or 1 for each number of a Discrete,
    MultiDiscrete or MultiBinary, whose values have no order. The next observation is drawn anew, whatever
    the action.

    Observation and action: `space`. An episode is truncated after `episode_length` steps.

    The best return is 0. For the default space a random policy reaches -3.25 per step: 2/3 for each of the two numbers
    in [-1, 1] and 1 - 1/n for each one of n values; -325 in 100 steps.

    Args:
        space: A space of Box, Discrete, MultiDiscrete and MultiBinary in any nesting of Dict and Tuple, or its
            description by `rl_core.env.spaces.space_to_json`, which a stored config can hold. None: `default_space()`.
        episode_length: Steps per episode.
    """

    def __init__(self, space: spaces.Space[Any] | Mapping[str, Any] | None = None, episode_length: int = 100) -> None:
        if isinstance(space, Mapping) and not isinstance(space, spaces.Space):
            # A config read from a file has tuples where JSON has lists.
            space = space_from_json(json.loads(json.dumps(space)), "RepeatAfterMe: space")
        chosen = default_space() if space is None else space
        check_supported(chosen, "RepeatAfterMe: space")
        self.observation_space = copy.deepcopy(chosen)
        self.action_space = copy.deepcopy(chosen)
        self.episode_length = whole_number("RepeatAfterMe: episode_length", episode_length)
        self.num_steps = 0
        self._source = copy.deepcopy(chosen)  # draws the observations; the user may draw from the other two
        self._said: Tree = None

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Tree, Info]:
        """Draw the first observation."""
        super().reset(seed=seed)
        self._source.seed(int(self.np_random.integers(2**31)))
        self.num_steps = 0
        return self._say(), {}

    def step(self, action: Tree) -> tuple[Tree, float, bool, bool, Info]:
        """Compare the action with the observation, and draw the next one."""
        reward = -distance(self._source, action, self._said)
        self.num_steps += 1
        return self._say(), reward, False, self.num_steps >= self.episode_length, {}

    def _say(self) -> Tree:
        self._said = _plain(self._source.sample())
        return copy.deepcopy(self._said)


def default_space() -> spaces.Dict:
    """Make a space of every kind: `Dict(parts: Tuple(Discrete, Dict(mode: MultiDiscrete)), position: Box)`."""
    mode = spaces.Dict({"mode": spaces.MultiDiscrete([2, 3])})
    parts = spaces.Tuple((spaces.Discrete(4), mode))
    return spaces.Dict({"parts": parts, "position": spaces.Box(-1.0, 1.0, (2,), np.float32)})


def distance(space: spaces.Space[Any], one: Tree, other: Tree) -> float:
    """Return how far two elements of a space are from each other.

    Args:
        space: Of both; what `check_supported` accepts.
        one: An element.
        other: An element.

    Returns:
        Sum of |one - other| over the numbers of a Box, and of 1 for each unequal number of the other spaces.
    """
    if isinstance(space, spaces.Dict):
        return sum(distance(child, one[key], other[key]) for key, child in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        return sum(distance(child, a, b) for child, a, b in zip(space.spaces, one, other, strict=True))
    if isinstance(space, spaces.Box):
        return float(np.abs(np.asarray(one, dtype=np.float64) - other).sum())
    return float(np.count_nonzero(np.asarray(one) != other))


def _plain(sample: Tree) -> Tree:
    """Rebuild gymnasium's sample with plain dicts."""
    if isinstance(sample, dict):
        return {key: _plain(value) for key, value in sample.items()}
    return tuple(map(_plain, sample)) if isinstance(sample, tuple) else sample
