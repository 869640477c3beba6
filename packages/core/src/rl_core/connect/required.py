"""The two pieces that stand next to the module in every run: observations to its input, its actions to the env."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from rl_core.connect.protocol import ActionConnector, ConnectorState, ObsConnector
from rl_core.env.spaces import Space, flat_dim, flatten_batch
from rl_core.records import Step, Tree


@dataclass(frozen=True)
class FlattenObs(ObsConnector):
    """Any supported observation as one float vector: discrete parts one-hot, boxes flattened, dict and tuple joined."""

    rebuildable: ClassVar[bool] = True
    space: Space | None = field(default=None, init=False, repr=False)
    """The space it was bound to."""

    def bind(self, observation_space: Space, action_space: Space) -> FlattenObs:
        """Return a copy that knows the space to flatten."""
        bound = copy.copy(self)
        object.__setattr__(bound, "space", observation_space)
        return bound

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """A vector of as many numbers as the flattened space has."""
        return Box(-np.inf, np.inf, (flat_dim(observation_space),), np.float32)

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Flatten the observations of all slots."""
        assert self.space is not None, "FlattenObs is bound to a space by its chain"
        return state, replace(step, obs=flatten_batch(self.space, step.obs, 1))


@dataclass(frozen=True)
class ActionToEnv(ActionConnector):
    """The module's action tensors as the numpy arrays that the env takes, nested as its action space is."""

    clip: bool = True
    """Clip Box actions to their bounds."""
    rescale: bool = False
    """Take Box actions as lying in [-1, 1] and scale them to their bounds, which must be finite."""
    space: Space | None = field(default=None, init=False, repr=False)
    """The env's action space."""
    convert: Callable[[Any], Any] | None = field(default=None, init=False, repr=False)
    """What turns an action of that space into the env's."""

    def bind(self, action_space: Space) -> ActionToEnv:
        """Return a copy that knows the env's action space."""
        bound = copy.copy(self)
        object.__setattr__(bound, "space", action_space)
        object.__setattr__(bound, "convert", _converter(action_space, self.clip, self.rescale))
        return bound

    def module_space(self, action_space: Space) -> Space:
        """The same space: the module's distribution knows how far its actions reach."""
        return action_space

    def __call__(self, state: Tree, action: Tree, first: np.ndarray) -> tuple[Tree, Tree]:
        """Convert the actions of all slots."""
        assert self.convert is not None, "ActionToEnv is bound to a space by its chain"
        return state, self.convert(action)


def _converter(space: Space, clip: bool, rescale: bool) -> Callable[[Any], Any]:
    """Build the function that turns a batch of module actions into a batch of env actions."""
    if isinstance(space, Dict):
        parts = {key: _converter(part, clip, rescale) for key, part in space.spaces.items()}
        return lambda action: {key: part(action[key]) for key, part in parts.items()}
    if isinstance(space, Tuple):
        members = [_converter(part, clip, rescale) for part in space.spaces]
        return lambda action: tuple(member(part) for member, part in zip(members, action, strict=True))
    if isinstance(space, Box):
        return _box_converter(space, clip, rescale)
    start = getattr(space, "start", 0) if isinstance(space, Discrete | MultiDiscrete) else 0
    if np.any(start):
        return lambda action: action.numpy() + start
    if isinstance(space, MultiBinary):
        return lambda action: action.numpy().astype(np.int8)
    return lambda action: action.numpy()


def _box_converter(space: Box, clip: bool, rescale: bool) -> Callable[[Any], Any]:
    """Scale and clip to the bounds of a Box."""
    low, high = space.low, space.high
    if rescale:
        if not space.is_bounded():
            raise ValueError(f"normalize_actions needs finite bounds, got {space}. Set it to False.")
        centre, half = (high.astype(np.float64) + low) / 2, (high.astype(np.float64) - low) / 2
        # The last clip takes off what rounding puts beyond a bound.
        return lambda action: np.clip(np.clip(action.numpy(), -1.0, 1.0) * half + centre, low, high).astype(space.dtype)
    if clip and np.issubdtype(space.dtype, np.integer):  # a cast of what lies outside would wrap around
        return lambda action: np.clip(action.numpy(), low, high).astype(space.dtype)
    if clip:
        return lambda action: np.clip(action.numpy().astype(space.dtype, copy=False), low, high)
    return lambda action: action.numpy().astype(space.dtype, copy=False)
