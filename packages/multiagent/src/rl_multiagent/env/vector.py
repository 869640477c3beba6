"""Env slots that are stepped together: the protocol, and the form that steps one env after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from rl_core.errors import CheckpointError
from rl_core.records import Tree
from rl_multiagent.env.agent_env import MultiAgentEnv
from rl_multiagent.env.arrays import AgentArrays
from rl_multiagent.env.layout import AgentLayout, agent_layout
from rl_multiagent.env.slot import EnvSlot
from rl_multiagent.records import AgentsStep


@runtime_checkable
class AgentsVectorEnv(Protocol):
    """E env slots with A possible agents each; a slot begins a new episode by itself when one ends.

    An env that works on arrays itself implements it directly, and is then free of dicts and loops over agents.
    """

    num_envs: int
    """E."""
    layout: AgentLayout
    """Of the agents."""

    def reset(self, seed: int | None = None) -> AgentsStep:
        """Begin a new episode in every slot.

        Args:
            seed: Seeds every slot differently; None goes on with the random state each slot has.
        """

    def step(self, actions: tuple[Tree, ...]) -> AgentsStep:
        """Act in every slot.

        Args:
            actions: For each kind `[E, A_k, ...]`; read where the step before said `acts`.
        """

    def close(self) -> None:
        """Release what the env holds; calling it twice is fine."""

    def get_state(self) -> dict[str, Any] | None:
        """The exact state as nested dicts and lists of arrays and JSON data, or None if it cannot be captured."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where `get_state` was called, on an env made in the same way; the arrays stay.

        Raises:
            CheckpointError: the state does not fit.
        """


class SyncAgentsEnv:
    """Steps one env after the other in this process."""

    def __init__(self, make_env: Callable[[], MultiAgentEnv], num_envs: int, *, name: str) -> None:
        """Make the envs.

        Args:
            make_env: Makes one env.
            num_envs: E.
            name: What messages call it.
        """
        self.num_envs = num_envs
        envs = [make_env() for _ in range(num_envs)]
        self.layout = agent_layout(envs[0], name)
        self._arrays = AgentArrays.allocate(self.layout, num_envs)
        self._step = self._arrays.step()
        self._slots = [EnvSlot(env, self.layout, self._arrays, row=row, name=name) for row, env in enumerate(envs)]

    def reset(self, seed: int | None = None) -> AgentsStep:
        """Begin a new episode in every slot; slot e gets `seed + e`."""
        for row, slot in enumerate(self._slots):
            slot.reset(None if seed is None else seed + row)
        return self._step

    def step(self, actions: tuple[Tree, ...]) -> AgentsStep:
        """Act in every slot; what is returned are buffers, valid until the next call."""
        for slot in self._slots:
            slot.step(actions)
        return self._step

    def close(self) -> None:
        """Close all envs."""
        for slot in self._slots:
            slot.close()

    def get_state(self) -> dict[str, Any] | None:
        """The state of all slots."""
        states = [slot.get_state() for slot in self._slots]
        return None if any(state is None for state in states) else {"slots": states}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `get_state` was called."""
        if len(state["slots"]) != self.num_envs:
            raise CheckpointError(f"The saved env state has {len(state['slots'])} slots, this run {self.num_envs}.")
        for slot, saved in zip(self._slots, state["slots"], strict=True):
            slot.set_state(saved)
