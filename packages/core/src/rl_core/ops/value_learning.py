"""Targets and losses of learned action values over samples `[N]` (DQN and what builds on it).

Axis letters beyond those of `rl_core.records`: A actions, M atoms or quantiles.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def td_target(
    reward: Float[Tensor, "N"], discount: Float[Tensor, "N"], next_value: Float[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """The bootstrapped target `reward + discount * next_value`.

    Args:
        reward: `[N]`, for n-step targets the discounted sum of n rewards.
        discount: `[N]`, the factor of what follows: gamma^n, and 0 where the episode terminated.
        next_value: `[N]`, value of the state n steps on; must be finite, also where the discount is 0.

    Returns:
        `[N]`

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Mnih et al. 2015, the target y of algorithm 1.
    """
    require_shape("TD target", "[N]", reward.shape, discount=discount, next_value=next_value)
    return torch.addcmul(reward, discount, next_value)


def select(q: Float[Tensor, "N A *M"], action: Int[Tensor, "N"]) -> Float[Tensor, "N *M"]:
    """The entry of each sample's own action: `q[n, action[n]]`.

    Args:
        q: `[N, A]` values, or `[N, A, M]` atoms or quantiles.
        action: `[N]`, integers 0 to A - 1.

    Returns:
        `[N]` or `[N, M]`

    Raises:
        ValueError: action is not one number per sample.
    """
    require_shape("select", "[N]", q.shape[:1], action=action)
    if q.dim() == 2:
        return q.gather(1, action.unsqueeze(1)).squeeze(1)
    return q[torch.arange(len(q), device=q.device), action]


def double_q_value(next_q_target: Float[Tensor, "N A"], next_q_online: Float[Tensor, "N A"]) -> Float[Tensor, "N"]:
    """The target network's value of the action that the online network prefers.

    `next_q_target[n, argmax_a next_q_online[n, a]]`

    Args:
        next_q_target: `[N, A]`, of the slowly moving network.
        next_q_online: `[N, A]`, of the network that learns.

    Returns:
        `[N]`

    Raises:
        ValueError: the shapes differ.

    Source: van Hasselt et al. 2016, equation 4 with the target network as second estimate.
    """
    require_shape("double Q", "[N, A]", next_q_target.shape, next_q_online=next_q_online)
    return next_q_target.gather(1, next_q_online.argmax(1, keepdim=True)).squeeze(1)


def td_loss(
    prediction: Float[Tensor, "N"],
    target: Float[Tensor, "N"],
    weight: Float[Tensor, "N"] | None = None,
    *,
    kind: Literal["huber", "mse"] = "huber",
) -> tuple[Float[Tensor, ""], Float[Tensor, "N"]]:
    """Weighted mean of a penalty on the temporal-difference error `delta = target - prediction`.

    `loss = mean(weight * penalty(delta))`, with the penalty
    "huber": `delta^2 / 2` where `|delta| <= 1`, else `|delta| - 1/2`;
    "mse": `delta^2`, without a half.

    Args:
        prediction: `[N]`; carries a gradient.
        target: `[N]`, taken as a constant.
        weight: `[N]`, importance weights of prioritised replay, taken as constants; None counts each sample once.
        kind: The penalty.

    Returns:
        The scalar loss, and the errors `delta` `[N]` without a gradient, whose size is a sample's priority.

    Raises:
        ValueError: the shapes differ (they would broadcast silently), or the kind is unknown.

    Source: Mnih et al. 2015 (errors clipped to 1); Schaul et al. 2016, section 3.4 (weights).
    """
    require_shape("TD loss", "[N]", prediction.shape, target=target)
    if kind not in ("huber", "mse"):
        raise ValueError(f"TD loss: kind is {kind!r}, expected 'huber' or 'mse'.")
    penalty = functional.huber_loss if kind == "huber" else functional.mse_loss
    target = target.detach()
    error = target - prediction.detach()
    if weight is None:
        return penalty(prediction, target), error
    return weighted_mean("TD loss", penalty(prediction, target, reduction="none"), weight), error


def dueling(advantage: Float[Tensor, "*N A"], value: Float[Tensor, "*N 1"]) -> Float[Tensor, "*N A"]:
    """Action values of a network with two heads: `q = value + advantage - mean over actions of advantage`.

    Args:
        advantage: `[..., A]`, or `[..., A, M]` for atoms or quantiles.
        value: `[..., 1]`, or `[..., 1, M]`. The axis on which it has size 1 is that of the actions.

    Returns:
        q, shaped as advantage.

    Raises:
        ValueError: value is not advantage with one entry on the axis of the actions.

    Source: Wang et al. 2016, equation 9.
    """
    shape = advantage.shape
    if value.shape == (*shape[:-1], 1):
        action_axis = -1
    elif value.shape == (*shape[:-2], 1, shape[-1]):
        action_axis = -2
    else:
        raise ValueError(
            f"dueling: value has shape {tuple(value.shape)} and advantage {tuple(shape)}, expected [..., 1] with "
            "[..., A], or [..., 1, M] with [..., A, M]. It may broadcast. Give value an axis of size 1 for the actions."
        )
    return advantage + (value - advantage.mean(action_axis, keepdim=True))


def weighted_mean(
    function: str, sample: Float[Tensor, "*S N"], weight: Float[Tensor, "N"] | None
) -> Float[Tensor, "*S"]:
    """`mean over the last axis of weight * sample`; None weighs every sample by 1.

    Args:
        function: Who asks, for the message of an error.
        sample: `[..., N]`; carries a gradient.
        weight: `[N]`, taken as a constant.

    Returns:
        `[...]`, a scalar for `[N]`.

    Raises:
        ValueError: weight is not `[N]`.
    """
    if weight is None:
        return sample.mean(-1)
    require_shape(function, "[N]", sample.shape[-1:], weight=weight)
    # The division is on the side without a gradient, so that it costs one operation, not two.
    return sample @ (weight.detach() / weight.numel())


def require_shape(function: str, axes: str, shape: tuple[int, ...], /, **column: Tensor) -> None:
    """Refuse tensors of another shape, which torch would broadcast silently.

    Args:
        function: Who asks, for the message.
        axes: The shape in letters, as in "[N]".
        shape: The shape in numbers.
        **column: The tensors by argument name.

    Raises:
        ValueError: one of the tensors has another shape.
    """
    for name, tensor in column.items():
        if tensor.shape != shape:
            raise ValueError(
                f"{function}: {name} has shape {tuple(tensor.shape)}, expected {axes} = {tuple(shape)} as the other "
                "arguments have. It may broadcast. Squeeze, index or transpose the axis that differs."
            )
