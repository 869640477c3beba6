"""Base classes for preprocessing of your own."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np

from rl_core import ConnectorState, ObsConnector, Step
from rl_core.records import Tree
from rl_core.tree import tree_map, tree_zip


class BatchObsPreprocessor(ObsConnector):
    """A function of the observations of all slots. Derive a frozen dataclass; write `output_space`, `preprocess`.

    Example:
        >>> @dataclass(frozen=True)
        ... class HalveObs(BatchObsPreprocessor):
        ...     def output_space(self, observation_space, action_space):
        ...         return Box(-np.inf, np.inf, observation_space.shape)
        ...     def preprocess(self, obs):
        ...         return obs / 2
    """

    __slots__ = ()
    rebuildable: ClassVar[bool] = True

    @abstractmethod
    def preprocess(self, obs: Tree) -> Tree:
        """Transform observations `[B, ...]`, slot by slot independent of each other."""

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Preprocess the observations."""
        return state, replace(step, obs=self.preprocess(step.obs))


class ObsPreprocessor(ObsConnector):
    """A function of one observation. Derive a frozen dataclass; write `output_space` and `preprocess`.

    It is called slot by slot in Python, which costs time: prefer `BatchObsPreprocessor` where numpy can do it.
    """

    __slots__ = ()
    rebuildable: ClassVar[bool] = True

    @abstractmethod
    def preprocess(self, obs: Tree) -> Tree:
        """Transform one observation, without a batch axis."""

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Preprocess the observations, one after the other."""
        rows = [
            tree_map(np.asarray, self.preprocess(tree_map(lambda leaf, at=slot: leaf[at], step.obs)))
            for slot in range(len(step.first))
        ]
        return state, replace(step, obs=tree_zip(np.stack, rows))
