"""A distribution of two actions in which the second depends on the first."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_core.module.discrete import Categorical
from rl_core.module.distribution_base import Distribution
from rl_core.tree import Tree, tree_map


class Autoregressive(Distribution):
    """A choice of n, and a second action whose distribution is another one for each value of the first.

    The inputs are the n logits of the first and then n blocks of the second's inputs, in the order of the first's
    values: `[..., n + n P2]`. Actions are tuples (first, second), for a Tuple action space. As all n second
    distributions are at hand, mode, entropy and divergence are exact. A module takes it so:
    `self.distribution = Autoregressive(Categorical(3), DiagonalGaussian((2,)))`.
    """

    def __init__(self, first: Categorical, second: Distribution) -> None:
        """Join two distributions.

        Args:
            first: Of the first action.
            second: The family of the second action.
        """
        self.first, self.second = first, second
        self.n = first.num_inputs
        self.num_inputs = self.n + self.n * second.num_inputs
        self.log_std_positions = tuple(
            self.n + block * second.num_inputs + position
            for block in range(self.n)
            for position in second.log_std_positions
        )

    def __repr__(self) -> str:
        return f"Autoregressive({self.first}, {self.second})"

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tree:
        """Draw the noise of both."""
        return self.first.noise(shape, generator), self.second.noise(shape, generator)

    def sample(self, inputs: Tensor, noise: Tree) -> Tree:
        """Return (first, second), the second drawn from the distribution that the first selects."""
        logits, blocks = self._split(inputs)
        first = self.first.sample(logits, noise[0])
        return first, self.second.sample(_pick(blocks, first), noise[1])

    def mode(self, inputs: Tensor) -> Tree:
        """Return the pair (first, mode of the second given the first) with the largest joint density."""
        logits, blocks = self._split(inputs)
        modes = self.second.mode(blocks)  # [..., n, *event]
        first = (logits.log_softmax(-1) + self.second.log_prob(blocks, modes)).argmax(-1)
        return first, tree_map(lambda leaf: _pick(leaf, first), modes)

    def log_prob(self, inputs: Tensor, action: Tree) -> Tensor:
        """Return `log p(first) + log p(second | first)` `[...]`."""
        logits, blocks = self._split(inputs)
        first, second = action
        return self.first.log_prob(logits, first) + self.second.log_prob(_pick(blocks, first), second)

    def entropy(self, inputs: Tensor) -> Tensor:
        """Return `H(first) + sum p(first) H(second | first)` `[...]`."""
        logits, blocks = self._split(inputs)
        return self.first.entropy(logits) + (logits.softmax(-1) * self.second.entropy(blocks)).sum(-1)

    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return `KL(first) + sum p(first) KL(second | first)` `[...]`."""
        logits, blocks = self._split(inputs)
        other_logits, other_blocks = self._split(other_inputs)
        rest = (logits.softmax(-1) * self.second.kl(blocks, other_blocks)).sum(-1)
        return self.first.kl(logits, other_logits) + rest

    def _split(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Cut the inputs into logits `[..., n]` and the second's inputs `[..., n, P2]`."""
        logits, rest = inputs[..., : self.n], inputs[..., self.n :]
        return logits, rest.reshape(*rest.shape[:-1], self.n, self.second.num_inputs)


def _pick(leaf: Tensor, choice: Tensor) -> Tensor:
    """Take from `[..., n, *event]` the entry that `choice` `[...]` names, `[..., *event]`."""
    axis = choice.dim()
    event = leaf.shape[axis + 1 :]
    index = choice.reshape(*choice.shape, 1, *(1 for _ in event)).expand(*choice.shape, 1, *event)
    return leaf.gather(axis, index).squeeze(axis)
