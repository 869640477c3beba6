"""Losses of actor-critic methods over flattened samples `[N]`, with their gradients in closed form.

A loss here is a function of what a policy and a value function say about samples: `(log_prob, entropy, value)`, each
`[N]`. Its value and its gradients are one pass of elementwise operations without a graph between them, which at the
sizes of PPO's minibatches takes half the time of the same terms under autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor


class Terms(NamedTuple):
    """A loss, and its gradients with respect to what it was computed from."""

    report: Mapping[str, Tensor]
    """Scalars worth reporting; `total_loss` is the loss."""
    log_prob_grad: Tensor
    """`[N]`"""
    entropy_grad: float
    """The same for each sample."""
    value_grad: Tensor
    """`[N]`"""


TermsOf = Callable[[Tensor, Tensor, Tensor], Terms]
"""`terms(log_prob, entropy, value)`, each `[N]`, computed without a graph."""


class LossCoefficients(NamedTuple):
    """Weights and bounds of the terms of `clipped_terms`."""

    clip: float
    value_clip: float | None
    value: float
    entropy: float


def clipped_terms(
    log_prob: Float[Tensor, "N"],
    entropy: Float[Tensor, "N"],
    value: Float[Tensor, "N"],
    *,
    behavior_log_prob: Float[Tensor, "N"],
    behavior_value: Float[Tensor, "N"],
    advantage: Float[Tensor, "N"],
    value_target: Float[Tensor, "N"],
    coefficients: LossCoefficients,
) -> Terms:
    """PPO's clipped surrogate with value loss and entropy bonus.

    `ratio = exp(log_prob - behavior_log_prob)`
    `policy = -mean(min(ratio * advantage, clamp(ratio, 1 - clip, 1 + clip) * advantage))`
    `value = mean((value - value_target)^2)`, or with value clipping the larger of that and the same of
    `behavior_value + clamp(value - behavior_value, -value_clip, value_clip)`
    `total = policy + c_value * value - c_entropy * mean(entropy)`
    The `kl` reported is the estimate `mean(ratio - 1 - log ratio)` of KL(behavior || current).

    Args:
        log_prob: `[N]`, of the actions under the current policy.
        entropy: `[N]`, of the current policy.
        value: `[N]`, current estimates.
        behavior_log_prob: `[N]`, recorded while acting.
        behavior_value: `[N]`, estimates before the update.
        advantage: `[N]`, usually normalised.
        value_target: `[N]`
        coefficients: Weights of the terms.

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Schulman et al. 2017, equations 7 and 9; Huang et al. 2022, core details 9 and 12; Schulman's k3 estimate.
    """
    shape = log_prob.shape
    acted = shape == behavior_log_prob.shape == behavior_value.shape == advantage.shape == value_target.shape
    if not (acted and shape == entropy.shape == value.shape):
        raise _broadcasting(
            "PPO",
            log_prob,
            entropy=entropy,
            value=value,
            behavior_log_prob=behavior_log_prob,
            behavior_value=behavior_value,
            advantage=advantage,
            value_target=value_target,
        )
    clip, value_clip, value_coeff, entropy_coeff = coefficients
    scale = 1.0 / log_prob.numel()
    log_ratio = log_prob - behavior_log_prob
    ratio = log_ratio.exp()
    surrogate = ratio * advantage
    clipped_ratio = ratio.clamp(1.0 - clip, 1.0 + clip)
    clipped = clipped_ratio * advantage
    log_prob_grad = surrogate.masked_fill(surrogate > clipped, 0.0).mul_(-scale)
    value_error = value_slope = value - value_target
    if value_clip is not None:
        change = value - behavior_value
        clipped_change = change.clamp(-value_clip, value_clip)
        clipped_error = behavior_value + clipped_change - value_target
        # Where nothing was clipped both errors are the same but for rounding, which must not decide about the gradient.
        plain_wins = (change == clipped_change) | (value_error.square() >= clipped_error.square())
        # Where the clipped term is larger it is constant in `value`.
        value_slope = torch.where(plain_wins, value_error, 0.0)
        value_error = torch.where(plain_wins, value_error, clipped_error)
    value_grad = value_slope * (2.0 * value_coeff * scale)
    surrogate_loss, is_clipped = torch.minimum(surrogate, clipped).neg_(), ratio.ne(clipped_ratio).to(ratio.dtype)
    columns_of_means = (surrogate_loss, value_error.square(), entropy, ratio.sub_(log_ratio).sub_(1.0), is_clipped)
    policy_loss, value_loss, mean_entropy, kl, clip_fraction = torch.stack(columns_of_means).mean(1).unbind()
    report = {
        "total_loss": policy_loss.add(value_loss, alpha=value_coeff).sub_(mean_entropy, alpha=entropy_coeff),
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": mean_entropy,
        "kl": kl,
        "clip_fraction": clip_fraction,
    }
    return Terms(report, log_prob_grad, -entropy_coeff * scale, value_grad)


def policy_gradient_terms(
    log_prob: Float[Tensor, "N"],
    entropy: Float[Tensor, "N"],
    value: Float[Tensor, "N"],
    *,
    behavior_log_prob: Float[Tensor, "N"],
    advantage: Float[Tensor, "N"],
    value_target: Float[Tensor, "N"],
    value_coeff: float,
    entropy_coeff: float,
) -> Terms:
    """The policy gradient with value loss and entropy bonus, and `kl` estimated as in `clipped_terms`.

    `total = -mean(advantage * log_prob) + c_value * mean((value - value_target)^2) - c_entropy * mean(entropy)`

    Raises:
        ValueError: log probabilities and values differ in shape; they would broadcast.

    Source: Mnih et al. 2016, section 4.
    """
    if value.shape != log_prob.shape:
        raise _broadcasting("A2C", log_prob, value=value)
    scale = 1.0 / log_prob.numel()
    error, log_ratio = value - value_target, log_prob - behavior_log_prob
    columns_of_means = (advantage * log_prob, error.square(), entropy, log_ratio.exp().sub_(log_ratio).sub_(1.0))
    surrogate, value_loss, mean_entropy, kl = torch.stack(columns_of_means).mean(1).unbind()
    policy_loss = -surrogate
    report = {
        "total_loss": policy_loss.add(value_loss, alpha=value_coeff).sub_(mean_entropy, alpha=entropy_coeff),
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": mean_entropy,
        "kl": kl,
    }
    return Terms(report, advantage * -scale, -entropy_coeff * scale, error.mul_(2.0 * value_coeff * scale))


def _broadcasting(loss: str, log_prob: Tensor, **columns: Tensor) -> ValueError:
    """Say which column has another shape than the log probabilities."""
    name, column = next((name, column) for name, column in columns.items() if column.shape != log_prob.shape)
    return ValueError(
        f"{loss} loss: {name} has shape {tuple(column.shape)}, expected [N] = {tuple(log_prob.shape)} as log_prob has. "
        "It would broadcast. A module's forward_value must return [...], without a last axis of 1."
    )


def differentiable(
    terms: TermsOf, log_prob: Tensor, entropy: Tensor, value: Tensor
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Compute the terms of `[N]` that carry a graph; return the loss as the end of that graph, and the report."""
    found = terms(log_prob.detach(), entropy.detach(), value.detach())
    entropy_grad = entropy.new_tensor(found.entropy_grad).expand_as(entropy)
    grads = [found.log_prob_grad, entropy_grad, found.value_grad]
    total = KnownGradients.apply(
        found.report["total_loss"], lambda into: torch._foreach_copy_(into, grads), log_prob, entropy, value
    )
    return total, found.report


class KnownGradients(torch.autograd.Function):
    """A scalar whose gradients with respect to some tensors can be said without a graph, as the end of one.

    `KnownGradients.apply(value, gradients, *tensors)` returns it. `gradients(into)` writes them into tensors of the
    same shapes. They cannot be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Callable[[list[Tensor]], Any], *tensors: Tensor) -> Tensor:
        """Return the value, and keep what gives the gradients."""
        ctx.gradients, ctx.tensors = gradients, tensors
        return value.clone()  # also where it was computed in inference mode, this one may be changed in place

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Scale them."""
        grads = [torch.empty_like(tensor) for tensor in ctx.tensors]
        ctx.gradients(grads)
        return None, None, *(own.mul_(grad) for own in grads)


_hooks_of = attrgetter("_backward_hooks", "_post_accumulate_grad_hooks")


def write_gradients(loss: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Write the gradients of a loss over those that parameters have, if it knows them: else return False.

    It does if it comes straight from `KnownGradients` of these parameters. To walk through that one node with
    autograd's engine takes a sixth of the time of a minibatch of PPO's size.
    """
    node, kind = cast(Any, loss.grad_fn), cast(Any, KnownGradients)._backward_cls
    if not isinstance(node, kind) or sorted(map(id, node.tensors)) != sorted(map(id, parameters)):  # tied ones: twice
        return False
    grads = [tensor.grad for tensor in node.tensors]
    is_trained, hooks = map(attrgetter("requires_grad"), parameters), map(_hooks_of, parameters)
    if id(None) in map(id, grads) or not all(is_trained) or any(map(any, hooks)):
        return False
    with torch.inference_mode():
        node.gradients(grads)
    return True
