"""The modules of DQN and SAC for envs that say which of their discrete actions are allowed.

Observations are a Dict with `observations`, which the networks see, and `action_mask` `[n]`, one number per action, not
zero where it is allowed. A mask that forbids everything is refused where somebody has to act; the observation that ends
an episode may have one, since no value is read there.

    DQNConfig().rl_module(module_class=MaskedQNetwork)
    SACConfig().rl_module(module_class=MaskedActorQ).training(target_entropy=0.3)
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rl_core.errors import ConfigError
from rl_core.module.actor_q import Actor, ActorQ, ActorQSettings, Critics
from rl_core.module.masked import mask_logits, unmasked_space
from rl_core.module.q_network import QNetwork, QNetworkSettings, QValues
from rl_core.module.settings import ModelSettings
from rl_core.tree import Tree


def _mask_unless_over(outputs: Tensor, mask: Tensor) -> Tensor:
    """Mask `outputs` `[..., n]` except in rows that forbid everything: those of episodes that are over."""
    allowed = mask != 0
    return mask_logits(outputs, allowed | ~allowed.any(-1, keepdim=True))


class MaskedQValues(QValues):
    """`QValues` in which actions that are not allowed have values so low that nobody chooses them."""

    def __init__(self, space: spaces.Dict, num_actions: int, settings: QNetworkSettings) -> None:
        """Make and initialise the layers.

        Raises:
            ConfigError: there is a memory, or a distribution of returns.
        """
        if settings.model.has_memory or settings.num_atoms > 1:
            raise ConfigError(
                "MaskedQNetwork: got a memory or num_atoms > 1, expected neither: it masks the values of single "
                "observations. Leave use_lstm, use_gru and use_attention off, and num_atoms at 1."
            )
        super().__init__(space["observations"], num_actions, settings)

    def forward(self, obs: Tree) -> Tensor:
        """Map observations with any leading axes to `[..., A]`."""
        return _mask_unless_over(super().forward(obs["observations"]), obs["action_mask"])


class MaskedQNetwork(QNetwork):
    """`QNetwork` that neither chooses nor, exploring, draws an action that is not allowed."""

    flatten_observations: ClassVar[bool] = False
    values_class: ClassVar[type[QValues]] = MaskedQValues

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: QNetworkSettings | None = None,
    ) -> None:
        """Build the networks; see `QNetwork`.

        Raises:
            ConfigError: the settings ask for a memory, or for a distribution of returns.
            UnsupportedSpaceError: the spaces are not those of an env with masks.
        """
        unmasked_space("MaskedQNetwork", observation_space, action_space)
        super().__init__(observation_space, action_space, settings)

    def forward_policy(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tree]:
        """Return the masked action values and epsilon, see `EpsilonGreedy`, and the state as it came."""
        inputs, state = super().forward_policy(obs["observations"], state)
        *values, epsilon = torch.split(inputs, self.q.num_actions, -1)
        return torch.cat([*(mask_logits(value, obs["action_mask"]) for value in values), epsilon], -1), state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return the value of the best allowed action `[...]`."""
        q: Tensor = self.q(obs)
        return q.amax(-1)

    def forward_train(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tensor]:
        """Return the distribution's inputs and the best values."""
        return self.forward_policy(obs)[0], self.forward_value(obs)


class MaskedActor(Actor):
    """`Actor` whose actions that are not allowed have a probability of zero."""

    def __init__(
        self, space: spaces.Dict, num_outputs: int, model: ModelSettings, bounds: tuple[Tensor, Tensor] | None
    ) -> None:
        """Make and initialise the layers."""
        super().__init__(space["observations"], num_outputs, model, bounds)

    def forward(self, obs: Tree) -> Tensor:
        """Map observations with any leading axes to logits `[..., A]`."""
        return _mask_unless_over(super().forward(obs["observations"]), obs["action_mask"])


class UnmaskedCritics(Critics):
    """`Critics` of the observations without the mask: the policy, which is zero there, keeps forbidden values out."""

    def __init__(self, space: spaces.Dict, action_space: spaces.Space[Any], settings: ActorQSettings) -> None:
        """Make and initialise the layers."""
        super().__init__(space["observations"], action_space, settings)

    def forward(self, obs: Tree, action: Tensor | None = None) -> Tensor:
        """Map observations with any leading axes to `[C, ..., A]`."""
        return super().forward(obs["observations"], action)


class MaskedActorQ(ActorQ):
    """`ActorQ` for Discrete actions that never draws one that is not allowed.

    SAC's `target_entropy="auto"` is near the entropy of all actions, which a policy cannot have where few are allowed:
    give a number below.
    """

    flatten_observations: ClassVar[bool] = False
    actor_class: ClassVar[type[Actor]] = MaskedActor
    critics_class: ClassVar[type[Critics]] = UnmaskedCritics

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: ActorQSettings | None = None,
    ) -> None:
        """Build the networks; see `ActorQ`.

        Raises:
            UnsupportedSpaceError: the spaces are not those of an env with masks.
        """
        unmasked_space("MaskedActorQ", observation_space, action_space)
        super().__init__(observation_space, action_space, settings)

    def forward_policy(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tree]:
        """Return masked logits `[..., A]` and the state as it came."""
        outputs, state = super().forward_policy(obs, state)
        return mask_logits(outputs, obs["action_mask"]), state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return the mean of the critics' values of the best allowed action `[...]`."""
        return _mask_unless_over(self.critic(obs).mean(0), obs["action_mask"]).amax(-1)
