"""Policies as torch modules, and the distributions their outputs describe."""

from rl_core.module.actor_critic import ActorCritic
from rl_core.module.autoregressive import Autoregressive
from rl_core.module.distribution import Distribution, distribution_for
from rl_core.module.encoders import make_encoder
from rl_core.module.images import CNN
from rl_core.module.masked import MaskedActorCritic, mask_logits
from rl_core.module.masked_values import MaskedActorQ, MaskedQNetwork
from rl_core.module.memory import Memory, make_memory
from rl_core.module.networks import MLP, Encoder, Tanh
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import ModelSettings

__all__ = [
    "CNN",
    "MLP",
    "ActorCritic",
    "Autoregressive",
    "Distribution",
    "Encoder",
    "MaskedActorCritic",
    "MaskedActorQ",
    "MaskedQNetwork",
    "Memory",
    "ModelSettings",
    "RLModule",
    "Tanh",
    "distribution_for",
    "make_encoder",
    "make_memory",
    "mask_logits",
]
