"""How off-policy modules explore: distributions around a greedy action, described by what the module puts out.

How much to explore is part of the inputs, so a sample stays a function of its arguments, and whoever publishes the
weights decides about it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rl_core.module.distribution_base import Distribution, flatten_event, unflatten_event

FORBIDDEN = -1e30
"""A value at or below this is that of an action which is not allowed."""


class EpsilonGreedy(Distribution):
    """The action of the highest value, or with probability epsilon any allowed one.

    Inputs are n values, then n values without the network's own noise if `noisy`, then epsilon: `[..., n + 1]` or
    `[..., 2 n + 1]`. Actions are int64 `[...]`. Actions whose value is at most -1e30 are never chosen.

    Source: Watkins 1989; Mnih et al. 2015.
    """

    def __init__(self, num_choices: int, *, noisy: bool = False) -> None:
        self.num_choices = num_choices
        self.noisy = noisy
        self.num_inputs = (2 if noisy else 1) * num_choices + 1

    def __repr__(self) -> str:
        return f"EpsilonGreedy({self.num_choices}, noisy={self.noisy})"

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw uniform numbers `[*shape, n + 1]`."""
        return torch.rand((*shape, self.num_choices + 1), generator=generator, device=generator.device)

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return the greedy action where the last number is at least epsilon, else a random one `[...]`."""
        value = inputs[..., : self.num_choices]
        random = noise[..., :-1].masked_fill(value <= FORBIDDEN, -1.0).argmax(-1)
        return torch.where(noise[..., -1] < inputs[..., -1], random, value.argmax(-1))

    def mode(self, inputs: Tensor) -> Tensor:
        """Return the greedy action by the values without noise `[...]`."""
        return inputs[..., :-1][..., -self.num_choices :].argmax(-1)

    def log_prob(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Return `log(epsilon / allowed + (1 - epsilon) [action is greedy])` `[...]`."""
        return self._probability(inputs).gather(-1, action.unsqueeze(-1)).squeeze(-1).log()

    def entropy(self, inputs: Tensor) -> Tensor:
        """Return `-sum p log p` `[...]`."""
        probability = self._probability(inputs)
        return -torch.xlogy(probability, probability).sum(-1)

    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return `sum p log(p / q)` `[...]`; infinite where q never does what p does."""
        probability, other = self._probability(inputs), self._probability(other_inputs)
        return (torch.xlogy(probability, probability) - torch.xlogy(probability, other)).sum(-1)

    def _probability(self, inputs: Tensor) -> Tensor:
        """The probability of each action `[..., n]`."""
        value, epsilon = inputs[..., : self.num_choices], inputs[..., -1:]
        allowed = (value > FORBIDDEN).to(value.dtype)
        greedy = torch.nn.functional.one_hot(value.argmax(-1), self.num_choices)
        return epsilon * allowed / allowed.sum(-1, keepdim=True) + (1 - epsilon) * greedy


class NoisyAction(Distribution):
    """A deterministic action plus normal noise, clipped to its bounds, or with probability epsilon a uniform one.

    Inputs are D actions within the bounds, then the noise's standard deviation as a share of half the range, then
    epsilon: `[..., D + 2]`. Actions are float `[..., *shape]`. Densities are those before clipping, uniform part left
    out.

    Source: Fujimoto et al. 2018, algorithm 1 and appendix C.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        self.shape = low.shape
        self.size = math.prod(self.shape)
        self.num_inputs = self.size + 2
        self.low = torch.from_numpy(low.reshape(-1).copy())
        self.high = torch.from_numpy(high.reshape(-1).copy())

    def __repr__(self) -> str:
        return f"NoisyAction(low={self.low.tolist()}, high={self.high.tolist()})"

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw standard normal numbers `[*shape, D]` and uniform ones `[*shape, D + 1]`."""
        device = generator.device
        normal = torch.randn((*shape, self.size), generator=generator, device=device)
        return normal, torch.rand((*shape, self.size + 1), generator=generator, device=device)

    def sample(self, inputs: Tensor, noise: tuple[Tensor, Tensor]) -> Tensor:
        """Return the noisy action where the last uniform number is at least epsilon, else a uniform one."""
        normal, uniform = noise
        low, high = self.low.to(inputs), self.high.to(inputs)
        action, deviation, epsilon = inputs[..., : self.size], inputs[..., -2:-1], inputs[..., -1:]
        noisy = (action + deviation * (high - low) / 2 * normal).clamp(low, high)
        random = low + (high - low) * uniform[..., :-1]
        return unflatten_event(torch.where(uniform[..., -1:] < epsilon, random, noisy), self.shape)

    def mode(self, inputs: Tensor) -> Tensor:
        """Return the action without noise `[..., *shape]`."""
        return unflatten_event(inputs[..., : self.size], self.shape)

    def log_prob(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Return the normal log density `[...]`; without noise 0 at the action itself and -inf elsewhere."""
        deviation = self._deviation(inputs)
        difference = flatten_event(action, self.shape) - inputs[..., : self.size]
        noisy = deviation > 0
        safe = torch.where(noisy, deviation, 1.0)
        density = -(0.5 * (difference / safe).square() + safe.log() + 0.5 * math.log(2 * math.pi))
        return torch.where(noisy, density, torch.where(difference == 0, 0.0, -math.inf)).sum(-1)

    def entropy(self, inputs: Tensor) -> Tensor:
        """Return `sum(log deviation + 0.5 log(2 pi e))` `[...]`; -inf without noise."""
        return (self._deviation(inputs).log() + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return the divergence of the normals `[...]`."""
        own, other = self._deviation(inputs), self._deviation(other_inputs)
        distance = (inputs[..., : self.size] - other_inputs[..., : self.size]) / other
        ratio = own / other
        return (0.5 * (ratio.square() + distance.square() - 1) - ratio.log()).sum(-1)

    def _deviation(self, inputs: Tensor) -> Tensor:
        """The standard deviation of each action `[..., D]`."""
        return inputs[..., -2:-1] * (self.high - self.low).to(inputs) / 2
