"""The settings that every algorithm has, one frozen dataclass per section of the config."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal

from rl_core.config.check import Range, Settings, build_settings
from rl_core.errors import ConfigError
from rl_core.module.settings import ModelSettings

Positive = Annotated[int, Range(ge=1)]
Fraction = Annotated[float, Range(ge=0, le=1)]
Schedule = float | tuple[tuple[float, float], ...]
"""A constant, or points `((env_step, value), ...)` joined by straight lines and constant outside."""


def check_schedule(name: str, schedule: Schedule, *, low: float = 0.0, high: float = math.inf) -> None:
    """Refuse a schedule whose values leave `[low, high]` or whose steps do not increase."""
    points = ((0.0, schedule),) if isinstance(schedule, float) else schedule
    steps = [point[0] for point in points]
    if not points or any(later <= earlier for earlier, later in pairwise(steps)):
        raise ConfigError(f"{name}: got {schedule!r}, expected points [[env_step, value], ...] with increasing steps.")
    for _, value in points:
        if not low <= value <= high or not math.isfinite(value):
            raise ConfigError(f"{name}: got {schedule!r}, expected values from {low:g} to {high:g}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSettings(Settings):
    """Section `environment`: which env, and how its spaces are used."""

    env: Any = field(default=None, kw_only=False)
    """A registered gymnasium id, an env class, or a callable that takes `env_config` and returns an env."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the env."""
    clip_actions: bool = True
    """Clip Box actions to their bounds on the way to the env. Source: Huang et al. 2022, continuous detail 4."""
    normalize_actions: bool = False
    """Take the module's Box actions as lying in [-1, 1] and scale them to the env's bounds."""
    disable_env_checking: bool = False
    """Skip `check_env` at build time and the check of every rollout for values outside the observation space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvRunnerSettings(Settings):
    """Section `env_runners`: how experience is sampled."""

    num_env_runners: Annotated[int, Range(ge=0)] = 0
    """Number of runners besides the one in this process. Only 0 can be had in this version."""
    num_envs_per_env_runner: Positive = 8
    """Env slots B that step together."""
    gym_env_vectorize_mode: Literal["sync", "async", "async_shared_memory", "vector_entry_point"] = "sync"
    """How gymnasium steps the slots: one after the other, in processes, or by the env's own vectorised class."""
    rollout_fragment_length: Positive | Literal["auto"] = "auto"
    """Steps T per slot and rollout; `auto` divides the train batch by the number of slots, rounded up."""
    env_to_module_connector: tuple[Any, ...] = ()
    """Observation (and reward) connectors, in order, before the required ones."""
    module_to_env_connector: tuple[Any, ...] = ()
    """Action connectors, in order, before the required one."""
    bad_observations: Literal["raise", "drop"] = "raise"
    """Where a connector cannot use an observation (bytes that do not decode, NaN): `raise` ends the run; `drop` ends
    that slot's segment, leaves the step out of training, and counts it in `env_runners/num_bad_observations`."""
    metrics_num_episodes_for_smoothing: Positive = 100
    """Finished episodes that `env_runners/episode_return_mean` averages over."""

    def check(self) -> None:
        """Refuse remote runners."""
        if self.num_env_runners:
            raise ConfigError(
                f"num_env_runners: got {self.num_env_runners}, expected 0: this version of rl-core samples in its own "
                "process. Raise num_envs_per_env_runner, or use gym_env_vectorize_mode='async' for slow envs."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings(Settings):
    """Section `training`: what every algorithm's learner has; algorithms add their own fields."""

    gamma: Fraction = 0.99
    """Discount per step."""
    lr: Schedule = 3e-4
    """Learning rate, constant or a schedule over env steps. Source: Schulman et al. 2017, table 3."""
    adam_epsilon: Annotated[float, Range(gt=0)] = 1e-5
    """Added to Adam's denominator. Source: Huang et al. 2022, core detail 3."""
    train_batch_size_per_learner: Positive = 2048
    """Env steps per iteration. Source: Schulman et al. 2017, table 3."""
    grad_clip: Annotated[float, Range(gt=0)] | None = 0.5
    """Bound of the gradient, None for none. Source: Huang et al. 2022, core detail 11."""
    grad_clip_by: Literal["global_norm", "norm", "value"] = "global_norm"
    """Bound the norm of all gradients together, of each tensor, or each number."""

    def check(self) -> None:
        """Check the learning rate's schedule."""
        check_schedule("lr", self.lr)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportingSettings(Settings):
    """Section `reporting`: how much work one call of `train` does."""

    min_sample_timesteps_per_iteration: Annotated[int, Range(ge=0)] = 0
    """Env steps before `train` returns: it repeats its training step until it has sampled so many; 0 is once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSettings(Settings):
    """Section `learners`: where and with what the update runs."""

    device: str = "cpu"
    """Torch device of the learner, such as `cpu` or `cuda:0`. Sampling stays on the CPU."""
    num_threads: Positive | Literal["auto"] = "auto"
    """Torch threads of this process. `auto` is OMP_NUM_THREADS where the user set it, else 1 below a million
    parameters and all cores above: small nets are slower with several threads."""
    optimizer_fn: Callable[..., Any] | None = None
    """A function `(parameters, settings)` that returns a torch optimizer, or several for groups of parameters.
    `parameters` maps names to the parameters to train, `settings` is the section `training`. Off-policy algorithms call
    it once for each of their losses. Learning rates are then its own. None is Adam over one flat buffer."""
    lr_scheduler_fns: tuple[Callable[..., Any], ...] = ()
    """Functions `(optimizer)` that each return a torch learning rate scheduler. All of them step after every optimiser
    step, in this order, from `lr` on."""
    learner_connector: tuple[Any, ...] = ()
    """Learner connectors, in order: what changes a rollout before it is learned from, such as intrinsic rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings(Settings):
    """Section `evaluation`: separate episodes in envs of their own."""

    evaluation_interval: Annotated[int, Range(ge=0)] = 0
    """Iterations between evaluations; 0 evaluates only when asked."""
    evaluation_duration: Positive = 20
    """Episodes per evaluation, exactly."""
    evaluation_num_envs: Positive | Literal["auto"] = "auto"
    """Env slots; `auto` is one per episode, up to 32 (asynchronous ones: up to `num_envs_per_env_runner`). Each slot
    plays its share of the episodes, so that short ones are not favoured."""
    explore: bool = True
    """Draw actions from the policy, as in training: DQN's with epsilon, TD3's with noise. False takes the mode, as
    `Policy.act` does. The figures in `docs/results.md` are of True unless they say otherwise."""
    evaluation_env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the env that differ from `env_config` in evaluation, such as a longer time limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSettings(Settings):
    """Section `rl_module`: the neural network."""

    module_class: Any = None
    """A class derived from RLModule, or an instance of one; None is the algorithm's default."""
    model_config: dict[str, Any] | Settings = field(default_factory=dict)
    """Settings of the default module (`ModelSettings` or their names; those not named stay as they are), or keyword
    arguments of your own class."""

    def check(self) -> None:
        """Make settings of names and values, unless they are keyword arguments of an own module class."""
        own = getattr(self.module_class, "settings_class", None)
        kind = ModelSettings if _takes_model_settings(self.module_class) else own
        if kind is not None and isinstance(self.model_config, dict):
            object.__setattr__(self, "model_config", build_settings(kind, self.model_config, where="model_config"))

    @classmethod
    def merged(cls, current: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the module so far mean nothing to another module class, unless both take the same."""
        before, after = current["module_class"], changes.get("module_class", current["module_class"])
        if after is not before and not (_takes_model_settings(before) and _takes_model_settings(after)):
            return {**current, "model_config": {}, **changes}
        return Settings.merged(current, changes)


def _takes_model_settings(module_class: Any) -> bool:
    """Whether the settings of a module are `ModelSettings`, of which the algorithm makes its own."""
    return module_class is None or getattr(module_class, "settings_from_algorithm", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackSettings(Settings):
    """Section `callbacks`: code of yours that is called on events."""

    callbacks_class: Callable[[], Any] | tuple[Any, ...] | None = None
    """A class derived from Callbacks, or several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings(Settings):
    """Section `checkpointing`: what a run started by the command keeps."""

    checkpoint_frequency: Annotated[int, Range(ge=0)] = 10
    """Iterations between checkpoints; 0 keeps none but the last."""
    num_to_keep: Positive = 3
    """Newest checkpoints that stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebuggingSettings(Settings):
    """Section `debugging`: reproducibility."""

    seed: Annotated[int, Range(ge=0)] = 0
    """Seed of envs, actions, initial weights and minibatches, each with a stream of its own."""
