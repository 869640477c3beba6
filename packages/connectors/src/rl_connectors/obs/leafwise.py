"""Base of the pieces that change each leaf of an observation by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from gymnasium.spaces import Dict, Tuple

from rl_connectors.obs._leaves import bound_copy, map_space
from rl_core import ConnectorState, ObsConnector
from rl_core.env.spaces import Space, describe, leaf_spaces
from rl_core.errors import UnsupportedSpaceError
from rl_core.records import Step
from rl_core.tree import Tree

BatchFn = Callable[[np.ndarray], np.ndarray]
"""From a leaf `[B, ...]` to another."""


@dataclass(frozen=True)
class LeafwiseObs(ObsConnector):
    """Changes some leaves of a nested observation and passes on the others.

    Derive a frozen dataclass, set `takes` and write `convert`. The result must depend on nothing but the observation
    and the settings: the learner may compute it again.

    Example:
        >>> @dataclass(frozen=True)
        ... class NegateObs(LeafwiseObs):
        ...     takes: ClassVar[str] = "Box leaves"
        ...     def convert(self, leaf):
        ...         if not isinstance(leaf, Box):
        ...             return None
        ...         return Box(-leaf.high, -leaf.low), lambda batch: -batch
    """

    rebuildable: ClassVar[bool] = True
    takes: ClassVar[str]
    """Which leaves it changes, for messages."""
    change: Callable[[Tree], Tree] | None = field(default=None, init=False, repr=False, compare=False)
    """What changes the observations of the space it was bound to."""

    @abstractmethod
    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Return the new space of a leaf and what makes its values, or None to pass the leaf on."""

    def bind(self, observation_space: Space, action_space: Space) -> Self:
        """Return a copy that knows what to do with each leaf."""
        return bound_copy(self, change=self._change(observation_space))

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the space with its leaves changed.

        Raises:
            UnsupportedSpaceError: no leaf is of the kind it changes.
        """
        if not any(self.convert(leaf) for _, leaf in leaf_spaces(observation_space)):
            raise UnsupportedSpaceError(
                f"{type(self).__name__} got observations of {describe(observation_space)}, expected {self.takes} in "
                "them. Leave it out, or put it where there are such."
            )
        return map_space(lambda leaf: (self.convert(leaf) or (leaf, None))[0], observation_space)

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Change the observations of all slots."""
        assert self.change is not None, "bound to a space by its chain"
        return state, step.with_obs(self.change(step.obs))

    def _change(self, space: Space) -> Callable[[Tree], Tree]:
        """Build the function that changes a batch of a space."""
        if isinstance(space, Dict):
            parts = {key: self._change(part) for key, part in space.spaces.items()}
            return lambda obs: {key: part(obs[key]) for key, part in parts.items()}
        if isinstance(space, Tuple):
            members = [self._change(part) for part in space.spaces]
            return lambda obs: tuple([member(part) for member, part in zip(members, obs, strict=True)])
        converted = self.convert(space)
        return converted[1] if converted else lambda leaf: leaf
