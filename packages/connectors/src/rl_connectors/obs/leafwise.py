"""Base of the connectors that change each part of an observation on its own."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from rl_connectors.obs._leaves import bound_copy, map_space, map_with_space
from rl_core import ConnectorState, ObsConnector, Step
from rl_core.env.spaces import Space, describe, leaf_spaces
from rl_core.errors import UnsupportedSpaceError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LeafwiseObs(ObsConnector):
    """Changes those parts of a nested observation that `takes` accepts; the others stay. Derive a frozen dataclass.

    Example:
        >>> @dataclass(frozen=True)
        ... class NegateObs(LeafwiseObs):
        ...     wants: ClassVar[str] = "a Box"
        ...     def takes(self, space):
        ...         return isinstance(space, Box)
        ...     def leaf_space(self, space):
        ...         return Box(-space.high, -space.low)
        ...     def leaf(self, values, space):
        ...         return -values
    """

    rebuildable: ClassVar[bool] = True
    wants: ClassVar[str]
    """What it takes, in words."""
    space: Space | None = field(default=None, init=False, repr=False, compare=False)
    """The space it was bound to."""

    @abstractmethod
    def takes(self, space: Space) -> bool:
        """Whether it changes this part."""

    @abstractmethod
    def leaf_space(self, space: Any) -> Space:
        """The space of a part after the change."""

    @abstractmethod
    def leaf(self, values: Array, space: Any) -> Array:
        """Change a part `[B, ...]` of a space."""

    def bind(self, observation_space: Space, action_space: Space) -> LeafwiseObs:
        """Remember the space."""
        return bound_copy(self, space=observation_space)

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """The space with the parts changed.

        Raises:
            UnsupportedSpaceError: there is nothing to change.
        """
        if not any(self.takes(leaf) for _, leaf in leaf_spaces(observation_space)):
            raise UnsupportedSpaceError(
                f"{type(self).__name__} got observations of {describe(observation_space)}, expected {self.wants} in "
                "them. Leave it out, or put it where there is one."
            )
        return map_space(lambda leaf: self.leaf_space(leaf) if self.takes(leaf) else leaf, observation_space)

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Change the parts of all slots."""
        assert self.space is not None, "bound by its chain"
        return state, replace(step, obs=map_with_space(self._changed, self.space, step.obs))

    def _changed(self, space: Space, values: Array) -> Array:
        return self.leaf(values, space) if self.takes(space) else values
