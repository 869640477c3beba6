"""Action values of a group's members, and how they mix into the group's: QMIX and VDN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from rl_core.config.check import Range, Settings
from rl_core.module.distribution import Nested
from rl_core.module.exploration import FORBIDDEN, EpsilonGreedy
from rl_core.records import Tree
from rl_multiagent.module.members import MemberSettings
from rl_multiagent.module.team import TeamModule

Mixer = Literal["qmix", "vdn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamQSettings(MemberSettings):
    """How `TeamQNetwork` is built; the algorithm fills it in."""

    mixer: Mixer = "qmix"
    """`qmix`: a network that rises with each member's value. `vdn`: their sum."""
    mixing_embed_dim: Annotated[int, Range(ge=1)] = 32
    """Units of the mixing network."""


class TeamQNetwork(TeamModule):
    """A value for each action of each member of a group; members act greedily but for `epsilon`.

    `mixer` makes the group's value of its members' and of all their observations; only the learner needs it.
    """

    learner_only: ClassVar[tuple[str, ...]] = ("mixer",)
    settings_class: ClassVar[type[Settings] | None] = TeamQSettings
    forbidden: ClassVar[float] = FORBIDDEN
    epsilon: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: TeamQSettings | None = None,
    ) -> None:
        """Build the networks; see `TeamModule`."""
        settings = settings or TeamQSettings()
        super().__init__(observation_space, action_space, settings)
        sizes = self.obs.sizes
        self.distribution = Nested(tuple(EpsilonGreedy(num_actions) for num_actions in self.obs.num_actions))
        self.mixer: nn.Module = (
            MonotonicMixer(len(sizes), sum(sizes), settings.mixing_embed_dim)
            if settings.mixer == "qmix"
            else SumMixer()
        )
        self.register_buffer("epsilon", torch.ones(()))

    def forward_policy(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Return each member's action values and epsilon, see `EpsilonGreedy`, one after the other."""
        q = self.outputs(self.agents, obs)
        epsilon = self.epsilon.expand(*q[0].shape[:-1], 1)
        return torch.cat([part for values in q for part in (values, epsilon)], -1), state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return the group's value `[...]` of the best actions; for the learner, which has the mixer."""
        best = torch.stack([values.amax(-1) for values in self.outputs(self.agents, obs)], -1)
        value: Tensor = self.mixer(best, self.state_of(obs))
        return value

    def state_of(self, obs: Tree) -> Tensor:
        """Return what mixing depends on: all members' observations, `[..., S]`."""
        return torch.cat(self.obs(obs), -1)


class SumMixer(nn.Module):
    """The group's value is the sum of its members'. Source: Sunehag et al. 2018 (VDN), equation 1."""

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Map `[..., n]` to `[...]`."""
        return values.sum(-1)


class MonotonicMixer(nn.Module):
    """A network of the members' values whose weights, functions of the state, are not negative.

    So the best action of each member is the best for the group, and each can be found by the member alone.

    Source: Rashid et al. 2018 (QMIX), section 4.1 and figure 2.
    """

    def __init__(self, num_members: int, num_state: int, embed_dim: int) -> None:
        """Make the networks that give the weights.

        Args:
            num_members: n.
            num_state: S.
            embed_dim: E, units of the layer between.
        """
        super().__init__()
        self._shape = (num_members, embed_dim)
        self.weight = nn.Linear(num_state, num_members * embed_dim)
        self.bias = nn.Linear(num_state, embed_dim)
        self.last_weight = nn.Linear(num_state, embed_dim)
        self.last_bias = nn.Sequential(nn.Linear(num_state, embed_dim), nn.ReLU(), nn.Linear(embed_dim, 1))

    def forward(self, values: Tensor, state: Tensor) -> Tensor:
        """Map members' values `[..., n]` and states `[..., S]` to the group's value `[...]`."""
        weight = self.weight(state).abs().unflatten(-1, self._shape)
        hidden = functional.elu((values.unsqueeze(-2) @ weight).squeeze(-2) + self.bias(state))
        total: Tensor = (hidden * self.last_weight(state).abs()).sum(-1) + self.last_bias(state).squeeze(-1)
        return total
