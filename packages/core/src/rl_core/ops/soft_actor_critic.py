"""Targets and losses of maximum-entropy actor-critics (SAC), and TD3's smoothed actions, over samples `[N]`.

Axis letters beyond those of `rl_core.records`: A actions. `alpha` is the temperature, the worth of a nat of entropy.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from rl_core.ops.value_learning import require_shape

# exp of it is 0 in every dtype, so a log probability below it adds nothing, and 0 * (-inf) = NaN is avoided.
_IMPOSSIBLE = -1e3


def soft_target(
    reward: Float[Tensor, "N"],
    discount: Float[Tensor, "N"],
    next_q: Float[Tensor, "N"],
    next_log_prob: Float[Tensor, "N"],
    alpha: Float[Tensor, ""] | float,
) -> Float[Tensor, "N"]:
    """The bootstrapped target with an entropy bonus: `reward + discount * (next_q - alpha * next_log_prob)`.

    Args:
        reward: `[N]`
        discount: `[N]`, the factor of what follows: gamma^n, and 0 where the episode terminated.
        next_q: `[N]`, usually the smaller of two target critics, of an action drawn from the current policy.
        next_log_prob: `[N]`, of that action.
        alpha: Temperature, at least 0: a number or a tensor without axes.

    Returns:
        `[N]`

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Haarnoja et al. 2018b, equations 3 and 5.
    """
    require_shape("soft target", "[N]", reward.shape, discount=discount, next_q=next_q, next_log_prob=next_log_prob)
    return torch.addcmul(reward, discount, next_q - _temperature("soft target", alpha) * next_log_prob)


def discrete_soft_value(
    q: Float[Tensor, "N A"], log_prob: Float[Tensor, "N A"], alpha: Float[Tensor, ""] | float
) -> Float[Tensor, "N"]:
    """The expected value with entropy bonus over all actions: `sum_a p[a] * (q[a] - alpha * log p[a])`.

    Args:
        q: `[N, A]`, finite.
        log_prob: `[N, A]`, normalised; minus infinity where an action is not allowed, which adds nothing.
        alpha: Temperature, at least 0: a number or a tensor without axes.

    Returns:
        `[N]`

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Christodoulou 2019, equation 10.
    """
    require_shape("discrete soft value", "[N, A]", q.shape, log_prob=log_prob)
    log_prob = log_prob.clamp(min=_IMPOSSIBLE)
    return (log_prob.exp() * (q - _temperature("discrete soft value", alpha) * log_prob)).sum(-1)


def actor_loss(
    q: Float[Tensor, "N"], log_prob: Float[Tensor, "N"], alpha: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """The policy's loss `mean(alpha * log_prob - q)` for reparameterised actions.

    Args:
        q: `[N]`, of actions drawn from the policy; carries the gradient that reaches the policy through the action.
        log_prob: `[N]`, of those actions; carries a gradient.
        alpha: Temperature, taken as a constant: a number or a tensor without axes.

    Returns:
        The scalar loss.

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Haarnoja et al. 2018b, equation 9.
    """
    require_shape("actor loss", "[N]", q.shape, log_prob=log_prob)
    return (_temperature("actor loss", alpha) * log_prob - q).mean()


def discrete_actor_loss(
    q: Float[Tensor, "N A"], log_prob: Float[Tensor, "N A"], alpha: Float[Tensor, ""] | float
) -> Float[Tensor, ""]:
    """The policy's loss over all actions: `mean over samples of sum_a p[a] * (alpha * log p[a] - q[a])`.

    Args:
        q: `[N, A]`, finite, taken as constants.
        log_prob: `[N, A]`, normalised; carry a gradient. Minus infinity where an action is not allowed.
        alpha: Temperature, taken as a constant: a number or a tensor without axes.

    Returns:
        The scalar loss.

    Raises:
        ValueError: the shapes differ; they would broadcast silently.

    Source: Christodoulou 2019, equation 12.
    """
    return discrete_soft_value(q.detach(), log_prob, alpha).mean().neg()


def temperature_loss(
    log_alpha: Float[Tensor, ""], log_prob: Float[Tensor, "N"], target_entropy: float
) -> Float[Tensor, ""]:
    """The loss that raises the temperature while the policy's entropy is below the target, and lowers it above.

    `loss = -log_alpha * (mean(log_prob) + target_entropy)`

    The paper has alpha where log_alpha stands, whose gradient is alpha times this one: it stalls where alpha is small.
    The authors' program uses the logarithm, as here.

    Args:
        log_alpha: The parameter, a tensor without axes; carries a gradient.
        log_prob: `[N]`, of actions drawn from the policy, or of discrete ones the negative entropies; constants.
        target_entropy: Entropy to keep, in nats; usual is minus the number of continuous action dimensions.

    Returns:
        The scalar loss.

    Raises:
        ValueError: log_alpha has axes.

    Source: Haarnoja et al. 2018b, equation 18.
    """
    require_shape("temperature loss", "[]", (), log_alpha=log_alpha)
    return -log_alpha * (log_prob.detach().mean() + target_entropy)


def smoothed_action(
    action: Float[Tensor, "N *D"],
    noise: Float[Tensor, "N *D"],
    clip: float,
    low: Float[Tensor, "*D"],
    high: Float[Tensor, "*D"],
) -> Float[Tensor, "N *D"]:
    """The target policy's action with bounded noise: `clamp(action + clamp(noise, -clip, clip), low, high)`.

    Args:
        action: `[N, ...]`, of the target policy.
        noise: `[N, ...]`, drawn from a normal distribution of the wanted standard deviation.
        clip: Bound of the noise, at least 0, in the unit of the action.
        low: `[...]`, smallest allowed action.
        high: `[...]`, largest allowed action.

    Returns:
        `[N, ...]`

    Raises:
        ValueError: the shapes do not fit; they would broadcast silently.

    Source: Fujimoto et al. 2018, equation 14, with the bounds of algorithm 1.
    """
    require_shape("smoothed action", "[N, ...]", action.shape, noise=noise)
    require_shape("smoothed action", "[...]", action.shape[1:], low=low, high=high)
    return (action + noise.clamp(-clip, clip)).clamp(low, high)


def _temperature(function: str, alpha: Tensor | float) -> Tensor | float:
    """Alpha as a constant; a tensor with axes would broadcast."""
    if not isinstance(alpha, Tensor):
        return alpha
    require_shape(function, "[]", (), alpha=alpha)
    return alpha.detach()
