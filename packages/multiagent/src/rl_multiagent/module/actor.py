"""A policy without a value function: a critic that sees all agents judges what it does."""

from __future__ import annotations

import dataclasses
from typing import Any

from gymnasium import spaces
from torch import Tensor

from rl_core.module.actor_critic import ActorCritic
from rl_core.module.settings import ModelSettings
from rl_core.records import Tree


class Actor(ActorCritic):
    """The policy of `ActorCritic`, for any observations and actions, with or without memory."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: ModelSettings | None = None,
    ) -> None:
        """Build the network; see `ActorCritic`."""
        settings = settings or ModelSettings()
        if settings.has_memory:  # else it would get a second one, for its value function
            settings = dataclasses.replace(settings, vf_share_layers=True)
        super().__init__(observation_space, action_space, settings)
        del self.value

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Refuse: there is no value function.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "Actor has no value function; it is for algorithms with a critic of their own, such as MAPPO. Use "
            "ActorCritic, the default module, for others."
        )

    def forward_train(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tensor]:
        """Return the distribution's inputs `[..., P]`, and zeros `[...]` in place of values."""
        if self.body is None:
            dist_inputs, _ = self.forward_policy(obs)
        else:
            features, _ = self.body.sequence(obs, state)
            dist_inputs = self.policy(features)
            if self.log_std is not None:
                dist_inputs = self.with_log_std(dist_inputs, self.log_std)
        return dist_inputs, dist_inputs.new_zeros(dist_inputs.shape[:-1])
