"""A choice among some of the env's actions."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from rl_core import ActionConnector
from rl_core.env.spaces import Space, describe
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.tree import Tree


@dataclass(frozen=True)
class SelectActions(ActionConnector):
    """The module chooses among a few actions of a Discrete env, always the same; the others are never taken.

    Where the actions that may be taken change with the observation, that is the module's business, not a connector's:
    its distribution must not give probability to what is masked.

    Example:
        `SelectActions((0, 2, 3))` on Discrete(6): the module decides in Discrete(3), and its action 1 is the env's 2.
    """

    allowed: tuple[int, ...]
    """The env's numbers of the actions that may be taken, at least one, none twice."""
    numbers: Tensor | None = field(default=None, init=False, repr=False, compare=False)
    """`[len(allowed)]`: the same, counted from 0 as in the rest of the chain."""

    def __post_init__(self) -> None:
        """Check the actions.

        Raises:
            ConfigError: they are no tuple of different whole numbers.
        """
        if (
            type(self.allowed) is not tuple
            or {type(action) for action in self.allowed} != {int}
            or len(set(self.allowed)) < len(self.allowed)
        ):
            raise ConfigError(
                f"SelectActions: got allowed={self.allowed!r}, expected a tuple of different whole numbers, such as "
                "(0, 2, 3)."
            )

    def bind(self, action_space: Space) -> SelectActions:
        """Return a copy that knows the numbers of the actions.

        Raises:
            UnsupportedSpaceError: the space is not Discrete, or has no such action.
        """
        if not isinstance(action_space, Discrete):
            raise UnsupportedSpaceError(
                f"SelectActions takes Discrete actions, got {describe(action_space)}. Leave it out."
            )
        start, end = int(action_space.start), int(action_space.start + action_space.n)
        if unknown := [action for action in self.allowed if not start <= action < end]:
            raise UnsupportedSpaceError(
                f"SelectActions: allowed names the action {unknown[0]}, and {describe(action_space)} has {start} to "
                f"{end - 1}."
            )
        bound = copy.copy(self)
        object.__setattr__(bound, "numbers", torch.tensor(self.allowed) - start)
        return bound

    def module_space(self, action_space: Space) -> Space:
        """Declare a choice among the allowed actions."""
        return Discrete(len(self.allowed))

    def __call__(self, state: Tree, action: Tree, first: np.ndarray) -> tuple[Tree, Tree]:
        """Look up the env's actions."""
        assert self.numbers is not None, "bound to a space by its chain"
        return state, self.numbers[action]
