"""What the modules of groups have in common: a network for each member."""

from __future__ import annotations

from typing import Any, ClassVar

from gymnasium import spaces
from torch import Tensor, nn

from rl_core.module.rl_module import RLModule
from rl_core.records import Tree
from rl_multiagent.module.members import MemberNetworks, MemberObs, MemberSettings


class TeamModule(RLModule):
    """Base of the modules that act for a group; `obs` reads what its members see, `agents` are their networks."""

    flatten_observations: ClassVar[bool] = False
    settings_from_algorithm: ClassVar[bool] = True
    forbidden: ClassVar[float]
    """What a member's network says of an illegal action."""

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], settings: MemberSettings
    ) -> None:
        """Build the members' networks, with weights from torch's global random state.

        Args:
            observation_space: Tuple, see `MemberObs`.
            action_space: Tuple of Discrete.
            settings: Of the networks.

        Raises:
            UnsupportedSpaceError: the spaces are not those of a group.
        """
        obs = MemberObs(observation_space, action_space, name=type(self).__name__)
        super().__init__(observation_space, action_space)
        self.settings = settings
        self.obs = obs
        shared = settings.share_members and obs.are_equal
        self.agents = MemberNetworks(obs.sizes, obs.num_actions, settings.model, shared=shared)

    def outputs(self, agents: nn.Module, obs: Tree) -> list[Tensor]:
        """Return what members' networks, these or slower copies, say of each action, `[..., A_i]`."""
        return self.obs.forbid(obs, agents(self.obs(obs)), self.forbidden)
