"""Targets and priorities over sequences: time-major segments `[L, S]` (R2D2) and rollouts `[T, B]`.

Axis letters beyond those of `rl_core.records`: L steps of a segment, S segments.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rl_core.ops.returns import reverse_scan
from rl_core.ops.value_learning import require_shape


def sequence_n_step_target(
    reward: Float[Tensor, "L S"],
    terminated: Bool[Tensor, "L S"],
    truncated: Bool[Tensor, "L S"],
    valid: Bool[Tensor, "L S"],
    next_value: Float[Tensor, "L S"],
    *,
    n_step: int,
    gamma: float,
) -> tuple[Float[Tensor, "L S"], Bool[Tensor, "L S"]]:
    """Bootstrapped returns of up to n steps from every step of a segment.

    `target[t] = reward[t] + ... + gamma^(k-1) * reward[t+k-1] + gamma^k * (1 - terminated[t+k-1]) * next_value[t+k-1]`

    k is n_step, or less where the window would leave the episode or the segment: it ends with the first step that is
    terminated (nothing is bootstrapped), truncated, last of the segment, or followed by an invalid step.

    Args:
        reward: `[L, S]`
        terminated: `[L, S]`, ends without a future.
        truncated: `[L, S]`, cuts: bootstrapped by `next_value` of that step.
        valid: `[L, S]`, False for padding, whose numbers are never read.
        next_value: `[L, S]`, of the state that each step led to: at a truncation that of the episode's last one.
        n_step: Longest window in steps, at least 1.
        gamma: Discount per step, 0 to 1.

    Returns:
        The targets `[L, S]`, 0 where there is none, and where there is one `[L, S]`: at the valid steps.

    Raises:
        ValueError: the shapes differ (they would broadcast silently), or n_step is below 1.

    Source: Kapturowski et al. 2019, section 2.3, without the rescaling; see `rescale`.
    """
    if n_step < 1:
        raise ValueError(f"sequence target: n_step is {n_step}, expected at least 1.")
    columns = {"terminated": terminated, "truncated": truncated, "valid": valid, "next_value": next_value}
    require_shape("sequence target", "[L, S]", reward.shape, **columns)

    one_step = torch.add(reward, next_value.masked_fill(terminated, 0.0), alpha=gamma).masked_fill_(~valid, 0.0)
    goes_on = valid[:-1] & valid[1:] & ~(terminated | truncated)[:-1]
    target = one_step.clone()
    for _ in range(min(n_step, len(reward)) - 1):  # each round makes the windows one step longer
        target[:-1] = torch.where(goes_on, torch.add(reward[:-1], target[1:], alpha=gamma), one_step[:-1])
    return target, valid


def rescale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Compress returns of any scale: `h(x) = sign(x) * (sqrt(|x| + 1) - 1) + epsilon * x`.

    Computed as `x / (sqrt(|x| + 1) + 1) + epsilon * x`, which is the same, and exact and differentiable around 0.

    Args:
        x: Returns or values of any shape.
        epsilon: Slope that is left for large x, at least 0; above 0 it keeps the inverse's slope bounded.

    Returns:
        Shaped as x.

    Source: Pohlen et al. 2018, proposition A.2.
    """
    return x / ((x.abs() + 1.0).sqrt_() + 1.0) + epsilon * x


def inverse_rescale(y: Tensor, epsilon: float = 1e-3) -> Tensor:
    """The x of which `rescale(x, epsilon)` is y.

    With `s = 1 + 2 * epsilon` and `v = 2 * y / (s + sqrt(s^2 + 4 * epsilon * |y|))`, `x = v * (|v| + 2)`. That is the
    paper's formula without its difference of near numbers, which costs single precision half of its digits.

    Args:
        y: Rescaled values of any shape.
        epsilon: The one given to `rescale`.

    Returns:
        Shaped as y.

    Source: Pohlen et al. 2018, proposition A.2.
    """
    slope = 1.0 + 2.0 * epsilon
    root = 2.0 * y / ((4.0 * epsilon * y.abs() + slope * slope).sqrt_() + slope)
    return root * (root.abs() + 2.0)


def sequence_priority(
    td_error: Float[Tensor, "L S"], valid: Bool[Tensor, "L S"], eta: float = 0.9
) -> Float[Tensor, "S"]:
    """Replay priority of a segment: `eta * max |td_error| + (1 - eta) * mean |td_error|` over its valid steps.

    Args:
        td_error: `[L, S]`
        valid: `[L, S]`, False for padding, whose errors are never read.
        eta: Weight of the largest error, 0 to 1.

    Returns:
        `[S]`, at least 0; 0 for a segment without a valid step.

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Kapturowski et al. 2019, section 2.3.
    """
    require_shape("sequence priority", "[L, S]", td_error.shape, valid=valid)
    size = td_error.detach().abs().masked_fill_(~valid, 0.0)
    mean = size.sum(0) / valid.sum(0).clamp_(min=1)
    return eta * size.amax(0) + (1.0 - eta) * mean


def discounted_returns_to_go(
    reward: Float[Tensor, "T B"], done: Bool[Tensor, "T B"], bootstrap: Float[Tensor, "B"], gamma: float
) -> Float[Tensor, "T B"]:
    """The discounted sum of the rewards from each step to the end of its episode.

    `y[t] = reward[t] + gamma * (1 - done[t]) * y[t + 1]`, with `y[T] = bootstrap`.

    Args:
        reward: `[T, B]`. To bootstrap a truncated episode, add gamma times its last value to its last reward.
        done: `[T, B]`, the episode ended with this step: nothing flows across.
        bootstrap: `[B]`, value of the state after the last step; not read where that step is done.
        gamma: Discount per step, 0 to 1.

    Returns:
        `[T, B]`

    Raises:
        ValueError: the shapes do not fit; they would broadcast silently.

    Source: Sutton and Barto 2018, equation 3.9.
    """
    require_shape("returns to go", "[T, B]", reward.shape, done=done)
    require_shape("returns to go", "[B]", reward.shape[1:], bootstrap=bootstrap)
    value = reward.clone()
    value[-1] += gamma * bootstrap.masked_fill(done[-1], 0.0)
    return reverse_scan(value, done.logical_not().to(value.dtype).mul_(gamma))
