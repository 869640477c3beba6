"""Policies of a group's members with a critic that knows what each of them did: COMA."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from rl_core.config.check import Settings
from rl_core.module.encoders import dense_network
from rl_core.records import Tree
from rl_multiagent.module.members import MemberNetworks, MemberSettings
from rl_multiagent.module.team import TeamModule


class TeamActorCritic(TeamModule):
    """A policy for each member of a group; critics of the group's return, which only the learner needs.

    `value` estimates the return from all observations; `q` for each member that from all observations and what the
    others did, for each of the member's actions.
    """

    learner_only: ClassVar[tuple[str, ...]] = ("value", "q")
    settings_class: ClassVar[type[Settings] | None] = MemberSettings
    forbidden: ClassVar[float] = torch.finfo(torch.float32).min

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: MemberSettings | None = None,
    ) -> None:
        """Build the networks; see `TeamModule`."""
        settings = settings or MemberSettings()
        super().__init__(observation_space, action_space, settings)
        num_actions, num_state = self.obs.num_actions, sum(self.obs.sizes)
        self.value: nn.Module = dense_network(num_state, 1, settings.model, gain=settings.model.value_head_gain)
        sizes = [num_state + sum(num_actions)] * len(num_actions)
        self.q = MemberNetworks(sizes, num_actions, settings.model, shared=len(set(num_actions)) == 1)

    def forward_policy(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Return the members' logits, one after the other."""
        return torch.cat(self.outputs(self.agents, obs), -1), state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return the group's value `[...]`."""
        value: Tensor = self.value(torch.cat(self.obs(obs), -1))
        return value.squeeze(-1)

    def counterfactual(self, obs: Tree, action: Tree) -> list[Tensor]:
        """Return for each member the group's value `[..., A_i]` of each of its actions, the others doing what they did.

        Source: Foerster et al. 2018, figure 1c.
        """
        sizes = self.obs.num_actions
        done = [functional.one_hot(own, size).float() for own, size in zip(action, sizes, strict=True)]
        state = self.obs(obs)
        inputs = [
            torch.cat([*state, *(torch.zeros_like(part) if who == own else part for who, part in enumerate(done))], -1)
            for own in range(len(done))
        ]
        values: list[Tensor] = self.q(inputs)
        return values
