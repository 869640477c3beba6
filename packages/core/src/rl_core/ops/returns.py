"""Advantages and returns over time-major tensors `[T, B]`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def reverse_scan(value: Float[Tensor, "T B"], decay: Float[Tensor, "T B"]) -> Float[Tensor, "T B"]:
    """Solve `y[t] = value[t] + decay[t] * y[t + 1]`, with `y[T] = 0`, in log2(T) vectorised rounds.

    Args:
        value: `[T, B]`, the term added at each step.
        decay: `[T, B]`, the factor of what follows.

    Returns:
        `[T, B]`, the sums y.

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: the parallel scan of Hillis and Steele 1986 over the maps `y -> value + decay * y`.
    """
    if decay.shape != value.shape:
        raise ValueError(
            f"reverse scan: decay has shape {tuple(decay.shape)}, expected [T, B] = {tuple(value.shape)} as value has. "
            "It would broadcast. Squeeze, index or expand the axis that differs."
        )
    result, factor = value.clone(), decay
    shift = 1
    while shift < result.shape[0]:
        result[:-shift] += factor[:-shift] * result[shift:]
        factor = torch.cat((factor[:-shift] * factor[shift:], factor[-shift:]))
        shift *= 2
    return result


def gae(
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T B"],
    next_value: Float[Tensor, "T B"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    *,
    gamma: float,
    lambda_: float,
) -> Float[Tensor, "T B"]:
    """Generalised advantage estimation.

    `delta[t] = reward[t] + gamma * (1 - terminated[t]) * next_value[t] - value[t]`
    `advantage[t] = delta[t] + gamma * lambda * (1 - done[t]) * advantage[t + 1]`, done = terminated or truncated.

    Args:
        reward: `[T, B]`
        value: `[T, B]`, of the observations acted on.
        next_value: `[T, B]`, of the true next observations: at a truncation that of the episode's last one.
        terminated: `[T, B]`, ends without a future: nothing is bootstrapped.
        truncated: `[T, B]`, cuts: bootstrapped by `next_value`, no advantage flows across.
        gamma: Discount per step, 0 to 1.
        lambda_: Trade of bias (0) for variance (1).

    Returns:
        `[T, B]` advantages; value targets are `advantage + value`.

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Schulman et al. 2016, equations 11 to 16.
    """
    columns = {"value": value, "next_value": next_value, "terminated": terminated, "truncated": truncated}
    for name, tensor in columns.items():
        if tensor.shape != reward.shape:
            raise ValueError(
                f"GAE: {name} has shape {tuple(tensor.shape)}, expected [T, B] = {tuple(reward.shape)} as reward has. "
                "It would broadcast. Squeeze or index the extra axis."
            )
    delta = reward + gamma * next_value.masked_fill(terminated, 0.0) - value
    decay = (terminated | truncated).logical_not().to(delta.dtype).mul_(gamma * lambda_)
    return reverse_scan(delta, decay)


class VTrace(NamedTuple):
    """Corrected targets `[T, B]`."""

    value_target: Tensor
    """v_s: what the value function shall learn."""
    advantage: Tensor
    """What weights the policy gradient."""


def vtrace(
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T B"],
    next_value: Float[Tensor, "T B"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    log_ratio: Float[Tensor, "T B"],
    *,
    gamma: float,
    lambda_: float = 1.0,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
    clip_pg_rho: float = 1.0,
) -> VTrace:
    """V-trace: value targets and advantages for a policy that is not the one that acted.

    `rho[t] = min(clip_rho, ratio[t])`, `c[t] = lambda min(clip_c, ratio[t])`, done = terminated or truncated.
    `delta[t] = rho[t] (reward[t] + gamma (1 - terminated[t]) next_value[t] - value[t])`
    `v[t] - value[t] = delta[t] + gamma c[t] (1 - done[t]) (v[t + 1] - value[t + 1])`
    `advantage[t] = min(clip_pg_rho, ratio[t]) (reward[t] + gamma (1 - terminated[t]) v_next[t] - value[t])`, where
    `v_next[t]` is `v[t + 1]` within an episode and `next_value[t]` at its end and in the last row.

    Args:
        reward: `[T, B]`
        value: `[T, B]`, of the observations acted on.
        next_value: `[T, B]`, of the true next observations: at a truncation that of the episode's last one.
        terminated: `[T, B]`, ends without a future.
        truncated: `[T, B]`, cuts: bootstrapped by `next_value`, nothing flows across.
        log_ratio: `[T, B]`, log of pi(action) / mu(action), the learned policy over the one that acted.
        gamma: Discount per step, 0 to 1.
        lambda_: Trade of variance (1) for bias (0), 0 to 1.
        clip_rho: Bound of the weights that decide which policy's value is learned, > 0.
        clip_c: Bound of the weights that decide how fast it is learned, > 0.
        clip_pg_rho: Bound of the weights of the policy gradient, > 0.

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Espeholt et al. 2018, IMPALA, section 4.1 and equation 1; remark 2 for lambda.
    """
    columns = {"value": value, "next_value": next_value, "terminated": terminated, "truncated": truncated}
    for name, tensor in {**columns, "log_ratio": log_ratio}.items():
        if tensor.shape != reward.shape:
            raise ValueError(
                f"V-trace: {name} has shape {tuple(tensor.shape)}, expected [T, B] = {tuple(reward.shape)} as reward "
                "has. It would broadcast. Squeeze or index the extra axis."
            )
    ratio, done = log_ratio.exp(), terminated | truncated
    delta = ratio.clamp(max=clip_rho) * (reward + gamma * next_value.masked_fill(terminated, 0.0) - value)
    correction = reverse_scan(delta, (gamma * lambda_ * ratio.clamp(max=clip_c)).masked_fill(done, 0.0))
    following = torch.cat((correction[1:], torch.zeros_like(correction[:1]))).masked_fill(done, 0.0)
    corrected_next = (next_value + following).masked_fill(terminated, 0.0)
    advantage = ratio.clamp(max=clip_pg_rho) * (reward + gamma * corrected_next - value)
    return VTrace(value + correction, advantage)


def explained_variance(prediction: Float[Tensor, "N"], target: Float[Tensor, "N"]) -> Tensor:
    """Share of the target's variance that the prediction explains: `1 - var(target - prediction) / var(target)`.

    Args:
        prediction: `[N]`
        target: `[N]`

    Returns:
        A scalar: 1 is perfect, 0 no better than the mean, NaN where the target does not vary.

    Raises:
        ValueError: the shapes differ; they would broadcast silently.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"explained variance: prediction has shape {tuple(prediction.shape)}, expected [N] = "
            f"{tuple(target.shape)} as target has. It would broadcast. Squeeze or index the axis that differs."
        )
    variance = target.var(correction=0)
    share = 1.0 - (target - prediction).var(correction=0) / variance
    return torch.where(variance > 0, share, torch.full_like(share, torch.nan))
