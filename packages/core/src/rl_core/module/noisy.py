"""A dense layer with learned noise on its weights, for exploration."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class NoisyLinear(nn.Module):
    """`y = (w + sigma_w * noise_w) x + b + sigma_b * noise_b` with factorised noise, which stays until redrawn.

    Source: Fortunato et al. 2018, equations 9 to 11 and section 3.2.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, num_in: int, num_out: int, *, sigma: float = 0.5) -> None:
        """Make the layer, without noise until the first `redraw`.

        Args:
            num_in: Features in.
            num_out: Features out.
            sigma: Initial scale of the noise, divided by the square root of `num_in`.
        """
        super().__init__()
        bound = 1.0 / math.sqrt(num_in)
        self.weight = nn.Parameter(torch.empty(num_out, num_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_out).uniform_(-bound, bound))
        self.sigma_weight = nn.Parameter(torch.full((num_out, num_in), sigma * bound))
        self.sigma_bias = nn.Parameter(torch.full((num_out,), sigma * bound))
        self.register_buffer("noise_in", torch.zeros(num_in))
        self.register_buffer("noise_out", torch.zeros(num_out))

    def redraw(self, generator: torch.Generator) -> None:
        """Draw the noise anew, `f(x) = sign(x) sqrt(|x|)` of standard normal numbers."""
        for noise in (self.noise_in, self.noise_out):
            normal = torch.randn(noise.shape, generator=generator, device=generator.device)
            noise.copy_(normal.sign() * normal.abs().sqrt())

    def forward(self, x: Tensor, *, noisy: bool = True) -> Tensor:
        """Map `[..., num_in]` to `[..., num_out]`, with or without the noise."""
        if not noisy:
            return functional.linear(x, self.weight, self.bias)
        # The factorised noise need not be formed as a matrix: (n_out n_in^T * sigma) x = n_out * (sigma (n_in * x)).
        plain = functional.linear(x, self.weight, self.bias)
        return plain + self.noise_out * (functional.linear(x * self.noise_in, self.sigma_weight) + self.sigma_bias)
