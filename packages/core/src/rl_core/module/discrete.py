"""Distributions over choices: one of n, several of those, and yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rl_core.module.distribution_base import Distribution, Scores, flatten_event, unflatten_event

_LOGISTIC_EPSILON = 1e-7
"""Keeps uniform numbers off 0 and 1, where the logistic noise would be infinite."""


class _GumbelMax(Distribution):
    """What is drawn by the Gumbel-max trick."""

    _noise_shape: tuple[int, ...]

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw standard Gumbel noise `[*shape, *noise shape]`: `-log(exponential)`, always finite."""
        noise = torch.empty((*shape, *self._noise_shape), device=generator.device).exponential_(generator=generator)
        return noise.clamp_(min=torch.finfo(noise.dtype).tiny).log_().neg_()


class Categorical(_GumbelMax):
    """One of n choices; inputs are logits `[..., n]`, actions int64 `[...]` from 0.

    To forbid a choice give it a large negative but finite logit (`torch.finfo(dtype).min`): -inf makes the entropy NaN.
    """

    def __init__(self, n: int) -> None:
        self.num_inputs = int(n)
        self._noise_shape = (self.num_inputs,)

    def __repr__(self) -> str:
        return f"Categorical({self.num_inputs})"

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return `argmax(logits + gumbel)` `[...]`, distributed as `softmax(logits)` (the Gumbel-max trick)."""
        return (inputs + noise).argmax(-1)

    def mode(self, inputs: Tensor) -> Tensor:
        """Return the choice with the largest logit `[...]`."""
        return inputs.argmax(-1)

    def log_prob(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Return `log_softmax(logits)[action]` `[...]`."""
        return inputs.log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self, inputs: Tensor) -> Tensor:
        """Return `-sum p log p` `[...]`."""
        return _entropy(inputs.log_softmax(-1))

    def log_prob_and_entropy(self, inputs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return both `[...]` from one log-softmax."""
        log_probs = inputs.log_softmax(-1)  # [..., n]
        # exp * log rather than softmax * log: finite gradients where a probability underflows to 0.
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        return log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1), entropy

    def scores(self, inputs: Tensor, action: Tensor) -> Scores:
        """Return them with the derivatives `(1 at the choice) - p` and `-p (log p + H)`, H being the entropy.

        Computed in the transposed `[n, N]`: PyTorch's vectorised loops are over samples then, which are more.
        """
        if type(self) is not Categorical or inputs.dim() != 2:
            return super().scores(inputs, action)
        log_probs, choice = inputs.t().log_softmax(0), action.unsqueeze(0)
        probs = log_probs.exp()
        entropy = (probs * log_probs).sum(0).neg_()
        score = torch.zeros_like(probs).scatter_(0, choice, 1.0).sub_(probs)
        log_prob = log_probs.gather(0, choice).squeeze(0)
        return Scores(log_prob, entropy, score.t(), lambda: (log_probs + entropy).mul_(probs).neg_().t())

    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return `sum p (log p - log q)` `[...]`."""
        return _kl(inputs.log_softmax(-1), other_inputs.log_softmax(-1))


class MultiCategorical(_GumbelMax):
    """Independent choices, the d-th of `nvec[d]`; inputs are their logits one after the other `[..., sum(nvec)]`.

    Actions are int64 `[..., *nvec.shape]`. Unequal sizes are padded to the largest so that all are handled at once.
    """

    def __init__(self, nvec: Sequence[int] | np.ndarray[Any, Any]) -> None:
        sizes = np.asarray(nvec)
        self.shape = sizes.shape
        self.sizes = tuple(int(size) for size in sizes.flat)
        self.num_inputs = sum(self.sizes)
        self._width = max(self.sizes)
        self._equal = min(self.sizes) == self._width
        self._noise_shape = (len(self.sizes), self._width)

    def __repr__(self) -> str:
        return f"MultiCategorical({self.sizes})"

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return `argmax(logits + gumbel)` of each choice `[..., *nvec.shape]`."""
        return unflatten_event((self._logits(inputs) + noise).argmax(-1), self.shape)

    def mode(self, inputs: Tensor) -> Tensor:
        """Return the most probable value of each choice `[..., *nvec.shape]`."""
        return unflatten_event(self._logits(inputs).argmax(-1), self.shape)

    def log_prob(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Return the log probability `[...]`, summed over the choices."""
        return self._select(self._logits(inputs).log_softmax(-1), action)

    def entropy(self, inputs: Tensor) -> Tensor:
        """Return the entropy `[...]`, summed over the choices."""
        return _entropy(self._logits(inputs).log_softmax(-1)).sum(-1)

    def log_prob_and_entropy(self, inputs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return both `[...]` from one log-softmax."""
        log_probs = self._logits(inputs).log_softmax(-1)  # [..., D, width]
        return self._select(log_probs, action), _entropy(log_probs).sum(-1)

    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return the divergence `[...]`, summed over the choices."""
        log_probs, other = self._logits(inputs).log_softmax(-1), self._logits(other_inputs).log_softmax(-1)
        return _kl(log_probs, other).sum(-1)

    def _logits(self, inputs: Tensor) -> Tensor:
        """Arrange the logits as `[..., D, width]`; what pads a shorter choice has probability zero."""
        if self._equal:
            return inputs.reshape(*inputs.shape[:-1], len(self.sizes), self._width)
        never = torch.finfo(inputs.dtype).min / 2  # finite: -inf would turn p log p into NaN
        parts = zip(torch.split_with_sizes(inputs, self.sizes, -1), self.sizes, strict=True)
        return torch.stack([functional.pad(part, (0, self._width - size), value=never) for part, size in parts], -2)

    def _select(self, log_probs: Tensor, action: Tensor) -> Tensor:
        """Sum the log probabilities `[..., D, width]` of the chosen values to `[...]`."""
        index = flatten_event(action, self.shape).unsqueeze(-1)
        return log_probs.gather(-1, index).squeeze(-1).sum(-1)


class Bernoulli(Distribution):
    """Independent yes-or-no choices of any shape; inputs are the logits of yes `[..., D]`, actions int8 0 or 1."""

    def __init__(self, shape: int | Sequence[int]) -> None:
        self.shape = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(size) for size in shape)
        self.num_inputs = int(np.prod(self.shape))

    def __repr__(self) -> str:
        return f"Bernoulli({self.shape})"

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw standard logistic noise `[*shape, D]`."""
        uniform = torch.rand((*shape, self.num_inputs), generator=generator, device=generator.device)
        return uniform.logit_(_LOGISTIC_EPSILON)

    def sample(self, inputs: Tensor, noise: Tensor) -> Tensor:
        """Return `logits + logistic > 0` as int8 `[..., *shape]`, which is yes with probability `sigmoid(logits)`."""
        return unflatten_event((inputs + noise > 0).to(torch.int8), self.shape)

    def mode(self, inputs: Tensor) -> Tensor:
        """Return yes where its probability is above one half, int8 `[..., *shape]`."""
        return unflatten_event((inputs > 0).to(torch.int8), self.shape)

    def log_prob(self, inputs: Tensor, action: Tensor) -> Tensor:
        """Return the log probability `[...]`, summed over the choices."""
        target = flatten_event(action, self.shape).to(inputs.dtype)
        return -functional.binary_cross_entropy_with_logits(inputs, target, reduction="none").sum(-1)

    def entropy(self, inputs: Tensor) -> Tensor:
        """Return `softplus(x) - x sigmoid(x)` `[...]`, summed over the choices."""
        return (functional.softplus(inputs) - inputs * inputs.sigmoid()).sum(-1)

    def kl(self, inputs: Tensor, other_inputs: Tensor) -> Tensor:
        """Return `sigmoid(x) (x - y) - softplus(x) + softplus(y)` `[...]`, summed over the choices."""
        cross = inputs.sigmoid() * (inputs - other_inputs)
        return (cross - functional.softplus(inputs) + functional.softplus(other_inputs)).sum(-1)


def _entropy(log_probs: Tensor) -> Tensor:
    """Sum `-p log p` over the last axis; unlike `softmax * log`, its gradient is finite where p underflows to 0."""
    return -(log_probs.exp() * log_probs).sum(-1)


def _kl(log_probs: Tensor, other: Tensor) -> Tensor:
    """Sum `p (log p - log q)` over the last axis."""
    return (log_probs.exp() * (log_probs - other)).sum(-1)
