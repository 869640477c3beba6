"""Action distributions: which one an action space gets, and the one for nested spaces.

A distribution is described by one vector of P inputs per sample, whatever the space. The families stand in
`discrete.py` and `gaussian.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_core.errors import UnsupportedSpaceError
from rl_core.module.discrete import Bernoulli, Categorical, MultiCategorical
from rl_core.module.distribution_base import Distribution
from rl_core.module.gaussian import LOG_STD_BOUNDS, DiagonalGaussian, SquashedGaussian
from rl_core.tree import Tree, tree_leaves, tree_map

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiagonalGaussian",
    "Distribution",
    "MultiCategorical",
    "Nested",
    "SquashedGaussian",
    "distribution_for",
]

R = TypeVar("R")


class Nested(Distribution):
    """Independent distributions in a tree of dicts and tuples; actions and noise are trees of the same structure.

    The inputs of the parts stand one after the other along the last axis, in the order of the tree.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.parts: tuple[Distribution, ...] = tuple(tree_leaves(tree))
        self._sizes = [part.num_inputs for part in self.parts]
        self.num_inputs = sum(self._sizes)
        starts = np.cumsum([0, *self._sizes]).tolist()
        self.log_std_positions = tuple(
            start + position
            for start, part in zip(starts, self.parts, strict=False)
            for position in part.log_std_positions
        )

    def __repr__(self) -> str:
        return f"Nested({self.tree})"

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tree:
        """Draw the noise of each part, a tree with leading axes `shape`."""
        return tree_map(lambda part: part.noise(shape, generator), self.tree)

    def sample(self, inputs: Tensor, noise: Tree) -> Tree:
        """Return a tree of actions."""
        return tree_map(lambda part, own, own_noise: part.sample(own, own_noise), self.tree, self._split(inputs), noise)

    def mode(self, inputs: Tensor) -> Tree:
        """Return the tree of the parts' modes."""
        return tree_map(lambda part, own: part.mode(own), self.tree, self._split(inputs))

    def log_prob(self, inputs: Tensor, action: Tree) -> Tensor:
        """Return the log probability `[...]`, summed over the parts."""
        return _total(self._each(lambda part, own, leaf: part.log_prob(own, leaf), self._split(inputs), action))

    def entropy(self, inputs: Tensor) -> Tensor:
        """Return the entropy `[...]`, summed over the parts."""
        return _total(self._each(lambda part, own: part.entropy(own), self._split(inputs)))

    def log_prob_and_entropy(self, inputs: Tensor, action: Tree) -> tuple[Tensor, Tensor]:
        """Return both `[...]`, summed over the parts."""
        pairs = self._each(lambda part, own, leaf: part.log_prob_and_entropy(own, leaf), self._split(inputs), action)
        return _total([log_prob for log_prob, _ in pairs]), _total([entropy for _, entropy in pairs])

    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return the divergence `[...]`, summed over the parts."""
        own, other = self._split(inputs), self._split(other_inputs)
        return _total(self._each(lambda part, mine, theirs: part.kl(mine, theirs), own, other))

    def _split(self, inputs: Tensor) -> Tree:
        """Cut `[..., P]` into a tree of the parts' inputs."""
        pieces = iter(torch.split_with_sizes(inputs, self._sizes, -1))
        return tree_map(lambda _: next(pieces), self.tree)

    def _each(self, fn: Callable[..., R], *trees: Tree) -> list[R]:
        """List `fn(part, *leaves)` of all parts."""
        results: list[R] = []
        tree_map(lambda part, *leaves: results.append(fn(part, *leaves)), self.tree, *trees)
        return results


def distribution_for(
    action_space: spaces.Space[Any],
    *,
    squash: bool = False,
    log_std_bounds: tuple[float, float] = LOG_STD_BOUNDS,
) -> Distribution:
    """Choose the distribution of an action space.

    Args:
        action_space: Discrete, MultiDiscrete, MultiBinary, float Box, or Dict and Tuple of those.
        squash: Squash Box actions onto their bounds, which must be finite, instead of leaving them unbounded.
        log_std_bounds: Limits of the log standard deviation of Box actions.

    Raises:
        UnsupportedSpaceError: there is no distribution for the space or for a part of it.
    """
    tree = _tree_for(action_space, squash, log_std_bounds, "action space")
    return tree if isinstance(tree, Distribution) else Nested(tree)


def _tree_for(space: spaces.Space[Any], squash: bool, bounds: tuple[float, float], where: str) -> Tree:
    """Return a distribution, or the tree of distributions of a Dict or Tuple."""
    if isinstance(space, spaces.Dict) and space.spaces:
        return {key: _tree_for(part, squash, bounds, f"{where}[{key!r}]") for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple) and space.spaces:
        return tuple(_tree_for(part, squash, bounds, f"{where}[{i}]") for i, part in enumerate(space.spaces))
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.size:
        return MultiCategorical(space.nvec)
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(space.shape)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        if not squash:
            return DiagonalGaussian(space.shape, log_std_bounds=bounds)
        try:
            return SquashedGaussian(space.low, space.high, log_std_bounds=bounds)
        except ValueError as error:
            raise UnsupportedSpaceError(f"{where}: {error}") from None
    raise UnsupportedSpaceError(
        f"{where}: got {space}, expected Discrete, MultiDiscrete, MultiBinary, a Box of floats, or a non-empty Dict or "
        "Tuple of those. Wrap the env (gymnasium.wrappers.TransformAction) so that it takes one of them, or give your "
        "RLModule a Distribution of its own."
    )


def _total(terms: list[Tensor]) -> Tensor:
    """Add the parts' terms."""
    return sum(terms[1:], start=terms[0])
