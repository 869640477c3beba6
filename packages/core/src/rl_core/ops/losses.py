"""Losses over flattened samples `[N]`."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class ActorCriticLoss(NamedTuple):
    """The clipped loss and what is worth reporting of it; only `total` carries a gradient."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    kl: Tensor
    clip_fraction: Tensor


class LossCoefficients(NamedTuple):
    """Weights and bounds of the terms of `clipped_actor_critic_loss`."""

    clip: float
    value_clip: float | None
    value: float
    entropy: float


def clipped_actor_critic_loss(
    log_prob: Float[Tensor, "N"],
    entropy: Float[Tensor, "N"],
    value: Float[Tensor, "N"],
    *,
    behavior_log_prob: Float[Tensor, "N"],
    behavior_value: Float[Tensor, "N"],
    advantage: Float[Tensor, "N"],
    value_target: Float[Tensor, "N"],
    coefficients: LossCoefficients,
) -> ActorCriticLoss:
    """PPO's clipped surrogate with value loss and entropy bonus, differentiated in closed form.

    `ratio = exp(log_prob - behavior_log_prob)`
    `policy = -mean(min(ratio * advantage, clamp(ratio, 1 - clip, 1 + clip) * advantage))`
    `value = mean((value - value_target)^2)`, or with value clipping the larger of that and the same of
    `behavior_value + clamp(value - behavior_value, -value_clip, value_clip)`
    `total = policy + c_value * value - c_entropy * mean(entropy)`
    The `kl` reported is the estimate `mean(ratio - 1 - log ratio)` of KL(behavior || current).

    Forward and backward are one pass of elementwise operations without a graph between them, which takes half the
    time of the same terms under autograd at the sizes of PPO's minibatches.

    Args:
        log_prob: `[N]`, of the actions under the current policy; carries a gradient.
        entropy: `[N]`, of the current policy; carries a gradient.
        value: `[N]`, current estimates; carries a gradient.
        behavior_log_prob: `[N]`, recorded while acting.
        behavior_value: `[N]`, estimates before the update.
        advantage: `[N]`, usually normalised.
        value_target: `[N]`
        coefficients: Weights of the terms.

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Schulman et al. 2017, equations 7 and 9; Huang et al. 2022, core details 9 and 12; Schulman's k3 estimate.
    """
    columns = {
        "entropy": entropy,
        "value": value,
        "behavior_log_prob": behavior_log_prob,
        "behavior_value": behavior_value,
        "advantage": advantage,
        "value_target": value_target,
    }
    for name, column in columns.items():
        if column.shape != log_prob.shape:
            raise ValueError(
                f"PPO loss: {name} has shape {tuple(column.shape)}, expected [N] = {tuple(log_prob.shape)} as log_prob "
                "has. It would broadcast. A module's forward_value must return [...], without a last axis of 1."
            )
    parts = _ClippedLoss.apply(log_prob, *columns.values(), coefficients)
    return ActorCriticLoss(*parts)


class _ClippedLoss(torch.autograd.Function):
    """Loss and its three gradients at once; `backward` only scales them."""

    @staticmethod
    def forward(  # autograd passes tensors one by one
        ctx: Any,
        log_prob: Tensor,
        entropy: Tensor,
        value: Tensor,
        behavior_log_prob: Tensor,
        behavior_value: Tensor,
        advantage: Tensor,
        value_target: Tensor,
        coefficients: LossCoefficients,
    ) -> tuple[Tensor, ...]:
        clip, value_clip, value_coeff, entropy_coeff = coefficients
        scale = 1.0 / log_prob.numel()
        log_ratio = log_prob - behavior_log_prob
        ratio = log_ratio.exp()
        surrogate = ratio * advantage
        clipped_ratio = ratio.clamp(1.0 - clip, 1.0 + clip)
        clipped = clipped_ratio * advantage
        policy_loss = torch.minimum(surrogate, clipped).mean().neg()
        log_prob_grad = surrogate.masked_fill(surrogate > clipped, 0.0).mul_(-scale)

        value_loss, value_grad = _value_loss(value, behavior_value, value_target, value_clip)
        mean_entropy = entropy.mean()
        total = policy_loss.add(value_loss, alpha=value_coeff).sub_(mean_entropy, alpha=entropy_coeff)
        kl = (ratio - log_ratio).mean().sub_(1.0)
        clip_fraction = ratio.ne(clipped_ratio).mean(dtype=ratio.dtype)

        ctx.save_for_backward(log_prob_grad, value_grad.mul_(value_coeff * scale))
        ctx.entropy_grad = -entropy_coeff * scale
        ctx.mark_non_differentiable(policy_loss, value_loss, mean_entropy, kl, clip_fraction)
        ctx.set_materialize_grads(False)
        return total, policy_loss, value_loss, mean_entropy, kl, clip_fraction

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        total_grad = grads[0]
        if total_grad is None:
            return (None,) * 8
        log_prob_grad, value_grad = ctx.saved_tensors
        entropy_grad = (total_grad * ctx.entropy_grad).expand_as(log_prob_grad)
        return log_prob_grad * total_grad, entropy_grad, value_grad * total_grad, None, None, None, None, None


def _value_loss(
    value: Tensor, behavior_value: Tensor, value_target: Tensor, value_clip: float | None
) -> tuple[Tensor, Tensor]:
    """Mean squared error, clipped if asked, and N times its gradient `[N]`."""
    error = value - value_target
    if value_clip is None:
        return error.square().mean(), error.mul_(2.0)
    change = value - behavior_value
    clipped_change = change.clamp(-value_clip, value_clip)
    clipped_error = behavior_value + clipped_change - value_target
    # Where nothing was clipped both errors are the same but for rounding, which must not decide about the gradient.
    plain_wins = (change == clipped_change) | (error.square() >= clipped_error.square())
    loss = torch.where(plain_wins, error, clipped_error).square().mean()
    # Where the clipped term is larger it is constant in `value`.
    return loss, torch.where(plain_wins, error, 0.0).mul_(2.0)
