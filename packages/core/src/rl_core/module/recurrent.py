"""Encoder and memory together, shared by policy and value function or one each."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from torch import Tensor, nn

from rl_core.module.encoders import make_encoder
from rl_core.module.memory import Memory, make_memory
from rl_core.module.settings import ModelSettings
from rl_core.tree import Tree


class RecurrentTrunk(nn.Module):
    """An encoder and a memory behind it; the state is the memory's."""

    def __init__(self, space: spaces.Space[Any], settings: ModelSettings) -> None:
        """Make both, with weights from torch's global random state."""
        super().__init__()
        self.encoder = make_encoder(space, settings)
        memory = make_memory(self.encoder.num_features, settings)
        assert memory is not None, "only made where the settings ask for a memory"
        self.memory: Memory = memory
        self.num_features = memory.num_features

    def step(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Map observations `[B, ...]` and the state before them to features `[B, F]` and the state after them."""
        return self.memory.step(self.encoder(obs), state)

    def sequence(self, obs: Tree, state: Tree) -> Tensor:
        """Map segments `[L, S, ...]` and the state before each to features `[L, S, F]`."""
        return self.memory.sequence(self.encoder(obs), state)


class RecurrentBody(nn.Module):
    """The trunks of policy and value function, or the one they share (`value` is None then).

    The state of a shared trunk is that trunk's, else the pair of both.
    """

    def __init__(self, space: spaces.Space[Any], settings: ModelSettings, *, shared: bool) -> None:
        """Make the trunks, with weights from torch's global random state."""
        super().__init__()
        self.policy = RecurrentTrunk(space, settings)
        self.value = None if shared else RecurrentTrunk(space, settings)
        self.num_features = self.policy.num_features

    def initial_state(self, batch_size: int) -> Tree:
        """Return the state `[B, ...]` at the start of an episode."""
        state = self.policy.memory.initial_state(batch_size)
        return state if self.value is None else (state, self.value.memory.initial_state(batch_size))

    def policy_step(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Return the policy's features `[B, F]`, and the state after these observations."""
        if self.value is None:
            return self.policy.step(obs, state)
        features, policy_state = self.policy.step(obs, state[0])
        return features, (policy_state, self.value.step(obs, state[1])[1])

    def value_step(self, obs: Tree, state: Tree) -> Tensor:
        """Return the value function's features `[B, F]`."""
        trunk, own = (self.policy, state) if self.value is None else (self.value, state[1])
        return trunk.step(obs, own)[0]

    def sequence(self, obs: Tree, state: Tree) -> tuple[Tensor, Tensor]:
        """Return the features of policy and value function `[L, S, F]`."""
        if self.value is None:
            features = self.policy.sequence(obs, state)
            return features, features
        return self.policy.sequence(obs, state[0]), self.value.sequence(obs, state[1])
