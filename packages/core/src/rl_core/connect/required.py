"""The two pieces that stand next to the module in every run: observations to its input, its actions to the env."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from rl_core.connect.protocol import ActionConnector, ConnectorState, ObsConnector
from rl_core.env.spaces import Space, batch_flattener, describe, flat_dim
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.records import Step, Tree


@dataclass(frozen=True)
class FlattenObs(ObsConnector):
    """Any supported observation as one float vector: discrete parts one-hot, boxes flattened, dict and tuple joined.

    With `keys`, each of those parts of a Dict becomes a vector in its place, and the other parts stay as they are.
    """

    rebuildable: ClassVar[bool] = True
    keys: tuple[str, ...] | None = None
    """Top-level keys of the parts to flatten; None makes one vector of everything."""
    flatten: Callable[[Tree], Tree] | None = field(default=None, init=False, repr=False, compare=False)
    """What flattens observations of the space it was bound to."""

    def __post_init__(self) -> None:
        """Check the keys."""
        keys: object = self.keys
        if keys is not None and not (isinstance(keys, tuple) and keys):
            raise ConfigError(f"FlattenObs: got keys={self.keys!r}, expected a tuple of keys, or None for all at once.")

    def bind(self, observation_space: Space, action_space: Space) -> FlattenObs:
        """Return a copy that knows the space to flatten."""
        bound = copy.copy(self)
        object.__setattr__(bound, "flatten", self._flattener(observation_space))
        return bound

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare vectors of as many numbers as the flattened spaces have.

        Raises:
            UnsupportedSpaceError: there are `keys`, and the observation is no Dict or lacks one of them.
        """
        if self.keys is None:
            return _flat_box(observation_space)
        parts = self._parts(observation_space).items()
        return Dict(OrderedDict((key, _flat_box(part) if key in self.keys else part) for key, part in parts))

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Flatten the observations of all slots."""
        assert self.flatten is not None, "FlattenObs is bound to a space by its chain"
        return state, step.with_obs(self.flatten(step.obs))

    def _flattener(self, space: Space) -> Callable[[Tree], Tree]:
        """Build the function that flattens batches of a space."""
        if self.keys is None:
            return batch_flattener(space)
        parts = self._parts(space)
        chosen = {key: batch_flattener(parts[key]) for key in self.keys}
        return lambda obs: {key: chosen[key](part) if key in chosen else part for key, part in obs.items()}

    def _parts(self, space: Space) -> Mapping[str, Space]:
        """Return the parts of a Dict that has all `keys`."""
        given = space.spaces if isinstance(space, Dict) else {}
        missing = [key for key in self.keys or () if key not in given]
        if missing:
            raise UnsupportedSpaceError(
                f"FlattenObs: keys names {missing[0]!r}, and {describe(space)} "
                + (f"has only {list(given)}." if given else "is no Dict. Leave keys out to flatten it.")
            )
        return given


def _flat_box(space: Space) -> Box:
    return Box(-np.inf, np.inf, (flat_dim(space),), np.float32)


@dataclass(frozen=True)
class ActionToEnv(ActionConnector):
    """The module's action tensors as the numpy arrays that the env takes, nested as its action space is."""

    clip: bool = True
    """Clip Box actions to their bounds."""
    rescale: bool = False
    """Take Box actions as lying in [-1, 1] and scale them to their bounds, which must be finite."""
    space: Space | None = field(default=None, init=False, repr=False, compare=False)
    """The env's action space."""
    convert: Callable[[Any], Any] | None = field(default=None, init=False, repr=False, compare=False)
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
