"""COMA: each member of a group is judged by what the group would have got, had only this member done something else.

The group is made with `GroupedAgents`: for the learner it is one agent whose observations and actions are tuples.

Source: Foerster et al. 2018, "Counterfactual Multi-Agent Policy Gradients". Here the critics' targets bootstrap from a
value function of the group's observations, where the paper bootstraps from the critic of the next actions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_core.algorithm.config import AlgorithmConfig
from rl_core.algorithms import ppo
from rl_core.config.section import Section
from rl_core.config.settings import EnvRunnerSettings, Fraction, Positive, Schedule
from rl_core.learning.learner import AdvantageSettings, Metrics, Objective, read_schedules
from rl_core.module.settings import ModelSettings
from rl_core.module.spec import ModuleSpec
from rl_core.ops.value_learning import select
from rl_core.records import Batch, Rollout
from rl_multiagent.module.members import MemberSettings
from rl_multiagent.module.team_actor_critic import TeamActorCritic


@dataclass(frozen=True, slots=True, kw_only=True)
class COMASettings(AdvantageSettings):
    """Section `training` of COMA."""

    lr: Schedule = 5e-4
    """Learning rate, constant or a schedule over env steps. Source: Foerster et al. 2018, section 5."""
    train_batch_size_per_learner: Positive = 256
    """Env steps per update."""
    minibatch_size: Positive = 256
    """Samples per optimiser step; by default the whole batch at once."""
    num_epochs: Positive = 1
    """Passes over each batch; more than 1 is not on-policy any more."""
    lambda_: Fraction = 0.8
    """Of the critics' targets. Source: Foerster et al. 2018, section 5."""
    entropy_coeff: Schedule = 0.01
    """Weight of the entropy bonus, constant or a schedule over env steps."""
    share_members: bool = True
    """One policy network for members of equal spaces, which is told who it plays; False gives each its own."""


def prepare(module: TeamActorCritic, rollout: Rollout, settings: COMASettings) -> tuple[Batch, Metrics]:
    """Estimate the critics' targets `[N]` and the members' counterfactual advantages `[N, n]`."""
    batch, metrics = ppo.prepare(module, rollout, settings)
    with torch.inference_mode():
        advantage = _advantage(module, batch.obs, batch.action)
    return dataclasses.replace(batch, advantage=advantage), metrics


def _advantage(module: TeamActorCritic, obs: Any, action: Any) -> Tensor:
    """What each member's action was worth beyond what its policy does on average, `[N, n]`.

    `A_i(s, u) = Q(s, u) - sum over a of pi_i(a) Q(s, (u without u_i, a))`. Source: Foerster et al. 2018, equation 4.
    """
    members = zip(module.counterfactual(obs, action), module.outputs(module.agents, obs), action, strict=True)
    return torch.stack([select(q, own) - (logits.softmax(-1) * q).sum(-1) for q, logits, own in members], -1)


def loss(module: TeamActorCritic, batch: Batch, settings: COMASettings) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Policy gradient and entropy bonus summed over members, and the squared errors of both critics."""
    advantage = batch.advantage
    if settings.normalize_advantage:
        std, mean = torch.std_mean(advantage)
        advantage = (advantage - mean) / (std + 1e-8)
    log_probs = [logits.log_softmax(-1) for logits in module.outputs(module.agents, batch.obs)]
    log_prob = torch.stack([select(own, action) for own, action in zip(log_probs, batch.action, strict=True)], -1)
    entropy = -torch.stack([(own.exp() * own).sum(-1).mean() for own in log_probs]).sum()
    policy_loss = -(advantage * log_prob).sum(-1).mean()
    q = module.counterfactual(batch.obs, batch.action)
    chosen = torch.stack([select(own, action) for own, action in zip(q, batch.action, strict=True)], -1)
    q_loss = (chosen - batch.value_target.unsqueeze(-1)).square().mean()
    value_loss = (module.forward_value(batch.obs) - batch.value_target).square().mean()
    assert isinstance(settings.entropy_coeff, float), "settings_at reads the schedule"
    total = policy_loss + settings.vf_loss_coeff * (q_loss + value_loss) - settings.entropy_coeff * entropy
    with torch.no_grad():
        log_ratio = log_prob.sum(-1) - batch.behavior_log_prob
        kl = (log_ratio.exp() - 1 - log_ratio).mean()
    report = {"policy_loss": policy_loss, "value_loss": value_loss, "q_loss": q_loss, "entropy": entropy, "kl": kl}
    return total, {"total_loss": total.detach(), **{name: figure.detach() for name, figure in report.items()}}


OBJECTIVE = Objective(prepare=prepare, loss=loss, settings_at=read_schedules)


class COMAConfig(AlgorithmConfig):
    """Config of COMA: `COMAConfig().environment(env_of_groups).use(MultiAgent()).build()`."""

    name = "coma"
    action_spaces = ("Tuple",)
    objective = OBJECTIVE
    env_runners = Section(EnvRunnerSettings, num_envs_per_env_runner=8)
    training = Section(COMASettings)  # type: ignore[assignment] # the keywords of a section are not those of its base

    def module_spec(self) -> ModuleSpec:
        """Describe the group's module: `TeamActorCritic`, unless `rl_module` names another."""
        settings = self.rl_module.settings
        if not isinstance(settings.model_config, ModelSettings):
            return super().module_spec()
        model_config = MemberSettings(model=settings.model_config, share_members=self.training.settings.share_members)
        return ModuleSpec(module_class=settings.module_class or TeamActorCritic, model_config=model_config)
