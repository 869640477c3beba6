"""The networks of a group of agents that act as one: one for all members of equal spaces, or one for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_core.config.check import Settings
from rl_core.env.spaces import describe, same_space
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module.encoders import ToVector, dense_network
from rl_core.module.settings import ModelSettings
from rl_core.records import Tree

MASK = "action_mask"
"""Key of a member's observation that says which of its actions are legal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSettings(Settings):
    """How the networks of the members are built."""

    model: ModelSettings = field(default_factory=ModelSettings)
    """Dense layers; what is for images and memories is not used."""
    share_members: bool = True
    """One network for members of equal spaces, which is told who it plays; False gives each its own."""

    def check(self) -> None:
        """Refuse a memory.

        Raises:
            ConfigError: there is one.
        """
        if self.model.has_memory:
            raise ConfigError(
                "use_lstm, use_gru, use_attention: got True, expected False: algorithms for groups have no memory. "
                "Stack observations, or use MAPPO."
            )


class MemberObs(nn.Module):
    """Observations of a group `(member 0, member 1, ...)` as float vectors, and the masks of legal actions."""

    def __init__(self, space: spaces.Space[Any], action_space: spaces.Space[Any], *, name: str) -> None:
        """Prepare for the spaces of a group.

        Args:
            space: Tuple of the members' observations; one that is a Dict may have `action_mask`.
            action_space: Tuple of Discrete, as many.
            name: What messages call the module.

        Raises:
            UnsupportedSpaceError: they are not of a group, or a member's actions are not Discrete.
        """
        super().__init__()
        actions = action_space.spaces if isinstance(action_space, spaces.Tuple) else ()
        if not actions or not all(isinstance(part, spaces.Discrete) for part in actions):
            raise UnsupportedSpaceError(
                f"{name}: got the action space {describe(action_space)}, expected a Tuple of Discrete, the actions of "
                "a group. Put the agents together with GroupedAgents."
            )
        members = space.spaces if isinstance(space, spaces.Tuple) else ()
        if len(members) != len(actions):
            raise UnsupportedSpaceError(
                f"{name}: got observations {describe(space)}, expected a Tuple of {len(actions)}, one for each member "
                "of the group. Connectors must leave it a Tuple."
            )
        self.num_actions = [int(part.n) for part in actions]  # type: ignore[attr-defined]
        self.are_equal = len(set(self.num_actions)) == 1 and all(
            same_space(members[0], member) is None for member in members
        )
        self.has_mask = [isinstance(member, spaces.Dict) and MASK in member.spaces for member in members]
        to_vector = [_MemberVector(member) for member in members]
        self.to_vector = nn.ModuleList(to_vector)
        self.sizes = [part.num_features for part in to_vector]
        """Width of each member's vector."""

    def forward(self, obs: Tree) -> list[Tensor]:
        """Return the vector `[..., D_i]` of each member."""
        return [to_vector(own) for to_vector, own in zip(self.to_vector, obs, strict=True)]

    def forbid(self, obs: Tree, outputs: Sequence[Tensor], value: float) -> list[Tensor]:
        """Give illegal actions a value; a member without a legal one, whose episode is over, keeps its outputs."""
        return [
            masked_unless_none(own, part[MASK] != 0, value) if has_mask else own
            for own, part, has_mask in zip(outputs, obs, self.has_mask, strict=True)
        ]


def masked_unless_none(outputs: Tensor, legal: Tensor, value: float) -> Tensor:
    """Fill `outputs` `[..., A]` where an action is not legal, in rows that have a legal one."""
    return outputs.masked_fill(~legal & legal.any(-1, keepdim=True), value)


class MemberNetworks(nn.Module):
    """Dense layers from each member's vector `[..., D_i]` to its outputs `[..., A_i]`."""

    def __init__(
        self, sizes: Sequence[int], num_outputs: Sequence[int], settings: ModelSettings, *, shared: bool
    ) -> None:
        """Make and initialise the layers.

        Args:
            sizes: D_i of each member.
            num_outputs: A_i of each member.
            settings: Of the layers.
            shared: One network for all members, whose sizes are equal; it is told who it plays.
        """
        super().__init__()
        self.shared = shared
        if shared:
            sizes, num_outputs = [sizes[0] + len(sizes)], num_outputs[:1]
        gain = settings.policy_head_gain
        self.networks = nn.ModuleList(
            dense_network(size, outputs, settings, gain=gain) for size, outputs in zip(sizes, num_outputs, strict=True)
        )

    def network_of(self, place: int) -> nn.Module:
        """Return the network that plays a member; a shared one takes its vector and then, one-hot, its place."""
        return self.networks[0 if self.shared else place]

    def forward(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """Return each member's outputs."""
        if not self.shared:
            return [network(vector) for network, vector in zip(self.networks, vectors, strict=True)]
        stacked = torch.stack(tuple(vectors), -2)
        who = torch.eye(len(vectors), device=stacked.device).expand(*stacked.shape[:-1], -1)
        return list(self.networks[0](torch.cat((stacked, who), -1)).unbind(-2))


class _MemberVector(nn.Module):
    """One member's observation as a float vector `[..., D]`, without its mask of legal actions."""

    num_features: int

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__()
        self._paths, leaves = zip(*_leaves(space), strict=True)
        parts = [ToVector(leaf) for leaf in leaves]
        self._parts = nn.ModuleList(parts)
        self.num_features = sum(part.num_features for part in parts)

    def forward(self, obs: Tree) -> Tensor:
        return torch.cat([part(_at(obs, path)) for part, path in zip(self._parts, self._paths, strict=True)], -1)


def _leaves(space: spaces.Space[Any], path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], spaces.Space[Any]]]:
    """List where the leaves of a member's observation are, without its mask of legal actions."""
    parts: list[tuple[Any, spaces.Space[Any]]]
    if isinstance(space, spaces.Dict):
        parts = [(key, space.spaces[key]) for key in sorted(space.spaces) if path or key != MASK]
    elif isinstance(space, spaces.Tuple):
        parts = list(enumerate(space.spaces))
    else:
        return [(path, space)]
    return [leaf for key, part in parts for leaf in _leaves(part, (*path, key))]


def _at(tree: Tree, path: tuple[Any, ...]) -> Tensor:
    """Go down a tree."""
    for key in path:
        tree = tree[key]
    leaf: Tensor = tree
    return leaf
