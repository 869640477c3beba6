"""The config of an algorithm: sections of settings, extensions, and the way to JSON and back."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from gymnasium.spaces import Space

from rl_core.algorithm.registry import algorithm_config, algorithms
from rl_core.checkpoint_files import Json
from rl_core.config.check import Settings, nearest, type_hints
from rl_core.config.codec import check_importable, decode, encode, import_path, resolve_import
from rl_core.config.section import BoundSection, Section
from rl_core.config.settings import (
    CallbackSettings,
    CheckpointSettings,
    DebuggingSettings,
    EnvironmentSettings,
    EnvRunnerSettings,
    EvaluationSettings,
    FaultToleranceSettings,
    LearnerSettings,
    ModuleSettings,
    ReportingSettings,
    TrainingSettings,
)
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.learning.learner import Learner, Objective
from rl_core.learning.learner_chain import LearnerChain
from rl_core.learning.optimizer import OptimizerFactory
from rl_core.module.rl_module import RLModule
from rl_core.module.spec import ModuleSpec

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm
    from rl_core.algorithm.components import Components, Extension, Updater


class AlgorithmConfig:
    """Everything that decides what a run does, as data.

    Each section is a method that sets (`config.training(lr=1e-3)`, returning the config) and a record that reads
    (`config.training.lr`). Unknown names and wrong values are refused at once.
    """

    name: ClassVar[str] = ""
    """Name of the algorithm, as `rl train` takes it."""
    action_spaces: ClassVar[tuple[str, ...]] = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict", "Tuple")
    """Kinds of gymnasium spaces whose actions the algorithm can choose."""
    objective: ClassVar[Objective[Any]]
    """Prepare, loss and schedules of the algorithm."""
    learner_class: ClassVar[type[Learner[Any]]] = Learner
    """What holds module and optimizer."""

    environment = Section(EnvironmentSettings)
    env_runners = Section(EnvRunnerSettings)
    training = Section(TrainingSettings)
    learners = Section(LearnerSettings)
    evaluation = Section(EvaluationSettings)
    reporting = Section(ReportingSettings)
    rl_module = Section(ModuleSettings)
    callbacks = Section(CallbackSettings)
    checkpointing = Section(CheckpointSettings)
    fault_tolerance = Section(FaultToleranceSettings)
    debugging = Section(DebuggingSettings)

    def __init__(self) -> None:
        self._values: dict[str, Settings] = {name: section.default() for name, section in self._sections().items()}
        self.extensions: tuple[Extension, ...] = ()
        self._state: tuple[tuple[Any, ...], Json] = ((), Json())  # what was encoded last, and as what

    @classmethod
    def _sections(cls) -> dict[str, Section[Any, Any]]:
        """The sections of this class and those it is derived from, by name."""
        found: dict[str, Section[Any, Any]] = {}
        for base in reversed(cls.__mro__):
            found.update({name: value for name, value in vars(base).items() if isinstance(value, Section)})
        return found

    def module_spec(self) -> ModuleSpec:
        """Describe the module to build; an algorithm with a module of its own overrides it."""
        settings = self.rl_module.settings
        return ModuleSpec(module_class=settings.module_class, model_config=settings.model_config)

    def check_action_space(self, space: Space[Any]) -> None:
        """Refuse an action space that the algorithm cannot handle.

        Raises:
            UnsupportedSpaceError: names the algorithms that can.
        """
        kind = type(space).__name__
        if kind in self.action_spaces:
            return
        able = []
        for name in sorted(algorithms()):
            try:
                if kind in algorithm_config(name).action_spaces:
                    able.append(name)
            except ConfigError:  # a broken package must not hide the answer
                continue
        raise UnsupportedSpaceError(
            f"{self.name.upper()}: got the action space {space}, expected {' or '.join(self.action_spaces)}. "
            f"Algorithms that can: {', '.join(able) or 'none'}."
        )

    def train_batch_size(self) -> int:
        """Env steps that all learners together learn from at a time."""
        return self.training.settings.train_batch_size_per_learner * max(1, self.learners.settings.num_learners)

    def num_rollout_steps(self) -> int:
        """Work out the steps T per slot and rollout.

        Raises:
            ConfigError: the rollout's size is set twice, to different values.
        """
        settings, batch = self.env_runners.settings, self.train_batch_size()
        num_runners = max(1, settings.num_env_runners)
        num_envs, num_steps = num_runners * settings.num_envs_per_env_runner, settings.rollout_fragment_length
        if num_steps == "auto":
            return -(-batch // num_envs)
        if num_steps * num_envs != batch:
            runners = f" times num_env_runners={num_runners}" if num_runners > 1 else ""
            num_learners = max(1, self.learners.settings.num_learners)
            learners = f" times num_learners={num_learners}" if num_learners > 1 else ""
            raise ConfigError(
                f"rollout_fragment_length={num_steps} times num_envs_per_env_runner="
                f"{settings.num_envs_per_env_runner}{runners} is {num_steps * num_envs}, but "
                f"train_batch_size_per_learner={batch // num_learners}{learners} is {batch}. Make them equal, or leave "
                "rollout_fragment_length at 'auto'."
            )
        return num_steps

    def env_steps_per_iteration(self) -> int:
        """Work out about how many env steps one call of `train` samples."""
        settings = self.env_runners.settings
        rollout = self.num_rollout_steps() * settings.num_envs_per_env_runner * max(1, settings.num_env_runners)
        return max(rollout, self.reporting.settings.min_sample_timesteps_per_iteration)

    def make_learner(
        self,
        module: RLModule,
        *,
        make_optimizer: OptimizerFactory,
        seed: int,
        name: str,
        connectors: LearnerChain | None = None,
    ) -> Updater:
        """Make the learner of a module; off-policy algorithms have another kind.

        Args:
            module: On its device; the learner's to train.
            make_optimizer: From named parameters to their optimizer.
            seed: Of all that the learner draws.
            name: Id of the module.
            connectors: What the learner does to each rollout first; None for nothing.
        """
        num_steps = self.num_rollout_steps()
        if module.is_recurrent and module.max_seq_len > num_steps:
            warnings.warn(
                f"max_seq_len={module.max_seq_len}, but a rollout has {num_steps} steps of each env slot, so that no "
                f"gradient reaches further back. Set max_seq_len to {num_steps} or less, or "
                "rollout_fragment_length or train_batch_size_per_learner for longer rollouts.",
                stacklevel=2,
            )
        return self.learner_class(
            module,
            self.training.settings,
            self.objective,
            make_optimizer=make_optimizer,
            seed=seed,
            name=name,
            connectors=connectors,
        )

    def use(self, extension: Extension) -> Self:
        """Add an extension, which replaces components of the algorithm; see `Extension`."""
        from rl_core.algorithm.components import Extension

        if not isinstance(extension, Extension):
            raise TypeError(f"use(): got {extension!r}, expected an instance of a class derived from Extension.")
        self.extensions = (*self.extensions, extension)
        return self

    def components(self) -> Components:
        """The factories of this config's parts, after all extensions."""
        from rl_core.algorithm.components import DEFAULT_COMPONENTS

        components = DEFAULT_COMPONENTS
        for extension in self.extensions:
            components = extension.components(components)
        return components

    def build(self) -> Algorithm:
        """Make the algorithm, with a copy of this config. Override it to build a class of your own."""
        from rl_core.algorithm.algorithm import Algorithm

        return Algorithm(self)

    def copy(self) -> Self:
        """Return a config that changes apart from this one."""
        twin = copy.copy(self)
        twin._values = {name: dataclasses.replace(cast(Any, value)) for name, value in self._values.items()}
        return twin

    def set(self, name: str, value: Any) -> Self:
        """Change one setting by its dotted name, such as `training.lr` or `rl_module.model_config.fcnet_hiddens`.

        Raises:
            ConfigError: there is no such setting, or the value does not fit.
        """
        section_name, dot, rest = name.partition(".")
        if section_name not in self._values:
            homes = [section for section, value_ in self._values.items() if section_name in _field_names(value_)]
            hint = f" Write {homes[0]}.{name}." if homes else nearest(section_name, self._values)
            raise ConfigError(f"{name}: there is no section {section_name!r}.{hint}")
        if not dot:
            raise ConfigError(f"{name}: name a setting of this section: {', '.join(_field_names(self._values[name]))}.")
        section: BoundSection[Any, Any, Any] = getattr(self, section_name)
        field, dot, inner = rest.partition(".")
        if dot:
            section._check_names({field: None})
            value = _changed(getattr(section, field), inner, value, where=f"{section_name}.{field}")
        section(**{field: value})
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the whole config as JSON data.

        Raises:
            ConfigError: something in it has no import path, such as a lambda; the message names the setting.
        """
        sections: dict[str, dict[str, Any]] = {}
        for section, settings in self._values.items():
            sections[section] = {}
            for field in _field_names(settings):
                try:
                    sections[section][field] = encode(getattr(settings, field))
                except ConfigError as error:
                    raise ConfigError(f"{section}.{field}: {error}") from None
        extensions = []
        for place, extension in enumerate(self.extensions):
            try:
                extensions.append(encode(extension))
            except ConfigError as error:
                raise ConfigError(f"extension {place} ({type(extension).__name__}): {error}") from None
        return {"config": import_path(type(self)), "sections": sections, "extensions": extensions}

    def get_state(self) -> Json:
        """Return `to_dict` as a component of checkpoints; the same object as long as no settings are replaced.

        Raises:
            ConfigError: as `to_dict`.
        """
        parts = (*self._values.values(), *self.extensions)
        if list(map(id, parts)) != list(map(id, self._state[0])):
            self._state = parts, Json(self.to_dict())
        return self._state[1]

    @staticmethod
    def from_dict(data: Mapping[str, Any], *, allow: Collection[str] = ()) -> AlgorithmConfig:
        """Rebuild a config from `to_dict`.

        Args:
            data: JSON data, possibly from an untrusted file.
            allow: Top-level packages it may import classes and envs from, besides rl_core and what is imported.

        Raises:
            ConfigError: something is malformed or unknown, or may not be imported.
        """
        if not isinstance(cast(object, data), Mapping) or not isinstance(data.get("sections"), Mapping):
            raise ConfigError("This is not a stored config: it has no sections.")
        kind = resolve_import(str(data.get("config")), allow=allow)
        if not (isinstance(kind, type) and issubclass(kind, AlgorithmConfig)):
            raise ConfigError(f"{data['config']!r} is not derived from AlgorithmConfig.")
        config = kind()
        try:
            config._fill(data, allow)
        except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"The stored config is malformed: {error!r}.") from error
        return config

    def _fill(self, data: Mapping[str, Any], allow: Collection[str]) -> None:
        """Take the values that `to_dict` gave."""
        for name, values in data["sections"].items():
            if name not in self._values or not isinstance(values, Mapping):
                raise ConfigError(f"The stored config has a section {name!r}.{nearest(str(name), self._values)}")
            getattr(self, name)(**decode(dict(values), allow=allow))
        env = self.environment.settings.env
        if isinstance(env, str) and ":" in env:
            check_importable(env.partition(":")[0], allow=allow)
        for extension in decode(list(data.get("extensions", [])), allow=allow):
            self.use(extension)

    def diff(self) -> dict[str, Any]:
        """Return what differs from the defaults, by dotted name, as values to read (not to parse)."""
        default = type(self)()
        return {
            name: value
            for section, settings in self._values.items()
            for name, value in _differences(settings, default._values[section], where=section)
        }

    def changes_since(self, stored: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Compare with a stored config.

        Args:
            stored: What `to_dict` gave.

        Returns:
            Settings that differ, by dotted name: as they are stored, and as they are here; both as JSON data, or as
            text where a value has no stored form.
        """
        changes: dict[str, tuple[Any, Any]] = {}
        for section, settings in self._values.items():
            before = stored.get("sections", {}).get(section, {})
            for field in _field_names(settings):
                try:
                    own = encode(getattr(settings, field))
                except ConfigError:
                    own = repr(getattr(settings, field))
                changes |= _changes(f"{section}.{field}", before.get(field), own)
        return changes

    def __repr__(self) -> str:
        """Show what differs from the defaults."""
        changes = [f"{name}={value!r}" for name, value in self.diff().items()]
        changes += [f"use({extension!r})" for extension in self.extensions]
        return f"{type(self).__name__}({', '.join(changes)})"


def _field_names(settings: Settings) -> Collection[str]:
    """Names of a section's settings."""
    return type_hints(cast(Any, type(settings))).keys()


def _differences(settings: Settings, default: Settings, *, where: str) -> Iterator[tuple[str, Any]]:
    """Yield what differs from the defaults, by dotted name, in settings inside settings too."""
    for field in _field_names(settings):
        value, usual = getattr(settings, field), getattr(default, field)
        if isinstance(value, Settings) and type(value) is type(usual):
            yield from _differences(value, usual, where=f"{where}.{field}")
        elif value != usual:
            yield f"{where}.{field}", value


def _changes(name: str, before: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """Compare JSON data; settings inside settings one by one."""
    if before == now:
        return {}
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        return {key: pair for part in now for key, pair in _changes(f"{name}.{part}", before[part], now[part]).items()}
    return {name: (before, now)}


def _changed(current: Any, name: str, value: Any, *, where: str) -> dict[str, Any]:
    """Return nested settings, as a mapping, with one value changed."""
    if isinstance(current, Settings):
        current = {field: getattr(current, field) for field in _field_names(current)}
    if not isinstance(current, Mapping):
        raise ConfigError(f"{where}.{name}: {where} is {current!r} and has no settings inside.")
    field, dot, inner = name.partition(".")
    if dot:
        value = _changed(current.get(field, {}), inner, value, where=f"{where}.{field}")
    return {**current, field: value}
