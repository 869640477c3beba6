"""The config of an off-policy algorithm: short rollouts, and a learner with a replay buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rl_core.algorithm.config import AlgorithmConfig
from rl_core.config.section import Section
from rl_core.config.settings import EnvRunnerSettings, ReportingSettings
from rl_core.errors import ConfigError
from rl_core.learning.learner_chain import LearnerChain
from rl_core.learning.optimizer import OptimizerFactory
from rl_core.learning.replay_learner import ReplayLearner, ReplayObjective
from rl_core.learning.replay_settings import ReplaySettings
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import ModelSettings
from rl_core.module.spec import ModuleSpec

if TYPE_CHECKING:
    from rl_core.algorithm.components import Updater
    from rl_core.algorithm.replay_algorithm import ReplayAlgorithm


GRADIENT_STEPS_PER_ROLLOUT = 4
"""So many gradient steps share the cost of handing over a rollout and the weights; the policy lags that far behind."""


class ReplayAlgorithmConfig(AlgorithmConfig):
    """Base of the configs of DQN, SAC, TD3 and TQC."""

    objective: ClassVar[ReplayObjective[Any]]  # type: ignore[assignment] # losses on batches from the buffer
    default_module: ClassVar[type[RLModule]]
    """The module that is built unless `rl_module` names another; it takes what `module_settings` returns."""

    env_runners = Section(EnvRunnerSettings, num_envs_per_env_runner=1)
    training = Section(ReplaySettings)  # type: ignore[assignment] # the keywords of a section are not those of its base
    reporting = Section(ReportingSettings, min_sample_timesteps_per_iteration=1000)

    def build(self) -> ReplayAlgorithm:
        """Make the algorithm, with a copy of this config."""
        from rl_core.algorithm.replay_algorithm import ReplayAlgorithm

        return ReplayAlgorithm(self)

    def module_spec(self) -> ModuleSpec:
        """Describe the algorithm's own module; a `model_config` that is no `ModelSettings` is for a user's module."""
        settings = self.rl_module.settings
        if not isinstance(settings.model_config, ModelSettings):
            return super().module_spec()
        model_config = self.module_settings(settings.model_config, self.training.settings)
        return ModuleSpec(module_class=settings.module_class or self.default_module, model_config=model_config)

    @staticmethod
    def module_settings(model: ModelSettings, training: Any) -> Any:
        """Settings of `default_module`: the networks, and what the section `training` says of them."""
        raise NotImplementedError("The config of an off-policy algorithm defines module_settings.")

    def num_rollout_steps(self) -> int:
        """Work out the steps T per slot and rollout: by default what some gradient steps are due for, at least one."""
        runners = self.env_runners.settings
        if runners.rollout_fragment_length != "auto":
            return runners.rollout_fragment_length
        env_steps = GRADIENT_STEPS_PER_ROLLOUT * self.training.settings.env_steps_per_gradient_step
        num_slots = runners.num_envs_per_env_runner * max(1, runners.num_env_runners)
        return max(1, round(env_steps / num_slots))

    def make_learner(
        self,
        module: RLModule,
        *,
        make_optimizer: OptimizerFactory,
        seed: int,
        name: str,
        connectors: LearnerChain | None = None,
    ) -> Updater:
        """Make the learner of a module; see `AlgorithmConfig.make_learner`.

        Raises:
            ConfigError: the module or the buffer cannot do what the settings ask for.
        """
        self._check_lengths(module)
        return ReplayLearner(
            module,
            self.training.settings,
            self.objective,
            make_optimizer=make_optimizer,
            seed=seed,
            name=name,
            connectors=connectors,
        )

    def _check_lengths(self, module: RLModule) -> None:
        """Refuse a burn-in without memory, and sequences or windows longer than the buffer holds of an env slot."""
        settings = self.training.settings
        burn_in, capacity = settings.burn_in_len, settings.replay_buffer_config.capacity
        runners = self.env_runners.settings
        num_slots = runners.num_envs_per_env_runner * max(1, runners.num_env_runners)
        stored = -(-capacity // num_slots)
        most = settings.n_step if isinstance(settings.n_step, int) else settings.n_step[1]
        if most > stored:
            raise ConfigError(
                f"n_step: got {settings.n_step}, but replay_buffer_config.capacity={capacity} holds {stored} steps of "
                f"each of {num_slots} env slots, so that no window would be whole. Set capacity to at least "
                f"{most * num_slots}, or a smaller n_step."
            )
        if not module.is_recurrent:
            if burn_in:
                raise ConfigError(
                    f"burn_in_len: got {burn_in}, expected 0: {type(module).__name__} has no memory to bring up to "
                    "date. Leave it at 0, or give the module of DQN a memory: use_lstm, use_gru or use_attention."
                )
            return
        length = burn_in + module.max_seq_len
        if length > stored:
            raise ConfigError(
                f"burn_in_len={burn_in} plus max_seq_len={module.max_seq_len} is {length} steps, but "
                f"replay_buffer_config.capacity={capacity} holds {stored} steps of each of {num_slots} env slots, so "
                f"that no sequence would be whole. Set capacity to at least {length * num_slots}."
            )
