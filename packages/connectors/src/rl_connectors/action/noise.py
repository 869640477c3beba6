"""Noise on continuous actions."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Tuple
from torch import Tensor

from rl_connectors.action._random import initial_keys, normals
from rl_connectors.learner._settings import require_number
from rl_core import ActionConnector
from rl_core.env.spaces import Space, describe
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.tree import Tree, tree_map


@dataclass(frozen=True)
class ActionNoise(ActionConnector):
    """Adds noise to the numbers of Box actions; other leaves stay as they are.

        gaussian:            noise = std n                                              n ~ N(0, 1), for each number
        ornstein_uhlenbeck:  noise = noise - theta dt noise + std sqrt(dt) n,  from 0 at an episode's first step on

    It belongs to the env, as an inaccurate motor does: it acts in evaluation and inference, too, and rollouts hold
    what the module decided. For exploration use the algorithm's own noise. The noise may carry actions beyond their
    bounds; the env's clipping at the end of the chain takes that back.

    Source: Uhlenbeck & Ornstein 1930, "On the Theory of the Brownian Motion", as discretised by Lillicrap et al. 2015,
    "Continuous control with deep reinforcement learning", section 3.
    """

    std: float
    """Of the normal numbers, in the units of the actions, at least 0."""
    kind: Literal["gaussian", "ornstein_uhlenbeck"] = "gaussian"
    """Independent noise in each step, or noise that drifts."""
    theta: float = 0.15
    """How fast drifting noise returns to 0, per unit of time, above 0."""
    dt: float = 1.0
    """Units of time per step, above 0; theta * dt must be below 2, or the noise grows without end."""
    num_numbers: int = field(default=0, init=False, repr=False, compare=False)
    """D, numbers of all Box leaves of the space it was bound to."""
    places: Tree = field(default=None, init=False, repr=False, compare=False)
    """In the structure of the action: where a Box leaf's numbers begin in the noise `[B, D]`; -1 for other leaves."""

    def __post_init__(self) -> None:
        """Check the settings."""
        require_number(self, "std", at_least=0)
        require_number(self, "theta", above=0)
        require_number(self, "dt", above=0)
        if self.kind not in ("gaussian", "ornstein_uhlenbeck"):
            raise ConfigError(f"ActionNoise: got kind={self.kind!r}, expected 'gaussian' or 'ornstein_uhlenbeck'.")
        if self.theta * self.dt >= 2:
            raise ConfigError(
                f"ActionNoise: got theta={self.theta!r} and dt={self.dt!r}, expected a product below 2. Noise would "
                "grow without end. Make dt smaller."
            )

    def bind(self, action_space: Space) -> ActionNoise:
        """Return a copy that knows where the numbers are.

        Raises:
            UnsupportedSpaceError: there is no Box of floats.
        """
        starts = [0]
        bound = copy.copy(self)
        object.__setattr__(bound, "places", _places(action_space, starts))
        object.__setattr__(bound, "num_numbers", starts[-1])
        if not starts[-1]:
            raise UnsupportedSpaceError(
                f"ActionNoise changes Box leaves of floats, and {describe(action_space)} has none. Leave it out."
            )
        return bound

    def module_space(self, action_space: Space) -> Space:
        """Declare the same space."""
        return action_space

    def initial_state(self, action_space: Space, num_slots: int, seed: int) -> Tree:
        """Make the keys of the random numbers, `[B]`, and where noise drifts also the noise, `[B, D]`."""
        keys = initial_keys(seed, num_slots)
        if self.kind == "gaussian":
            return {"key": keys}
        return {"key": keys, "noise": np.zeros((num_slots, self.num_numbers))}

    def __call__(self, state: Tree, action: Tree, first: np.ndarray) -> tuple[Tree, Tree]:
        """Add noise to the actions of all slots."""
        key, normal = normals(state["key"], self.num_numbers)
        after = {"key": key}
        if self.kind == "gaussian":
            noise = normal * self.std
        else:
            before = state["noise"] * ~first[:, np.newaxis]
            noise = after["noise"] = before * (1 - self.theta * self.dt) + normal * (self.std * math.sqrt(self.dt))
        added = torch.from_numpy(noise)

        def add(place: int, leaf: Tensor) -> Tensor:
            if place < 0:
                return leaf
            size = leaf[0].numel()
            return leaf + added[:, place : place + size].reshape(leaf.shape).to(leaf.dtype)

        return after, tree_map(add, self.places, action)


def _places(space: Space, starts: list[int]) -> Tree:
    """Say where each leaf's numbers begin, and append where they end."""
    if isinstance(space, Dict):
        return {key: _places(part, starts) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(_places(part, starts) for part in space.spaces)
    if not (isinstance(space, Box) and space.dtype.kind == "f"):
        return -1
    starts.append(starts[-1] + math.prod(space.shape))
    return starts[-2]
