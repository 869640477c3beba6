"""How to build a module again: its class, its settings and its spaces."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium.spaces import Space

from rl_core.config.check import Settings, build_settings
from rl_core.config.codec import decode, encode, import_path, resolve_import
from rl_core.errors import CheckpointError, ConfigError
from rl_core.module.actor_critic import ActorCritic
from rl_core.module.rl_module import RLModule


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSpec:
    """A module's class (or a ready instance) and the keyword settings of its constructor."""

    module_class: Any = None
    """A class derived from RLModule, an instance of one, or None for `ActorCritic`."""
    model_config: Mapping[str, Any] | Settings
    """Keyword arguments of the class, or its settings where it has a `settings_class`."""

    def wants_flat(self, observation_space: Space[Any]) -> bool:
        """Whether the connectors shall turn observations of this space into one vector for the module."""
        kind = self.module_class or ActorCritic
        is_module = isinstance(kind, RLModule) or (isinstance(kind, type) and issubclass(kind, RLModule))
        return is_module and bool(kind.wants_flat(observation_space))  # `build` refuses what is no module

    def build(self, observation_space: Space[Any], action_space: Space[Any], *, seed: int) -> RLModule:
        """Make the module, its initial weights drawn from `seed`; an instance is copied.

        Raises:
            ConfigError: what was given is not a module, or its constructor does not take these settings.
        """
        if isinstance(self.module_class, RLModule):
            return copy.deepcopy(self.module_class)
        with initial_weights(seed):
            kind = self.module_class or ActorCritic
            if not (isinstance(kind, type) and issubclass(kind, RLModule)):
                raise ConfigError(f"module_class: got {kind!r}, expected a class or instance derived from RLModule.")
            config = self.model_config
            try:
                if isinstance(config, Settings):
                    return kind(observation_space, action_space, config)  # type: ignore[call-arg]
                return kind(observation_space, action_space, **config)
            except TypeError as error:
                raise ConfigError(f"module_class {kind.__name__} cannot be made with {config}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Describe the module for a file.

        Raises:
            ConfigError: the class has no import path.
        """
        if isinstance(self.module_class, RLModule):
            return {"instance": import_path(type(self.module_class))}
        kind = None if self.module_class is None else import_path(self.module_class)
        return {"class": kind, "model_config": encode(self.model_config)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, module: RLModule | None, allow: Collection[str]) -> ModuleSpec:
        """Read what `to_json` wrote.

        Args:
            data: From a file.
            module: An instance to use instead of what the file describes.
            allow: Top-level packages the file may name.

        Raises:
            CheckpointError: the module was given as an instance, which a file cannot hold, and `module` is None.
            ConfigError: the file names something that is no module or may not be imported.
        """
        if module is not None:
            return cls(module_class=module, model_config={})
        if "instance" in data:
            raise CheckpointError(
                f"The module was an instance of {data['instance']}, which a file cannot hold. "
                "Build it as before and pass it as `module=`; its weights are then loaded."
            )
        model_config = decode(data["model_config"], allow=allow)
        kind = None if data["class"] is None else resolve_import(data["class"], allow=allow)
        if kind is not None and not (isinstance(kind, type) and issubclass(kind, RLModule)):
            raise ConfigError(f"{data['class']!r} is not derived from RLModule; a checkpoint may not create it.")
        settings_class = (kind or ActorCritic).settings_class
        if settings_class is not None:
            model_config = build_settings(settings_class, model_config, where="model_config")
        return cls(module_class=kind, model_config=model_config)


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Let modules that are made inside draw their weights from a seed.

    They are made with one torch thread: the orthogonal weights of a seed depend on the number in their last digits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)
