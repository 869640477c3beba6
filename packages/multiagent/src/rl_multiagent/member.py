"""One member out of the policy of a group, which acts alone."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from rl_core import Policy
from rl_core.connect.required import ActionToEnv
from rl_core.errors import ConfigError
from rl_core.module.exploration import EpsilonGreedy
from rl_core.module.rl_module import RLModule
from rl_core.module.spec import ModuleSpec
from rl_core.records import Tree
from rl_multiagent.module.members import MASK, masked_unless_none
from rl_multiagent.module.team import TeamModule


def member_policy(policy: Policy, place: int) -> Policy:
    """Take one member out of a policy of QMIX, VDN or COMA: it acts on what it sees itself.

    Args:
        policy: Of a group, without observation connectors; the member gets a copy of its weights.
        place: Of the member in the group.

    Raises:
        ConfigError: it is no policy of a group, has connectors, or has no such member.

    Example:
        >>> policy = Policy.from_checkpoint("runs/qmix/checkpoints/iteration_000100")
        >>> action, state = member_policy(policy, 1).act(what_the_second_sees)
    """
    team = policy.module
    if not isinstance(team, TeamModule):
        raise ConfigError(
            f"member_policy: got a policy whose module is {type(team).__name__}, expected one of QMIX, VDN or COMA."
        )
    if policy.obs_chain.pieces:
        raise ConfigError(
            f"member_policy: the group has connectors ({policy.obs_chain.pieces}), which see all members at once. Give "
            "the policy to the group as a whole, or train without them."
        )
    if not 0 <= place < len(team.obs.num_actions):
        raise ConfigError(f"member_policy: got place {place}, expected 0 to {len(team.obs.num_actions) - 1}.")
    member = Member(team, place)
    return Policy(
        ModuleSpec(module_class=member, model_config={}),
        member.observation_space,
        member.action_space,
        action_connectors=[ActionToEnv()],
    )


class Member(RLModule):
    """The policy of one member of a group; it explores no more than its distribution does by itself."""

    flatten_observations: ClassVar[bool] = False
    _who: Tensor

    def __init__(self, team: TeamModule, place: int) -> None:
        """Share the networks of a group.

        Args:
            team: The group's module.
            place: Of the member.
        """
        spaces = team.observation_space.spaces[place], team.action_space.spaces[place]  # type: ignore[attr-defined]
        super().__init__(*spaces)
        self.distribution = team.distribution.parts[place]  # type: ignore[attr-defined]
        self.to_vector = team.obs.to_vector[place]
        self.network = team.agents.network_of(place)
        self._forbidden = team.forbidden
        self._has_mask = team.obs.has_mask[place]
        num_members = len(team.obs.num_actions)
        who = torch.eye(num_members)[place] if team.agents.shared else torch.zeros(0)
        self.register_buffer("_who", who)

    def forward_policy(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Return the distribution's inputs `[..., P]`: action values and an epsilon of 0, or logits."""
        vector = self.to_vector(obs)
        outputs = self.network(torch.cat((vector, self._who.expand(*vector.shape[:-1], -1)), -1))
        if self._has_mask:
            outputs = masked_unless_none(outputs, obs[MASK] != 0, self._forbidden)
        if isinstance(self.distribution, EpsilonGreedy):
            outputs = torch.cat((outputs, outputs.new_zeros(*outputs.shape[:-1], 1)), -1)
        return outputs, state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Refuse: values are the group's.

        Raises:
            TypeError: always.
        """
        raise TypeError("Member has no value function: values are the group's.")
