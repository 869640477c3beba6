"""Policies that RLlib trained, read without RLlib and without running anything their files contain."""

from rl_core.migrate.default_config import model_settings_from_default_config
from rl_core.migrate.model_config import model_settings_from_rllib, module_from_rllib
from rl_core.migrate.network import RllibNetwork
from rl_core.migrate.read import read_rllib_module, read_rllib_policy

__all__ = [
    "RllibNetwork",
    "model_settings_from_default_config",
    "model_settings_from_rllib",
    "module_from_rllib",
    "read_rllib_module",
    "read_rllib_policy",
]
