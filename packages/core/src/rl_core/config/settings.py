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
Precision = Literal["float32", "bfloat16-mixed", "float16-mixed", "bfloat16-true", "float16-true"]
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
    """Runners in processes of their own, on any machine of a Ray cluster; 0 samples in the algorithm's process. Each
    has one torch thread."""
    num_envs_per_env_runner: Positive = 8
    """Env slots B that step together in each runner."""
    num_cpus_per_env_runner: Annotated[float, Range(ge=0)] = 1.0
    """CPUs that Ray reserves for each remote runner."""
    num_gpus_per_env_runner: Annotated[float, Range(ge=0)] = 0.0
    """GPUs, or a part of one, for envs that compute on them."""
    custom_resources_per_env_runner: dict[str, float] = field(default_factory=dict)
    """Further resources of the cluster's nodes, by name."""
    sample_timeout_s: Annotated[float, Range(gt=0)] = 60.0
    """A remote runner that takes longer for a rollout or an evaluation counts as hung and is replaced."""
    max_requests_in_flight_per_env_runner: Annotated[int, Range(ge=1, le=64)] = 2
    """Rollouts that asynchronous algorithms (IMPALA, APPO) have a remote runner work on ahead of the learner."""
    gym_env_vectorize_mode: Literal["sync", "async", "async_shared_memory", "vector_entry_point"] = "sync"
    """How gymnasium steps the slots: one after the other, in processes, or by the env's own vectorised class."""
    rollout_fragment_length: Positive | Literal["auto"] = "auto"
    """Steps T per slot and rollout; `auto` divides the train batch by the slots of all runners, rounded up."""
    env_to_module_connector: tuple[Any, ...] = ()
    """Observation (and reward) connectors, in order, before the required ones."""
    module_to_env_connector: tuple[Any, ...] = ()
    """Action connectors, in order, before the required one."""
    inference_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What policies act in, with their weights cast once per version: half precision pays for large nets."""
    bad_observations: Literal["raise", "drop"] = "raise"
    """Where a connector cannot use an observation (bytes that do not decode, NaN): `raise` ends the run; `drop` ends
    that slot's segment, leaves the step out of training, and counts it in `env_runners/num_bad_observations`."""
    metrics_num_episodes_for_smoothing: Positive = 100
    """Finished episodes that `env_runners/episode_return_mean` averages over."""


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
    """Env steps per iteration, for each of `num_learners`. Source: Schulman et al. 2017, table 3."""
    grad_clip: Annotated[float, Range(gt=0)] | None = 0.5
    """Bound of the gradient, None for none. Source: Huang et al. 2022, core detail 11."""
    grad_clip_by: Literal["global_norm", "norm", "value"] = "global_norm"
    """Bound the norm of all gradients together, of each tensor, or each number."""
    precision: Precision = "float32"
    """What the learner computes in. `-mixed`: products in half precision, weights in float32. `-true`: weights and
    gradients in half precision as well; the library's own optimizer keeps a copy in float32, torch's
    (`optimizer_fn`, `lr_scheduler_fns`) would not and are refused. float16 scales its losses."""

    def check(self) -> None:
        """Check the learning rate's schedule."""
        check_schedule("lr", self.lr)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportingSettings(Settings):
    """Section `reporting`: how much work one call of `train` does, and where its results go."""

    min_sample_timesteps_per_iteration: Annotated[int, Range(ge=0)] = 0
    """Env steps before `train` returns: it repeats its training step until it has sampled so many; 0 is once."""
    sinks: tuple[Any, ...] = ()
    """Where the result of each `train` is written besides: `CsvSink`, `JsonLinesSink`, `TensorBoardSink`, `WandbSink`,
    `MLflowSink`, or instances of your own `Sink`. What `rl train` keeps in its run folder needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSettings(Settings):
    """Section `learners`: where and with what the update runs."""

    num_learners: Annotated[int, Range(ge=0)] = 0
    """Learners in processes of their own, on any machine of a Ray cluster: each learns from its share of the env slots,
    and they average their gradients before every optimiser step. 0 learns in the algorithm's process."""
    num_cpus_per_learner: Annotated[float, Range(ge=0)] = 1.0
    """CPUs that Ray reserves for each remote learner, and its torch threads (at least one)."""
    num_gpus_per_learner: Annotated[float, Range(ge=0)] = 0.0
    """GPUs, or a part of one, that Ray reserves for each learner; of `num_learners=0`, for the algorithm's process."""
    learner_timeout_s: Annotated[float, Range(gt=0)] = 60.0
    """A remote learner that lets the others wait longer than this counts as hung and is replaced."""
    device: str = "auto"
    """Torch device of the learner, such as `cpu` or `cuda:0`. `auto` is a GPU where `num_gpus_per_learner` asks for
    one, else the CPU. Sampling stays on the CPU."""
    torch_compile: bool = False
    """Compile the module of the learner with `torch.compile`: worth its minutes for large nets only."""
    num_threads: Positive | Literal["auto"] = "auto"
    """Torch threads of the algorithm's process. `auto` is OMP_NUM_THREADS where the user set it, else 1 below a million
    parameters and all cores above: small nets are slower with several threads."""
    optimizer_fn: Callable[..., Any] | None = None
    """A function `(parameters, settings)` that returns a torch optimizer, or several for groups of parameters.
    `parameters` maps names to the parameters to train, `settings` is the section `training`. Off-policy algorithms call
    it once for each of their losses. Learning rates are then its own. None is Adam over one flat buffer. Not with
    `-true` precision."""
    lr_scheduler_fns: tuple[Callable[..., Any], ...] = ()
    """Functions `(optimizer)` that each return a torch learning rate scheduler. All of them step after every optimiser
    step, in this order, from `lr` on. Not with `-true` precision."""
    learner_connector: tuple[Any, ...] = ()
    """Learner connectors, in order: what changes a rollout before it is learned from, such as intrinsic rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings(Settings):
    """Section `evaluation`: separate episodes in envs of their own."""

    evaluation_interval: Annotated[int, Range(ge=0)] = 0
    """Iterations between evaluations; 0 evaluates only when asked."""
    evaluation_duration: Positive | Literal["auto"] = 20
    """Episodes or env steps per evaluation, exactly; `auto` goes on as long as training, whose length it foresees."""
    evaluation_duration_unit: Literal["episodes", "timesteps"] = "episodes"
    """What `evaluation_duration` counts. Of a number of steps, only episodes that end within them have a return."""
    evaluation_parallel_to_training: bool = False
    """Evaluate while the iteration goes on, with the weights from before it, in evaluation runners of their own."""
    custom_evaluation_function: Callable[..., Any] | None = None
    """A function `(algorithm, runner)` in place of playing episodes: it returns figures by name, which the result has
    under `evaluation/`. `runner` has the newest weights; `runner.call_each(function)` calls something with each."""
    evaluation_num_env_runners: Annotated[int, Range(ge=0)] = 0
    """Runners in processes of their own that share the episodes; 0 evaluates in the algorithm's process."""
    evaluation_num_envs: Positive | Literal["auto"] = "auto"
    """Env slots; `auto` is one per episode, up to 32 (asynchronous ones: up to `num_envs_per_env_runner`). Each slot
    plays its share of the episodes, so that short ones are not favoured."""
    explore: bool = True
    """Draw actions from the policy, as in training: DQN's with epsilon, TD3's with noise. False takes the mode, as
    `Policy.act` does. The figures in `docs/results.md` are of True unless they say otherwise."""
    evaluation_env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the env that differ from `env_config` in evaluation, such as a longer time limit."""

    def num_slots(self, most: int) -> int:
        """Work out the env slots of each evaluation runner, of which `auto` takes at most so many."""
        if self.evaluation_num_envs != "auto":
            return self.evaluation_num_envs
        if self.evaluation_duration == "auto":
            return min(most, 4)  # a round of episodes is to end soon after training does
        if self.evaluation_duration_unit == "timesteps":
            return most
        return min(most, -(-self.evaluation_duration // max(1, self.evaluation_num_env_runners)))

    def check(self) -> None:
        """Refuse what cannot run beside training."""
        if self.evaluation_parallel_to_training and not self.evaluation_num_env_runners:
            raise ConfigError(
                "evaluation_parallel_to_training: got True, but evaluation_num_env_runners=0: evaluating in this "
                "process would slow training down. Set evaluation_num_env_runners to 1 or more."
            )
        if self.evaluation_duration == "auto" and not self.evaluation_parallel_to_training:
            raise ConfigError(
                "evaluation_duration: got 'auto', which lasts as long as training does beside it. Set "
                "evaluation_parallel_to_training, or a number."
            )
        if self.custom_evaluation_function is not None and self.evaluation_parallel_to_training:
            raise ConfigError(
                "custom_evaluation_function: it is called between iterations and may look at everything. Leave "
                "evaluation_parallel_to_training off."
            )


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
class FaultToleranceSettings(Settings):
    """Section `fault_tolerance`: what goes on when envs and runners fail."""

    restart_failed_sub_environments: bool = False
    """Where an env raises in `step` or `reset`, make it anew and go on with the other slots undisturbed. The step that
    failed does not train, the episode it broke is not counted, and `env_runners/num_env_restarts` is the number of
    envs made anew. False raises, and so does an env that fails five times in a row without a good step."""
    restart_failed_env_runners: bool = True
    """Replace remote runners that died or hung, while the others go on; False goes on without them, until none is
    left."""
    max_num_env_runner_restarts: Annotated[int, Range(ge=0)] = 1000
    """Replacements in the whole run; runners that fail later are lost."""
    restart_failed_learners: bool = True
    """Replace remote learners that died or hung, with the state of the others, or with the weights published last if
    none is left. What the update that failed had not learned yet is skipped. False raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings(Settings):
    """Section `checkpointing`: what a run of the command or of an example, or a `CheckpointKeeper`, saves and keeps."""

    checkpoint_frequency: Annotated[int, Range(ge=0)] = 10
    """Iterations between checkpoints; 0 saves none but the last."""
    checkpoint_at_end: bool = True
    """Save the last iteration too."""
    num_to_keep: Positive = 3
    """Checkpoints that stay: the newest, and of the others the best by `checkpoint_score_attribute`, or the newest
    where there is none. One that is being written comes on top until it is complete."""
    checkpoint_score_attribute: str | Callable[[Mapping[str, Any]], float] | None = None
    """What makes a checkpoint good: a name in the result of its iteration, such as `evaluation/episode_return_mean`, or
    a function of the result. `evaluation/...` is of the last evaluation before it: set `evaluation_interval` so that
    there is one. NaN ranks last."""
    checkpoint_score_order: Literal["max", "min"] = "max"
    """Whether the largest or the smallest score is the best."""

    def check(self) -> None:
        """Refuse scores that are neither names nor functions."""
        attribute = self.checkpoint_score_attribute
        if not (attribute is None or isinstance(attribute, str) or callable(attribute)):
            raise ConfigError(
                f"checkpoint_score_attribute: got {attribute!r}, expected a name in the result or a function of it."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DebuggingSettings(Settings):
    """Section `debugging`: reproducibility."""

    seed: Annotated[int, Range(ge=0)] = 0
    """Seed of envs, actions, initial weights and minibatches, each with a stream of its own."""
