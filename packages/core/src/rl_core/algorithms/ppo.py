"""Proximal policy optimisation: settings, `prepare`, `loss`.

Source: Schulman et al. 2017, "Proximal Policy Optimization Algorithms"; defaults from its table 3 and from Huang et
al. 2022, "The 37 Implementation Details of Proximal Policy Optimization".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from rl_core.algorithm.config import AlgorithmConfig
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.learning.learner import AdvantageSettings, Metrics, Objective, read_schedules
from rl_core.learning.segments import cut_segments, without_padding
from rl_core.module.rl_module import RLModule
from rl_core.ops.losses import KnownGradients, LossCoefficients, Terms, clipped_terms, differentiable
from rl_core.ops.returns import explained_variance, gae
from rl_core.records import Batch, Rollout
from rl_core.tree import tree_map


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOSettings(AdvantageSettings):
    """Section `training` of PPO."""

    clip_param: Annotated[float, Range(gt=0)] = 0.2
    """Bound of the probability ratio's distance from 1. Source: Schulman et al. 2017, table 3."""
    vf_clip_param: Annotated[float, Range(gt=0)] | None = None
    """Bound of the value's change per update; None for none, which works better. Source: Andrychowicz et al. 2021."""
    kl_coeff: Annotated[float, Range(ge=0)] = 0.0
    """Weight of KL(behavior || current) in the loss; 0 leaves the term out."""
    kl_target: Annotated[float, Range(gt=0)] = 0.01
    """Where the adaptive KL weight steers: it is doubled above 1.5 times this, halved below 1 / 1.5 of it.
    Source: Schulman et al. 2017, section 4."""


class Judgement(NamedTuple):
    """What a loss is to make of the steps of a rollout, `[T, B, ...]`."""

    advantage: Tensor
    value_target: Tensor
    log_prob: Tensor
    """Of the actions, under the policy that the loss compares the current one with."""
    dist_inputs: Tensor
    """Of that policy."""


Judge = Callable[[RLModule, Rollout, Tensor, Tensor, Any], Judgement]
"""`judge(module, rollout, value, next_value, settings)`, the values `[T, B]` of what was seen and of what followed."""


def prepare(
    module: RLModule,
    rollout: Rollout,
    settings: AdvantageSettings,
    *,
    values: tuple[Tensor, Tensor] | None = None,
    judge: Judge | None = None,
) -> tuple[Batch, Metrics]:
    """Estimate values and advantages `[T, B]` of a rollout and flatten it to samples, or segments of them.

    A feed-forward module gets the N real samples. A recurrent one gets all T * B, of which the segments pick the real
    ones.

    Args:
        module: Whose policy acted.
        rollout: Of it.
        settings: Of the algorithm.
        values: Of the observations `[T + 1, B]` and of the true next ones `[T, B]`, where a critic that is not the
            module's estimated them; None asks the module.
        judge: Estimates advantages and value targets; None is GAE for the policy that acted.
    """
    segments = None
    with torch.inference_mode():
        if values is not None:
            value, next_value = values
        else:
            obs, state = rollout.obs, rollout.state
            if state != ():  # a recurrent module takes one leading axis
                obs, state = (tree_map(lambda leaf: leaf.flatten(0, 1), tree) for tree in (obs, state))
            value = module.forward_value(obs, state).view(len(rollout.reward) + 1, -1)  # [T + 1, B]
            next_value = value[1:]
            if len(rollout.final_index):
                final_value = module.forward_value(rollout.final_obs, rollout.final_state)
                next_value = next_value.flatten().index_copy(0, rollout.final_index, final_value).view_as(next_value)
        if judge is not None:
            advantage, target, log_prob, dist_inputs = judge(module, rollout, value[:-1], next_value, settings)
        else:
            advantage = gae(
                rollout.reward,
                value[:-1],
                next_value,
                rollout.terminated,
                rollout.truncated,
                gamma=settings.gamma,
                lambda_=settings.lambda_,
            )
            target, dist_inputs = advantage + value[:-1], rollout.behavior_dist_inputs
            log_prob = module.distribution.log_prob(dist_inputs, rollout.action)
        real = None if rollout.valid is None else rollout.valid.flatten().nonzero().squeeze(-1)
        if rollout.state != ():
            segments = cut_segments(rollout.terminated | rollout.truncated, rollout.valid, module.max_seq_len)
            real = None

    def flat(column: Tensor) -> Tensor:
        column = column[: len(advantage)].flatten(0, 1)
        return column if real is None else column.index_select(0, real)

    batch = Batch(
        obs=tree_map(flat, rollout.obs),
        action=tree_map(flat, rollout.action),
        behavior_log_prob=flat(log_prob),
        behavior_dist_inputs=flat(dist_inputs),
        behavior_value=flat(value),
        advantage=flat(advantage),
        value_target=flat(target),
        state=tree_map(flat, rollout.state),
        segments=segments,
    )
    columns = (value[:-1], target) if rollout.valid is None else (value[:-1][rollout.valid], target[rollout.valid])
    return batch, {"explained_variance": float(explained_variance(*(column.flatten() for column in columns)))}


def loss(module: RLModule, batch: Batch, settings: PPOSettings) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Clipped surrogate, value loss and entropy bonus of one minibatch, plus a KL penalty if asked."""
    assert isinstance(settings.entropy_coeff, float), "settings_at reads the schedule"
    terms = partial(
        clipped_terms,
        behavior_log_prob=batch.behavior_log_prob,
        behavior_value=batch.behavior_value,
        value_target=batch.value_target,
        coefficients=LossCoefficients(
            clip=settings.clip_param,
            value_clip=settings.vf_clip_param,
            value=settings.vf_loss_coeff,
            entropy=settings.entropy_coeff,
        ),
    )
    total, report, dist_inputs = actor_critic_loss(module, batch, settings, terms, keep_graph=settings.kl_coeff > 0)
    if settings.kl_coeff > 0:
        kl = module.distribution.kl(batch.behavior_dist_inputs, dist_inputs).mean()
        total = total + settings.kl_coeff * kl
        report = {**report, "total_loss": total.detach(), "kl": kl.detach()}
    return total, report


def actor_critic_loss(
    module: RLModule,
    batch: Batch,
    settings: AdvantageSettings,
    terms: Callable[..., Terms],
    *,
    keep_graph: bool = False,
) -> tuple[Tensor, Mapping[str, Tensor], Tensor]:
    """Compute a loss of the probabilities, entropies and values that a module gives a minibatch.

    Where the module knows its gradients no graph is recorded: to walk through one takes more time than the arithmetic
    at the sizes of PPO's minibatches (256 samples, two layers of 64: 0.9 ms with, 0.55 without). The result is the
    same to rounding, and can be added to like any other tensor.

    Args:
        module: Whose parameters are to get gradients.
        batch: N samples.
        settings: Of the algorithm.
        terms: `terms(log_prob, entropy, value, advantage=advantage)`, each `[N]` and without a graph.
        keep_graph: Whether more terms are computed from the distribution's inputs, which then carry a graph.

    Returns:
        The loss, the scalars to report, and the distribution's inputs `[N, P]`.
    """
    advantage = batch.advantage
    if settings.normalize_advantage and len(advantage) > 1:
        std, mean = torch.std_mean(advantage)
        advantage = (advantage - mean).div_(std.add_(1e-8))
    terms = partial(terms, advantage=advantage)
    may_be_known = torch.is_grad_enabled() and batch.real is None and not keep_graph
    outputs = module.forward_train_vjp(batch.obs) if may_be_known else None
    if outputs is not None:
        with torch.inference_mode():
            scores = module.distribution.scores(outputs.dist_inputs, batch.action)
            found = terms(scores.log_prob, scores.entropy, outputs.value)
            dist_grad = scores.score * found.log_prob_grad.unsqueeze(-1)
            if found.entropy_grad:
                dist_grad.add_(scores.entropy_slope(), alpha=found.entropy_grad)
        gradients = partial(outputs.gradients, dist_grad, found.value_grad)
        total = KnownGradients.apply(found.report["total_loss"], gradients, *outputs.parameters)
        return total, found.report, outputs.dist_inputs.clone()
    dist_inputs, value = module.forward_train(batch.obs, batch.state)
    if batch.real is not None:
        dist_inputs, value = without_padding(dist_inputs, value, batch.real)
    log_prob, entropy = module.distribution.log_prob_and_entropy(dist_inputs, batch.action)
    total, report = differentiable(terms, log_prob, entropy, value)
    return total, report, dist_inputs


P = TypeVar("P", bound=PPOSettings)


def adapt(settings: P, metrics: Metrics) -> P:
    """Double or halve the KL weight when the KL is far from its target."""
    if settings.kl_coeff == 0.0:
        return settings
    if metrics["kl"] > 1.5 * settings.kl_target:
        return dataclasses.replace(settings, kl_coeff=settings.kl_coeff * 2.0)
    if metrics["kl"] < settings.kl_target / 1.5:
        return dataclasses.replace(settings, kl_coeff=settings.kl_coeff / 2.0)
    return settings


OBJECTIVE = Objective(prepare=prepare, loss=loss, settings_at=read_schedules, adapt=adapt, adaptive=("kl_coeff",))


class PPOConfig(AlgorithmConfig):
    """Config of PPO: `PPOConfig().environment("CartPole-v1").training(lr=1e-3).build()`."""

    name = "ppo"
    objective = OBJECTIVE
    training = Section(PPOSettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
