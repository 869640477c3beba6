"""What every action distribution can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rl_core.tree import Tree, tree_map


class Scores(NamedTuple):
    """What a policy-gradient loss needs of a distribution, without a graph."""

    log_prob: Tensor
    """`[...]`, of the actions."""
    entropy: Tensor
    """`[...]`"""
    score: Tensor
    """`[..., P]`: derivative of each log probability with respect to its inputs."""
    entropy_slope: Callable[[], Tensor]
    """Computes `[..., P]`: derivative of each entropy with respect to its inputs."""


class Distribution(ABC):
    """A family of action distributions; the parameters of one member arrive as `inputs` with every call.

    It holds sizes and bounds but no parameters, no device and no random state. Randomness comes in as `noise`, so that
    the noise of a whole rollout is drawn in one call and a sample is a function of its arguments. `inputs` is
    `[..., P]` with any leading axes; actions have the same leading axes, and probabilities have nothing else.
    """

    num_inputs: int
    """P: how many numbers describe one distribution."""
    log_std_positions: tuple[int, ...] = ()
    """Which inputs are log standard deviations, which a module may keep independent of the observation."""

    @abstractmethod
    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tree:
        """Draw the noise of `sample` with leading axes `shape`, such as `(T, B)`, on the generator's device."""

    @abstractmethod
    def sample(self, inputs: Tensor, noise: Tree) -> Tree:
        """Return the actions `[..., *event shape]` that `noise` selects; equal arguments give equal actions."""

    @abstractmethod
    def mode(self, inputs: Tensor) -> Tree:
        """Return the action without exploration: the most probable one."""

    @abstractmethod
    def log_prob(self, inputs: Tensor, action: Tree) -> Tensor:
        """Return the log probability (density) `[...]` of actions."""

    @abstractmethod
    def entropy(self, inputs: Tensor) -> Tensor:
        """Return the entropy `[...]` in nats."""

    @abstractmethod
    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return KL(inputs || other_inputs) `[...]` in nats; rounding can bring it a little below zero."""

    def sample_and_log_prob(self, inputs: Tensor, noise: Tree) -> tuple[Tree, Tensor]:
        """Return actions and their log probabilities at once: families override it to share work."""
        action = self.sample(inputs, noise)
        return action, self.log_prob(inputs, action)

    def log_prob_and_entropy(self, inputs: Tensor, action: Tree) -> tuple[Tensor, Tensor]:
        """Return both at once, for losses: families override it to share work."""
        return self.log_prob(inputs, action), self.entropy(inputs)

    def scores(self, inputs: Tensor, action: Tree) -> Scores:
        """Return both without a graph, and their derivatives: here by autograd, in closed form where a family can."""
        with torch.inference_mode(False), torch.enable_grad():
            inputs = inputs.clone().detach().requires_grad_()  # a clone, because inference tensors take no part
            log_prob, entropy = self.log_prob_and_entropy(inputs, tree_map(torch.clone, action))
            score = torch.autograd.grad(log_prob.sum(), inputs, retain_graph=True)[0]
            entropy_slope = torch.autograd.grad(entropy.sum(), inputs)[0]
        return Scores(log_prob.detach(), entropy.detach(), score, lambda: entropy_slope)


def flatten_event(action: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Turn `[..., *shape]` into `[..., D]` with D the product of `shape`."""
    if len(shape) == 1:
        return action
    return action.flatten(-len(shape)) if shape else action.unsqueeze(-1)


def unflatten_event(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Turn `[..., D]` into `[..., *shape]`."""
    return flat if len(shape) == 1 else flat.reshape(flat.shape[:-1] + shape)
