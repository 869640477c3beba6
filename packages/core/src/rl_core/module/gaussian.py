"""Distributions over real numbers: independent normal ones, plain or squashed into bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rl_core.module.distribution_base import Distribution, Scores, flatten_event, unflatten_event

LOG_STD_BOUNDS = (-20.0, 2.0)
"""Default limits of a log standard deviation, in log action units. Source: Haarnoja et al. 2018, published code."""

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_EDGE = 1e-6
"""An action nearer to a bound than this share of the range counts as that far from it: its density stays finite."""


class DiagonalGaussian(Distribution):
    """Independent normal variables; inputs are D means and then D log standard deviations `[..., 2 D]`.

    Log standard deviations are clamped to `log_std_bounds`, so that every quantity stays finite; one outside gets no
    gradient. Actions are float `[..., *shape]`.
    """

    def __init__(self, shape: Sequence[int], *, log_std_bounds: tuple[float, float] = LOG_STD_BOUNDS) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.size = math.prod(self.shape)
        self.num_inputs = 2 * self.size
        self.log_std_positions = tuple(range(self.size, 2 * self.size))
        self.log_std_bounds = log_std_bounds

    def __repr__(self) -> str:
        return f"DiagonalGaussian({self.shape}, log_std_bounds={self.log_std_bounds})"

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw standard normal noise `[*shape, D]`."""
        return torch.randn((*shape, self.size), generator=generator, device=generator.device)

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return `mean + std * noise` `[..., *shape]`, differentiable in the inputs."""
        mean, log_std = self.moments(inputs)
        return unflatten_event(torch.addcmul(mean, log_std.exp(), noise), self.shape)

    def mode(self, inputs: Tensor) -> Tensor:
        """Return the mean `[..., *shape]`."""
        return unflatten_event(inputs[..., : self.size], self.shape)

    def log_prob(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Return `-sum(0.5 z^2 + log_std + 0.5 log 2 pi)` `[...]` with `z = (action - mean) / std`."""
        mean, log_std = self.moments(inputs)
        return self._log_density(mean, log_std, flatten_event(action, self.shape))

    def entropy(self, inputs: Tensor) -> Tensor:
        """Return `sum(log_std + 0.5 + 0.5 log 2 pi)` `[...]`."""
        return self._entropy(self.moments(inputs)[1])

    def log_prob_and_entropy(self, inputs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return both `[...]`, clamping once."""
        mean, log_std = self.moments(inputs)
        return self._log_density(mean, log_std, flatten_event(action, self.shape)), self._entropy(log_std)

    def scores(self, inputs: Tensor, action: Tensor) -> Scores:
        """Return them with the derivatives `z / std` and 0 by the mean, `z^2 - 1` and 1 by the log std."""
        if type(self) is not DiagonalGaussian:
            return super().scores(inputs, action)
        mean, log_std = self.moments(inputs)
        precision = (-log_std).exp()
        distance = (flatten_event(action, self.shape) - mean).mul_(precision)
        square = distance.square()
        log_prob = torch.add(log_std, square, alpha=0.5).sum(-1).neg_().sub_(self.size * _HALF_LOG_TWO_PI)
        is_free = (inputs[..., self.size :] == log_std).to(inputs.dtype)  # not clamped
        score = torch.cat((distance.mul_(precision), square.sub_(1.0).mul_(is_free)), -1)
        return Scores(
            log_prob, self._entropy(log_std), score, lambda: torch.cat((torch.zeros_like(is_free), is_free), -1)
        )

    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return `sum(log s2 - log s1 + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 0.5)` `[...]`."""
        mean, log_std = self.moments(inputs)
        other_mean, other_log_std = self.moments(other_inputs)
        log_ratio = log_std - other_log_std
        distance = (mean - other_mean) * (-other_log_std).exp()
        return (0.5 * ((2 * log_ratio).exp() + distance.square() - 1) - log_ratio).sum(-1)

    def moments(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Split the inputs into mean and clamped log standard deviation, both `[..., D]`."""
        mean, log_std = inputs.chunk(2, -1)
        return mean, log_std.clamp(*self.log_std_bounds)

    def _log_density(self, mean: Tensor, log_std: Tensor, flat_action: Tensor) -> Tensor:
        distance = (flat_action - mean) * (-log_std).exp()
        return -self.size * _HALF_LOG_TWO_PI - torch.addcmul(log_std, distance, distance, value=0.5).sum(-1)

    def _entropy(self, log_std: Tensor) -> Tensor:
        return log_std.sum(-1) + self.size * (0.5 + _HALF_LOG_TWO_PI)


class SquashedGaussian(Distribution):
    """Independent normal variables u pushed through tanh onto the bounds; inputs as for `DiagonalGaussian`.

    The action is `low + (high - low) (tanh(u) + 1) / 2`, computed as `low + (high - low) sigmoid(2 u)`. With
    `w = (action - low) / (high - low)` the exact change of density is `da/du = 2 (high - low) w (1 - w)`. `w` is kept
    1e-6 off 0 and 1, so the log density is finite at the bounds themselves.
    """

    def __init__(
        self,
        low: np.ndarray[Any, Any],
        high: np.ndarray[Any, Any],
        *,
        log_std_bounds: tuple[float, float] = LOG_STD_BOUNDS,
    ) -> None:
        low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise ValueError(
                f"SquashedGaussian: got bounds low={low}, high={high}, expected finite low < high everywhere, because "
                "actions are squashed onto them. Give the action space finite bounds, or do not squash."
            )
        self.shape = low.shape
        self.normal = DiagonalGaussian(self.shape, log_std_bounds=log_std_bounds)
        self.num_inputs = self.normal.num_inputs
        self.log_std_positions = self.normal.log_std_positions
        self._low = torch.from_numpy(low.reshape(-1).copy())
        self._high = torch.from_numpy(high.reshape(-1).copy())
        self._log_scale = float(np.log(2.0 * (high.astype(np.float64) - low)).sum())

    def __repr__(self) -> str:
        return f"SquashedGaussian(low={self._low.tolist()}, high={self._high.tolist()})"

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw standard normal noise `[*shape, D]`."""
        return self.normal.noise(shape, generator)

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return actions within the bounds `[..., *shape]`, differentiable in the inputs."""
        mean, log_std = self.normal.moments(inputs)
        return self._squash(torch.addcmul(mean, log_std.exp(), noise))

    def sample_and_log_prob(self, inputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return actions `[..., *shape]` and `log normal(u) - log da/du` `[...]`, exact also near the bounds.

        Both are differentiable in the inputs, with `log da/du = log(2 (high - low)) + 2 log sigmoid(2 u) - 2 u`.

        Source: Haarnoja et al. 2018b, appendix C.
        """
        mean, log_std = self.normal.moments(inputs)
        unsquashed = torch.addcmul(mean, log_std.exp(), noise)
        log_slope = 2.0 * (functional.logsigmoid(2.0 * unsquashed) - unsquashed)
        # The density of the normal at its own sample: the distance from the mean is the noise.
        log_density = -(0.5 * noise.square() + log_std + log_slope).sum(-1)
        constant = self.normal.size * _HALF_LOG_TWO_PI + self._log_scale
        return self._squash(unsquashed), log_density - constant

    def mode(self, inputs: Tensor) -> Tensor:
        """Return the squashed mean `[..., *shape]`, the median of the distribution."""
        return self._squash(inputs[..., : self.normal.size])

    def log_prob(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Return `log normal(u) - log da/du` `[...]`."""
        flat = flatten_event(action, self.shape)
        low, high = self._low.to(flat), self._high.to(flat)
        share = ((flat - low) / (high - low)).clamp(_EDGE, 1 - _EDGE)
        log_share, log_rest = share.log(), (-share).log1p()
        unsquashed = unflatten_event(0.5 * (log_share - log_rest), self.shape)
        return self.normal.log_prob(inputs, unsquashed) - (log_share + log_rest).sum(-1) - self._log_scale

    def entropy(self, inputs: Tensor) -> Tensor:
        """Return the entropy `[...]`: that of the normal plus `E[log da/du]`.

        The expectation has no closed form. It is integrated numerically (Gauss-Hermite, 16 points a dimension), which
        unlike an estimate from samples is deterministic and has the right gradient; the error is below 0.05 nats a
        dimension for log standard deviations up to 1, and below 0.3 up to 2.
        """
        mean, log_std = self.normal.moments(inputs)
        points, weights = (torch.as_tensor(values, dtype=mean.dtype, device=mean.device) for values in _hermite(16))
        doubled = 2 * torch.addcmul(mean.unsqueeze(-1), log_std.exp().unsqueeze(-1), points)  # [..., D, 16]
        # log(w (1 - w)) with w = sigmoid(2 u)
        log_slope = 2 * functional.logsigmoid(doubled) - doubled
        return self.normal.entropy(inputs) + (log_slope @ weights).sum(-1) + self._log_scale

    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return the divergence `[...]`, which is that of the normals: squashing both alike does not change it."""
        return self.normal.kl(inputs, other_inputs)

    def _squash(self, unsquashed: Tensor) -> Tensor:
        low, high = self._low.to(unsquashed), self._high.to(unsquashed)
        return unflatten_event(torch.lerp(low, high, (2 * unsquashed).sigmoid()), self.shape)


def _hermite(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return points and weights with `E[f(z)] ~ sum(weight f(point))` for standard normal z."""
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    return points, weights / weights.sum()
