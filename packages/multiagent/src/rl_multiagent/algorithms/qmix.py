"""QMIX and VDN: a group learns one value together, its members act by values of their own.

The group is made with `GroupedAgents`: for the learner it is one agent whose observations and actions are tuples.

Source: Rashid et al. 2018, "QMIX: Monotonic Value Function Factorisation"; Sunehag et al. 2018 for VDN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from rl_core.algorithm.replay_config import ReplayAlgorithmConfig
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import ModuleSettings, Positive, Schedule, check_schedule
from rl_core.learning.replay_learner import Draw, Group, Losses, ReplayObjective
from rl_core.learning.replay_settings import ReplaySettings
from rl_core.learning.schedule import value_at
from rl_core.module.settings import ModelSettings
from rl_core.ops.value_learning import double_q_value, select, td_loss, td_target
from rl_core.replay.records import Transitions
from rl_multiagent.module.team_q import Mixer, TeamQNetwork, TeamQSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class QMIXSettings(ReplaySettings):
    """Section `training` of QMIX and VDN."""

    lr: Schedule = 5e-4
    """Learning rate, constant or a schedule over env steps. Source: Rashid et al. 2018, appendix D.3."""
    train_batch_size_per_learner: Positive = 32
    """Transitions of the group drawn per gradient step."""
    env_steps_per_gradient_step: Annotated[float, Range(gt=0)] = 4.0
    """Env steps sampled for each gradient step."""
    tau: Annotated[float, Range(gt=0, le=1)] = 1.0
    """Share of the newest weights that goes into the target networks at each of their updates; 1 copies them."""
    target_network_update_freq: Annotated[int, Range(ge=0)] = 500
    """Env steps between updates of the target networks."""
    epsilon: Schedule = ((0.0, 1.0), (50_000.0, 0.05))
    """Probability that a member acts at random, a schedule over env steps. Source: Rashid et al. 2018, appendix D.3."""
    mixer: Mixer = "qmix"
    """`qmix`: a monotonic network of the members' values. `vdn`: their sum."""
    mixing_embed_dim: Annotated[int, Range(ge=1)] = 32
    """Units of the mixing network. Source: Rashid et al. 2018, section 5.2."""
    share_members: bool = True
    """One network for members of equal spaces, which is told who it plays; False gives each its own."""
    double_q: bool = True
    """Choose the next actions by the online networks. Source: van Hasselt et al. 2016."""
    td_error_loss_fn: Literal["huber", "mse"] = "mse"
    """Loss of the temporal-difference error. Source: Rashid et al. 2018, equation 6."""

    def check(self) -> None:
        """Check the schedule of epsilon too."""
        ReplaySettings.check(self)
        check_schedule("epsilon", self.epsilon, high=1.0)


def losses(
    module: TeamQNetwork, targets: Mapping[str, Any], batch: Transitions, settings: QMIXSettings, draw: Draw
) -> Losses:
    """Temporal-difference loss of the group's value."""
    q = module.outputs(module.agents, batch.obs)
    chosen = torch.stack([select(values, action) for values, action in zip(q, batch.action, strict=True)], -1)
    prediction = module.mixer(chosen, module.state_of(batch.obs))
    with torch.no_grad():
        next_q = module.outputs(targets["agents"], batch.next_obs)
        choosers = module.outputs(module.agents, batch.next_obs) if settings.double_q else next_q
        best = [double_q_value(values, chooser) for values, chooser in zip(next_q, choosers, strict=True)]
        next_value = targets["mixer"](torch.stack(best, -1), module.state_of(batch.next_obs))
        goal = td_target(batch.reward, batch.discount, next_value)
    weight = batch.weight if settings.replay_buffer_config.type == "prioritized" else None
    loss, error = td_loss(prediction, goal, weight, kind=settings.td_error_loss_fn)
    report: dict[str, Tensor] = {"td_loss": loss.detach(), "td_error": error.abs().mean(), "q_mean": prediction.mean()}
    return Losses({"q": loss}, {name: value.detach() for name, value in report.items()}, error)


def explore(module: TeamQNetwork, settings: QMIXSettings, env_steps: int) -> None:
    """Set epsilon to what its schedule says."""
    module.epsilon.fill_(value_at(settings.epsilon, env_steps))


OBJECTIVE = ReplayObjective(
    groups={"q": Group(parts=("agents", "mixer"))},
    targets=("agents", "mixer"),
    losses=losses,
    report=("td_loss", "td_error", "q_mean"),
    explore=explore,
)


class QMIXConfig(ReplayAlgorithmConfig):
    """Config of QMIX: `QMIXConfig().environment(env_of_groups).use(MultiAgent()).build()`."""

    name = "qmix"
    action_spaces = ("Tuple",)
    objective = OBJECTIVE
    default_module = TeamQNetwork
    training = Section(QMIXSettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
    rl_module = Section(ModuleSettings, model_config=ModelSettings(fcnet_activation="relu", initializer="torch"))

    @staticmethod
    def module_settings(model: ModelSettings, training: QMIXSettings) -> TeamQSettings:
        """Settings of the members' networks and the mixer."""
        return TeamQSettings(
            model=model,
            share_members=training.share_members,
            mixer=training.mixer,
            mixing_embed_dim=training.mixing_embed_dim,
        )


class VDNConfig(QMIXConfig):
    """Config of VDN, which is QMIX with the members' values added up."""

    name = "vdn"
    training = Section(QMIXSettings, mixer="vdn")
