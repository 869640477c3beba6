"""IMPALA: actor-critic on rollouts of older policies, corrected by V-trace; runners and learner do not wait.

Source: Espeholt et al. 2018, "IMPALA: Scalable Distributed Deep-RL with Importance Weighted Actor-Learner
Architectures".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypeVar

from torch import Tensor

from rl_core.algorithm.async_config import AsyncConfig, AsyncSettings
from rl_core.algorithms.a2c import loss
from rl_core.algorithms.ppo import Judgement, prepare
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import Schedule
from rl_core.learning.learner import Objective, read_schedules
from rl_core.module.rl_module import RLModule
from rl_core.ops.returns import VTrace, vtrace
from rl_core.records import Rollout
from rl_core.tree import tree_map

Clip = Annotated[float, Range(gt=0)]


@dataclass(frozen=True, kw_only=True)
class VTraceSettings(AsyncSettings):
    """What algorithms that learn by V-trace share."""

    vtrace_clip_rho_threshold: Clip = 1.0
    """Bound of the importance weights in the value targets. Source: Espeholt et al. 2018, table D.1."""
    vtrace_clip_c_threshold: Clip = 1.0
    """Bound of the importance weights along the trace. Source: as above."""
    vtrace_clip_pg_rho_threshold: Clip = 1.0
    """Bound of the importance weights of the policy gradient. Source: as above."""


@dataclass(frozen=True, kw_only=True)
class IMPALASettings(VTraceSettings):
    """Section `training` of IMPALA."""

    lr: Schedule = 6e-4
    """Learning rate, constant or a schedule over env steps. Source: Espeholt et al. 2018, table D.1."""
    entropy_coeff: Schedule = 0.01
    """Weight of the entropy bonus, constant or a schedule over env steps. Source: as above, for means over steps."""


S = TypeVar("S", bound=VTraceSettings)


def correct(rollout: Rollout, value: Tensor, next_value: Tensor, log_ratio: Tensor, settings: VTraceSettings) -> VTrace:
    """Compute V-trace of a rollout, see `ops.returns.vtrace`."""
    return vtrace(
        rollout.reward,
        value,
        next_value,
        rollout.terminated,
        rollout.truncated,
        log_ratio,
        gamma=settings.gamma,
        lambda_=settings.lambda_,
        clip_rho=settings.vtrace_clip_rho_threshold,
        clip_c=settings.vtrace_clip_c_threshold,
        clip_pg_rho=settings.vtrace_clip_pg_rho_threshold,
    )


def policy_of(module: RLModule, rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Ask a module for its distribution's inputs `[T, B, P]` and the log-probabilities `[T, B]` of a rollout's actions.

    A module with memory starts each step from the state that the acting policy had there. It is not asked about steps
    that are not real, whose zeros need not be an observation: these keep the inputs of the acting policy.
    """
    real = slice(None) if rollout.valid is None else rollout.valid.flatten()
    num_steps = len(rollout.reward)
    obs, state = (
        tree_map(lambda leaf: leaf[:num_steps].flatten(0, 1)[real], tree) for tree in (rollout.obs, rollout.state)
    )
    dist_inputs, _ = module.forward_policy(obs, state)
    if rollout.valid is not None:
        found, dist_inputs = dist_inputs, rollout.behavior_dist_inputs.flatten(0, 1).clone()
        dist_inputs[real] = found.to(dist_inputs.dtype)  # in mixed precision it is in half
    dist_inputs = dist_inputs.view_as(rollout.behavior_dist_inputs)
    return dist_inputs, module.distribution.log_prob(dist_inputs, rollout.action)


def judge(module: RLModule, rollout: Rollout, value: Tensor, next_value: Tensor, settings: VTraceSettings) -> Judgement:
    """Correct a rollout towards the current policy."""
    behavior = rollout.behavior_dist_inputs
    behavior_log_prob = module.distribution.log_prob(behavior, rollout.action)
    log_ratio = policy_of(module, rollout)[1] - behavior_log_prob
    target, advantage = correct(rollout, value, next_value, log_ratio, settings)
    return Judgement(advantage, target, behavior_log_prob, behavior)


OBJECTIVE = Objective(prepare=partial(prepare, judge=judge), loss=loss, settings_at=read_schedules)


class IMPALAConfig(AsyncConfig):
    """Config of IMPALA: `IMPALAConfig().environment("CartPole-v1").env_runners(num_env_runners=2).build()`."""

    name = "impala"
    objective = OBJECTIVE
    training = Section(IMPALASettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
