"""What a connector is: a batch transform `(state, x) -> (state, y)` with declared spaces.

An observation connector maps a `Step` to a `Step` (it may change `obs` and `reward`), an action connector maps the
module's action to the env's. Both are frozen dataclasses: their fields are their settings, so a chain can be stored
and rebuilt. A connector never mutates what it is given and keeps nothing on itself; what it remembers is its state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rl_core.config.codec import Storable
from rl_core.env.spaces import Space
from rl_core.records import Step, Tree
from rl_core.tree import tree_leaves, tree_map


@dataclass(frozen=True, slots=True)
class ConnectorState:
    """What a connector remembers, in two parts that travel differently."""

    shared: Tree = ()
    """Statistics about all data seen: merged over runners, published with the weights, saved, frozen in evaluation."""
    slots: Tree = ()
    """`[B, ...]`: memory of each env slot, such as the last frames: stays with its runner."""


EMPTY_STATE = ConnectorState()
NO_SLOTS = np.zeros(0, np.int64)


def observations_only(obs: Tree, first: np.ndarray) -> Step:
    """Make a step of which only the observations and `first` say something: no reward, nothing ended."""
    nothing = np.zeros(len(first), bool)
    return Step(
        obs=obs,
        reward=np.zeros(len(first), np.float32),
        terminated=nothing,
        truncated=nothing,
        first=first,
        artificial=nothing,
        final_slots=NO_SLOTS,
        final_obs=None,
    )


class ObsConnector(Storable, ABC):
    """An observation or reward connector. Derive a frozen dataclass and write `output_space` and `__call__`.

    Example:
        >>> @dataclass(frozen=True)
        ... class ScaleObs(ObsConnector):
        ...     factor: float = 0.1
        ...     def output_space(self, observation_space, action_space):
        ...         return Box(-np.inf, np.inf, observation_space.shape)
        ...     def __call__(self, state, step):
        ...         return state, replace(step, obs=step.obs * self.factor)
    """

    __slots__ = ()

    rebuildable: ClassVar[bool] = False
    """The learner can work out what it gives from the observations it got, with `rebuild`: behind a piece that makes
    observations larger, rollouts then carry what that piece got."""

    @abstractmethod
    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Declare the space of the observations it gives for those it gets.

        Raises:
            UnsupportedSpaceError: it cannot work on such observations.
        """

    def bind(self, observation_space: Space, action_space: Space) -> ObsConnector:
        """Return a copy that knows its spaces, for a connector that works things out from them once.

        Such things are dataclass fields with `init=False`; only the others are settings and are stored.
        """
        return self

    def initial_state(self, observation_space: Space, action_space: Space, num_slots: int) -> ConnectorState:
        """Make the state before the first step of `num_slots` env slots."""
        return EMPTY_STATE

    def observe(self, state: ConnectorState, step: Step) -> Tree:
        """Take one step of all slots into the shared statistics, and return them anew.

        Sampling for training calls it before `__call__` with the same arguments; evaluation and inference do not.
        """
        return state.shared

    @abstractmethod
    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Transform one step of all slots; where `step.first` is set, the slot's memory starts anew.

        The shared statistics stay as they are. The reward of a transition that ended an episode is taken from a call
        in which `step.obs` is the true last observation.

        Raises:
            BadObservationError: observations of some slots cannot be used.
        """

    def rebuild(self, state: ConnectorState, obs: Tree, first: np.ndarray) -> Tree:
        """Work out in the learner what it gave for a whole rollout; only asked of a `rebuildable` piece.

        The default is right for a piece whose result depends on nothing but the observation itself.

        Args:
            state: What it was after the observation of row 0; its `shared` is `()`.
            obs: `[T + 1, B, ...]`, what it got.
            first: `[T + 1, B]`, bool: an episode begins with the observation.

        Returns:
            `[T + 1, B, ...]`, what it gave.
        """
        rows = tree_map(lambda leaf: leaf.reshape(first.size, *leaf.shape[2:]), obs)
        _, step = self(state, observations_only(rows, first.reshape(-1)))
        return tree_map(lambda leaf: leaf.reshape(*first.shape, *leaf.shape[1:]), step.obs)

    def rebuild_final(self, state: ConnectorState, before: Tree, final: Tree) -> Tree:
        """Work out in the learner what it gave for the true last observations of episodes; see `rebuild`.

        Args:
            state: As for `rebuild`.
            before: `[K, ...]`, what `rebuild` gave for the observation before each of them.
            final: `[K, ...]`, what it got.

        Returns:
            `[K, ...]`, what it gave.
        """
        _, step = self(state, observations_only(final, np.zeros(len(next(iter(tree_leaves(final)))), bool)))
        return step.obs

    def merge(self, shared: Sequence[Tree], base: Tree) -> Tree:
        """Combine the shared statistics of several runners that all started from `base`.

        Raises:
            NotImplementedError: the connector has shared state but does not say how to merge it.
        """
        if all(part == () for part in shared):
            return ()
        raise NotImplementedError(f"{type(self).__name__} has shared state and must define merge().")


class ActionConnector(Storable, ABC):
    """An action connector: from what the module decides to what the env takes.

    Example:
        >>> @dataclass(frozen=True)
        ... class FlipAction(ActionConnector):
        ...     def module_space(self, action_space):
        ...         return action_space
        ...     def __call__(self, state, action, first):
        ...         return state, 1 - action
    """

    __slots__ = ()

    def bind(self, action_space: Space) -> ActionConnector:
        """Return a copy that knows the space behind it; see `ObsConnector.bind`."""
        return self

    @abstractmethod
    def module_space(self, action_space: Space) -> Space:
        """Declare the space the module decides in, given the space that the rest of the chain takes."""

    def initial_state(self, action_space: Space, num_slots: int, seed: int) -> Tree:
        """Make the memory `[B, ...]` of `num_slots` env slots; `action_space` is the one it feeds."""
        return ()

    @abstractmethod
    def __call__(self, state: Tree, action: Tree, first: np.ndarray) -> tuple[Tree, Tree]:
        """Transform the actions `[B, ...]` of all slots.

        Args:
            state: Memory of the slots.
            action: Tensors, or what the piece before gave; the required last piece makes them numpy.
            first: `[B]`, bool: the action is the first of an episode.

        Returns:
            The memory after this step, and the actions.
        """
