"""The algorithms that installed packages offer by name, found through entry points."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rl_core.config.check import nearest
from rl_core.errors import ConfigError

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig

ALGORITHMS = "rl_core.algorithms"
BUILT_IN = {
    "a2c": "rl_core.algorithms.a2c:A2CConfig",
    "appo": "rl_core.algorithms.appo:APPOConfig",
    "dqn": "rl_core.algorithms.dqn:DQNConfig",
    "impala": "rl_core.algorithms.impala:IMPALAConfig",
    "ppo": "rl_core.algorithms.ppo:PPOConfig",
    "sac": "rl_core.algorithms.sac:SACConfig",
    "td3": "rl_core.algorithms.td3:TD3Config",
    "tqc": "rl_core.algorithms.tqc:TQCConfig",
}
"""Core's own algorithms, for running from a source tree that is not installed."""


def algorithms() -> dict[str, str]:
    """Return the import paths of the algorithms' configs by name."""
    return BUILT_IN | {entry.name: entry.value for entry in importlib.metadata.entry_points(group=ALGORITHMS)}


def algorithm_config(name: str) -> AlgorithmConfig:
    """Make a fresh config of an algorithm.

    Raises:
        ConfigError: there is none of that name, or its package cannot be imported.
    """
    known = algorithms()
    if name not in known:
        raise ConfigError(f"There is no algorithm {name!r}.{nearest(name, known)}")
    module, _, attribute = known[name].partition(":")
    try:
        config_class: Callable[[], Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"The algorithm {name!r} ({known[name]}) cannot be imported: {error}.") from error
    from rl_core.algorithm.config import AlgorithmConfig  # imports torch, which `rl --help` does without

    config = config_class()
    if not isinstance(config, AlgorithmConfig):
        raise ConfigError(f"The algorithm {name!r} ({known[name]}) is not derived from AlgorithmConfig.")
    return config
