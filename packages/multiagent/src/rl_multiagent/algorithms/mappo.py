"""Multi-agent PPO: policies act on what they see themselves, one critic that sees everyone judges them all.

Source: Yu et al. 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from rl_core.algorithm.algorithm import Algorithm
from rl_core.algorithms import ppo
from rl_core.algorithms.ppo import PPOConfig, PPOSettings
from rl_core.config.check import Range
from rl_core.config.section import Section
from rl_core.config.settings import Schedule, check_schedule
from rl_core.errors import ConfigError
from rl_core.learning.learner import Metrics, Objective, read_schedules
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import Activation, ModelSettings, Size
from rl_core.module.spec import ModuleSpec
from rl_core.records import Batch, Rollout
from rl_multiagent.module.actor import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class MAPPOSettings(PPOSettings):
    """Section `training` of MAPPO; `num_epochs` and `minibatch_size` hold for the critic too."""

    vf_loss_coeff: Annotated[float, Range(ge=0, le=0)] = 0.0
    """Always 0: the critic has a loss and an optimizer of its own."""
    critic_hiddens: tuple[Size, ...] = (128, 128)
    """Units of the critic's dense layers."""
    critic_activation: Activation = "relu"
    """Activation of those layers. Source: Yu et al. 2022, appendix."""
    critic_lr: Schedule | None = None
    """Learning rate of the critic; None takes `lr`."""
    critic_moments_decay: Annotated[float, Range(ge=0, lt=1)] = 0.99
    """Weight that mean and spread of the value targets keep at each update. Source: Yu et al. 2022, section 5.1, who
    update them slower, at every minibatch."""

    def check(self) -> None:
        """Check the critic's schedule too."""
        PPOSettings.check(self)
        if self.critic_lr is not None:
            check_schedule("critic_lr", self.critic_lr)
        if self.vf_clip_param is not None:
            raise ConfigError(f"vf_clip_param: got {self.vf_clip_param}, expected None: MAPPO's critic is not clipped.")


def prepare(module: RLModule, rollout: Rollout, settings: MAPPOSettings) -> tuple[Batch, Metrics]:
    """Estimate advantages from what the central critic said, and flatten the rollout as PPO does."""
    return ppo.prepare(module, rollout, settings, values=(rollout.extras["value"], rollout.extras["next_value"]))


def loss(module: RLModule, batch: Batch, settings: MAPPOSettings) -> tuple[Tensor, Mapping[str, Tensor]]:
    """PPO's loss of one minibatch without the value function's."""
    total, report = ppo.loss(module, batch, settings)
    return total, {name: value for name, value in report.items() if name != "value_loss"}


OBJECTIVE = Objective(prepare=prepare, loss=loss, settings_at=read_schedules, adapt=ppo.adapt, adaptive=("kl_coeff",))


class MAPPOConfig(PPOConfig):
    """Config of MAPPO: `MAPPOConfig().environment(env).use(MultiAgent(policies=...)).build()`."""

    name = "mappo"
    objective = OBJECTIVE  # type: ignore[assignment] # on settings that add to PPO's
    training = Section(MAPPOSettings)  # type: ignore[assignment] # the keywords of a section are not those of its base

    def build(self) -> Algorithm:
        """Make the algorithm, with a copy of this config.

        Raises:
            ConfigError: it is not used with `MultiAgent`.
        """
        if not self.extensions:
            raise ConfigError("MAPPO is for many agents: call config.use(MultiAgent(...)), or take PPOConfig.")
        return super().build()

    def module_spec(self) -> ModuleSpec:
        """Describe the policies' module: `Actor`, unless `rl_module` names another."""
        spec = super().module_spec()
        if spec.module_class is None and isinstance(spec.model_config, ModelSettings):
            return dataclasses.replace(spec, module_class=Actor)
        return spec
