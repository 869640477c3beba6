"""Policies as torch modules, and the distributions their outputs describe."""

from rl_core.module.actor_critic import ActorCritic
from rl_core.module.distribution import Distribution, distribution_for
from rl_core.module.networks import CNN, MLP, Tanh
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import ModelSettings

__all__ = ["CNN", "MLP", "ActorCritic", "Distribution", "ModelSettings", "RLModule", "Tanh", "distribution_for"]
