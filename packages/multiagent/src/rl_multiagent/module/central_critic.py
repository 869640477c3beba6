"""The critic that sees all agents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rl_core.module.networks import MLP
from rl_core.module.settings import Activation

EPSILON = 1e-5
"""Least variance of the targets that is divided by."""


class CentralCritic(nn.Module):
    """Values `[...]` of what all agents saw `[..., J]`, learned in units of the targets' own spread.

    Source: Yu et al. 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games", sections 5.1 and
    5.2; van Hasselt et al. 2016, "Learning values across many orders of magnitude" (PopArt).
    """

    mean: Tensor
    mean_square: Tensor
    weight_seen: Tensor

    def __init__(self, num_inputs: int, hiddens: Sequence[int], activation: Activation) -> None:
        """Make and initialise the layers, with weights from torch's global random state.

        Args:
            num_inputs: J.
            hiddens: Units of the layers between.
            activation: Function between the layers.
        """
        super().__init__()
        self.network = MLP((num_inputs, *hiddens, 1), activation=activation, last_gain=1.0)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("mean_square", torch.zeros(()))
        self.register_buffer("weight_seen", torch.zeros(()))

    def forward(self, joint: Tensor) -> Tensor:
        """Return values in units of the rewards."""
        mean, std = self.moments()
        outputs: Tensor = self.network(joint).squeeze(-1)
        return mean + std * outputs

    def loss(self, joint: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared error for targets `[N]`, in units of their spread."""
        mean, std = self.moments()
        outputs: Tensor = self.network(joint).squeeze(-1)
        return (outputs - (target - mean) / std).square().mean()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the targets so far; 0 and 1 before there were any."""
        if self.weight_seen == 0:
            return torch.zeros_like(self.mean), torch.ones_like(self.mean)
        mean = self.mean / self.weight_seen
        variance = self.mean_square / self.weight_seen - mean.square()
        return mean, variance.clamp(min=EPSILON).sqrt()

    @torch.no_grad()
    def observe(self, target_mean: Tensor, target_mean_square: Tensor, *, decay: float) -> None:
        """Take targets into the running moments; what the critic says of any input stays the same.

        Args:
            target_mean: Of the targets of one update, a scalar.
            target_mean_square: The mean of their squares.
            decay: Weight that earlier updates keep, 0 to 1.
        """
        mean, std = self.moments()
        self.mean.lerp_(target_mean, 1 - decay)
        self.mean_square.lerp_(target_mean_square, 1 - decay)
        self.weight_seen.lerp_(torch.ones_like(self.weight_seen), 1 - decay)
        new_mean, new_std = self.moments()
        *_, weight, bias = self.network.parameters()
        weight.mul_(std / new_std)
        bias.mul_(std).add_(mean - new_mean).div_(new_std)
