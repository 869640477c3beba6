"""What a connector is: a batch transform `(state, x) -> (state, y)` with declared spaces.

An observation connector maps a `Step` to a `Step` (it may change `obs` and `reward`), an action connector maps the
module's action to the env's. Both are frozen dataclasses: their fields are their settings, so a chain can be stored
and rebuilt. A connector never mutates what it is given and keeps nothing on itself; what it remembers is its state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from rl_core.config.codec import Storable
from rl_core.env.spaces import Space
from rl_core.records import Step, Tree


@dataclass(frozen=True, slots=True)
class ConnectorState:
    """What a connector remembers, in two parts that travel differently."""

    shared: Tree = ()
    """Statistics about all data seen: merged over runners, published with the weights, saved, frozen in evaluation."""
    slots: Tree = ()
    """`[B, ...]`: memory of each env slot, such as the last frames: stays with its runner."""


EMPTY_STATE = ConnectorState()


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

    @abstractmethod
    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Transform one step of all slots; where `step.first` is set, the slot's memory starts anew."""

    def merge(self, shared: Sequence[Tree], base: Tree) -> Tree:
        """Combine the shared statistics of several runners that all started from `base`.

        Raises:
            NotImplementedError: the connector has shared state but does not say how to merge it.
        """
        if all(part == () for part in shared):
            return ()
        raise NotImplementedError(f"{type(self).__name__} has shared state and must define merge().")


class ActionConnector(Storable, ABC):
    """An action connector: from what the module decides to what the env takes."""

    __slots__ = ()

    def bind(self, action_space: Space) -> ActionConnector:
        """Return a copy that knows the space behind it; see `ObsConnector.bind`."""
        return self

    @abstractmethod
    def module_space(self, action_space: Space) -> Space:
        """Declare the space the module decides in, given the space that the rest of the chain takes."""

    @abstractmethod
    def __call__(self, action: Tree) -> Tree:
        """Transform the actions `[B, ...]` of all slots: tensors; the required last piece makes them numpy."""
