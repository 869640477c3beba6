"""Bases for a user's own preprocessing of observations."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rl_core import ConnectorState, ObsConnector
from rl_core.records import Step
from rl_core.tree import Tree, tree_leaves, tree_map, tree_zip


@dataclass(frozen=True)
class BatchObsPreprocessor(ObsConnector):
    """Base of pieces that compute observations from observations, for all slots at once.

    The result must depend on nothing but the observation and the settings: the learner may compute it again.

    Example:
        >>> @dataclass(frozen=True)
        ... class Polar(BatchObsPreprocessor):
        ...     def output_space(self, observation_space, action_space):
        ...         return Box(-np.pi, np.inf, (2,))
        ...     def preprocess(self, obs):
        ...         return np.stack((np.hypot(*obs.T), np.arctan2(*obs.T)), axis=1)
    """

    rebuildable: ClassVar[bool] = True

    @abstractmethod
    def preprocess(self, obs: Tree) -> Tree:
        """Return new observations for those given, both `[B, ...]`; do not change those given in place."""

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Preprocess the observations of all slots."""
        return state, step.with_obs(self.preprocess(step.obs))


@dataclass(frozen=True)
class ObsPreprocessor(ObsConnector):
    """Base of pieces that compute one observation from one observation.

    Easier to write than `BatchObsPreprocessor` and slower: it is called for each slot in each step, which with many
    slots costs more than all the rest of sampling. The result must depend on nothing but the observation and the
    settings: the learner may compute it again.

    Example:
        >>> @dataclass(frozen=True)
        ... class TwoHot(ObsPreprocessor):
        ...     def output_space(self, observation_space, action_space):
        ...         return Box(0.0, 1.0, (10,))
        ...     def preprocess(self, obs):
        ...         vector = np.zeros(10, np.float32)
        ...         vector[[obs["row"], 5 + obs["column"]]] = 1.0
        ...         return vector
    """

    rebuildable: ClassVar[bool] = True

    @abstractmethod
    def preprocess(self, obs: Tree) -> Tree:
        """Return a new observation for the one given, without the axis of the slots."""

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Preprocess the observations one after the other."""
        num_slots = len(next(iter(tree_leaves(step.obs))))
        rows = [tree_map(lambda leaf, at=slot: leaf[at], step.obs) for slot in range(num_slots)]
        return state, step.with_obs(tree_zip(np.stack, [self.preprocess(row) for row in rows]))
