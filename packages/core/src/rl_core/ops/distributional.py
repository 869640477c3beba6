"""Targets and losses of learned return distributions (C51, QR-DQN, TQC) over samples `[N]`.

Axis letters beyond those of `rl_core.records`: M atoms or quantiles of a prediction, K quantiles of a target.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from rl_core.ops.value_learning import require_shape, weighted_mean


def categorical_projection(
    next_probability: Float[Tensor, "N M"],
    support: Float[Tensor, "M"],
    reward: Float[Tensor, "N"],
    discount: Float[Tensor, "N"],
) -> Float[Tensor, "N M"]:
    """The distribution of `reward + discount * Z`, projected back onto the support of Z.

    An atom moves from `z[j]` to `clamp(reward + discount * z[j], z[0], z[M - 1])`; its probability is shared between
    the two support points around that place, in proportion to nearness. An atom that meets a support point gives it
    everything, and the sum of the probabilities is kept.

    Args:
        next_probability: `[N, M]`, of the atoms one step on; each row sums to 1.
        support: `[M]`, evenly spaced and rising, M at least 2.
        reward: `[N]`
        discount: `[N]`, the factor of what follows: gamma^n, and 0 where the episode terminated.

    Returns:
        `[N, M]` probabilities.

    Raises:
        ValueError: the shapes do not fit, or the support has fewer than two points.

    Source: Bellemare et al. 2017, equation 7 and algorithm 1.
    """
    atoms = support.numel()
    if atoms < 2:
        raise ValueError(f"categorical projection: support has {atoms} points, expected at least 2.")
    require_shape("categorical projection", "[N, M]", (len(reward), atoms), next_probability=next_probability)
    require_shape("categorical projection", "[N]", (len(next_probability),), reward=reward, discount=discount)

    lowest, highest = support[0], support[-1]
    moved = torch.addcmul(reward.unsqueeze(1), discount.unsqueeze(1), support)
    place = (moved - lowest).mul_((atoms - 1) / (highest - lowest)).clamp_(0, atoms - 1)  # [N, M], in support points
    # The last point counts as the upper neighbour of the one before, so a place on a point needs no case of its own.
    # Clamping the integers also keeps NaN within bounds: it goes on into the probabilities, and so into the loss.
    lower = place.long().clamp_(0, atoms - 2)
    to_upper = next_probability * (place - lower)
    result = torch.zeros_like(next_probability)
    result.scatter_add_(1, lower, next_probability - to_upper)
    return result.scatter_add_(1, lower + 1, to_upper)


def categorical_loss(
    logits: Float[Tensor, "N M"],
    target_probability: Float[Tensor, "N M"],
    weight: Float[Tensor, "N"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "N"]]:
    """Weighted mean of the cross entropy between a target distribution and the predicted one.

    `cross_entropy = -sum over atoms of target_probability * log_softmax(logits)`, `loss = mean(weight * cross_entropy)`

    Args:
        logits: `[N, M]`, of the actions taken; carry a gradient.
        target_probability: `[N, M]`, taken as constants.
        weight: `[N]`, importance weights of prioritised replay, taken as constants; None counts each sample once.

    Returns:
        The scalar loss, and the cross entropies `[N]` without a gradient, which may serve as priorities.

    Raises:
        ValueError: the shapes do not fit; they would broadcast silently.

    Source: Bellemare et al. 2017, algorithm 1; Hessel et al. 2018 for the priorities.
    """
    require_shape("categorical loss", "[N, M]", logits.shape, target_probability=target_probability)
    cross_entropy = functional.cross_entropy(logits, target_probability.detach(), reduction="none")
    return weighted_mean("categorical loss", cross_entropy, weight), cross_entropy.detach()


def quantile_huber_loss(
    quantiles: Float[Tensor, "*C N M"],
    target: Float[Tensor, "N K"],
    weight: Float[Tensor, "N"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "*C N"]]:
    """Quantile regression with a Huber penalty of bound 1 between every predicted and every target quantile.

    `delta[i, j] = target[j] - quantiles[i]`, `tau[i] = (i + 1/2) / M`
    `error = mean over i and j of |tau[i] - (delta[i, j] < 0)| * huber(delta[i, j])`
    `loss = sum over critics of mean over samples of weight * error`

    The mean over both kinds of quantiles is that of TQC; QR-DQN sums over the predicted ones, which is M times as
    much. Critics are summed, so that each has the gradient it would have alone. The loss can be differentiated once.

    Args:
        quantiles: `[N, M]`, or `[..., N, M]` with leading axes of critics, not necessarily sorted; carry a gradient.
        target: `[N, K]`, samples or quantiles of the target, the same for all critics, taken as constants.
        weight: `[N]`, importance weights of prioritised replay, taken as constants; None counts each sample once.

    Returns:
        The scalar loss, and the errors `[..., N]` without a gradient, which may serve as priorities.

    Raises:
        ValueError: the numbers of samples differ; they would broadcast silently.

    Source: Kuznetsov et al. 2020, the critics' loss; Dabney et al. 2018, equation 10.
    """
    require_shape("quantile loss", "[N, K]", (quantiles.shape[-2], target.shape[-1]), target=target)
    count = quantiles.shape[-1]
    tau = torch.arange(0.5, count, dtype=quantiles.dtype, device=quantiles.device).div_(count)
    constant = quantiles.detach()
    with torch.no_grad():
        delta = target.unsqueeze(-2) - constant.unsqueeze(-1)  # [..., N, M, K]
        clipped = delta.clamp(-1.0, 1.0)
        # |tau - (delta < 0)| * clipped, without the comparison. It is also the derivative by delta of an error:
        # huber(delta) = clipped * (delta - clipped / 2), whose derivative is `clipped`.
        share = clipped.abs().mul_(tau.unsqueeze(-1) - 0.5).add_(clipped, alpha=0.5)
        slope = share.sum(-1).div_(-share.shape[-2] * share.shape[-1])  # of the error, by each quantile
        error = share.mul_(delta.sub_(clipped, alpha=0.5)).mean((-2, -1))
    # 0 with the right gradient, so that nothing of size M * K goes through autograd: a third of the time.
    zero = ((quantiles - constant) * slope).sum(-1)
    return weighted_mean("quantile loss", error + zero, weight).sum(), error


def truncated_mixture(quantiles: Float[Tensor, "C N M"], drop_per_critic: int) -> Float[Tensor, "N K"]:
    """The pooled quantiles of all critics in rising order, without the largest.

    Args:
        quantiles: `[C, N, M]`, of C critics.
        drop_per_critic: How many to leave out for each critic, 0 to M - 1; dropping more counters overestimation.

    Returns:
        `[N, C * (M - drop_per_critic)]`

    Raises:
        ValueError: quantiles has not three axes, or nothing would be left.

    Source: Kuznetsov et al. 2020, the truncated mixture of the target.
    """
    if quantiles.dim() != 3:
        raise ValueError(f"truncated mixture: quantiles has shape {tuple(quantiles.shape)}, expected [C, N, M].")
    critics, samples, atoms = quantiles.shape
    if not 0 <= drop_per_critic < atoms:
        raise ValueError(
            f"truncated mixture: drop_per_critic is {drop_per_critic}, expected 0 to {atoms - 1} of {atoms} quantiles."
        )
    pooled = quantiles.transpose(0, 1).reshape(samples, critics * atoms)
    return pooled.sort(dim=1).values[:, : critics * (atoms - drop_per_critic)]
