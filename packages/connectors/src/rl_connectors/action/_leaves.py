"""Shared by the action pieces that work leaf by leaf on nested action spaces."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Tuple
from torch import Tensor

from rl_connectors.obs._leaves import map_space
from rl_core import ActionConnector
from rl_core.env.spaces import Space, describe, leaf_spaces
from rl_core.errors import UnsupportedSpaceError
from rl_core.tree import Tree

BatchFn = Callable[[Tensor], Tensor]
"""From the actions `[B, ...]` of a leaf to others."""


@dataclass(frozen=True)
class LeafAction(ActionConnector):
    """Base of pieces that change some leaves of an action, each by itself, and pass on the others.

    Derive a frozen dataclass, set `takes` and write `convert`.
    """

    takes: ClassVar[str]
    """Which leaves it changes, for messages."""
    change: Callable[[Tree], Tree] | None = field(default=None, init=False, repr=False, compare=False)
    """What makes actions of the space it was bound to."""

    @abstractmethod
    def convert(self, leaf: Space) -> tuple[Space, BatchFn] | None:
        """Return the space a module decides in for a leaf, and what makes the leaf's values; None to pass them on."""

    def bind(self, action_space: Space) -> Self:
        """Return a copy that knows what to do with each leaf."""
        bound = copy.copy(self)
        object.__setattr__(bound, "change", self._change(action_space))
        return bound

    def module_space(self, action_space: Space) -> Space:
        """Declare the space with its leaves changed.

        Raises:
            UnsupportedSpaceError: no leaf is of the kind it changes.
        """
        if not any(self.convert(leaf) for _, leaf in leaf_spaces(action_space)):
            raise UnsupportedSpaceError(
                f"{type(self).__name__} changes {self.takes}, and {describe(action_space)} has none. Leave it out."
            )
        return map_space(lambda leaf: (self.convert(leaf) or (leaf, None))[0], action_space)

    def __call__(self, state: Tree, action: Tree, first: np.ndarray) -> tuple[Tree, Tree]:
        """Change the actions of all slots."""
        assert self.change is not None, "bound to a space by its chain"
        return state, self.change(action)

    def _change(self, space: Space) -> Callable[[Tree], Tree]:
        """Build the function that makes a batch of actions of a space."""
        if isinstance(space, Dict):
            parts = {key: self._change(part) for key, part in space.spaces.items()}
            return lambda action: {key: part(action[key]) for key, part in parts.items()}
        if isinstance(space, Tuple):
            members = [self._change(part) for part in space.spaces]
            return lambda action: tuple([member(part) for member, part in zip(members, action, strict=True)])
        converted = self.convert(space)
        return converted[1] if converted else lambda leaf: leaf


def bounds_of(box: Box) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest numbers of a Box of floats, float64 if it is, else float32."""
    dtype = np.float64 if box.dtype == np.float64 else np.float32
    return torch.from_numpy(box.low.astype(dtype)), torch.from_numpy(box.high.astype(dtype))


def finite_box(leaf: Space, who: str) -> Box | None:
    """Return a leaf if it is a Box of floats, else None.

    Raises:
        UnsupportedSpaceError: its bounds, or how far they are apart, are not finite.
    """
    if not (isinstance(leaf, Box) and leaf.dtype.kind == "f"):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(leaf.high - leaf.low).all()
    if not finite:
        raise UnsupportedSpaceError(
            f"{who} needs finite bounds, and got {describe(leaf)}. Give the env's action space bounds with a gymnasium "
            "wrapper such as RescaleAction, or leave the piece out."
        )
    return leaf
