"""Which policy plays which agent, decided for each episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rl_core.env.spaces import describe, same_space
from rl_core.errors import ConfigError
from rl_multiagent.env.agent_env import AgentID
from rl_multiagent.env.layout import AgentLayout


@dataclass(frozen=True, slots=True)
class EpisodeInfo:
    """The episode that agents are given policies for."""

    env_slot: int
    """e."""
    number: int
    """Episodes that this env slot began before."""
    rng: np.random.Generator
    """For drawing policies. Its numbers depend on the run's seed, the slot and the number alone: they are the same in
    every process and after a restart."""


PolicyMappingFn: TypeAlias = Callable[[Any, EpisodeInfo], str]
"""Names the policy of an agent in an episode; called for every possible agent, in order, when an episode begins."""


class PolicyMapper:
    """Works out who plays whom."""

    def __init__(
        self,
        mapping: Mapping[str, str] | PolicyMappingFn | None,
        layout: AgentLayout,
        policies: Sequence[str],
        *,
        seed: int,
    ) -> None:
        """Check a fixed mapping.

        Args:
            mapping: From the names of agents to policies; or a function; or None: the only policy, or the one that is
                called like the agent.
            layout: Of the agents.
            policies: Names of all policies.
            seed: Of the functions' random numbers.

        Raises:
            ConfigError: an agent is mapped to no policy, or to one that does not exist.
        """
        self._layout = layout
        self.seed = seed
        self._function: PolicyMappingFn | None = None
        self._fixed: np.ndarray | None = None
        self.policies = list(policies)
        if callable(mapping):
            self._function = mapping
            return
        if mapping is None:
            only = policies[0] if len(policies) == 1 else None
            mapping = {str(agent): only or str(agent) for agent in layout.agents}
        strangers = sorted(set(mapping) - {str(agent) for agent in layout.agents})
        if strangers:
            raise ConfigError(
                f"policy_mapping_fn: there is no agent {strangers[0]!r}; the env has {_list(layout.agents)}."
            )
        self._fixed = np.array([self._place(agent, mapping.get(str(agent)), None) for agent in layout.agents])

    @property
    def is_fixed(self) -> bool:
        """Whether every episode has the same mapping."""
        return self._fixed is not None

    def columns(self, policy: str) -> list[int]:
        """Columns of the agents that are mapped to a policy; with a function, of all agents."""
        if self._fixed is None:
            return list(range(self._layout.num_agents))
        return np.flatnonzero(self._fixed == self.policies.index(policy)).tolist()

    def assign(self, env_slot: int, number: int) -> np.ndarray:
        """Return for each agent the place of its policy in `policies`, `[A]`.

        Raises:
            ConfigError: the function named a policy that does not exist.
        """
        if self._function is None:
            assert self._fixed is not None
            return self._fixed
        info = EpisodeInfo(env_slot, number, np.random.default_rng((self.seed, env_slot, number)))
        return np.array([self._place(agent, self._function(agent, info), info) for agent in self._layout.agents])

    def _place(self, agent: AgentID, policy: object, info: EpisodeInfo | None) -> int:
        """Find a policy."""
        if policy in self.policies:
            return self.policies.index(policy)
        when = "" if info is None else f" in episode {info.number} of env slot {info.env_slot}"
        raise ConfigError(
            f"policy_mapping_fn: agent {agent!r} is mapped to {policy!r}{when}, which is no policy. There are "
            f"{', '.join(self.policies)}. Add it to `policies`, or map the agent to one of these."
        )


def check_columns(policy: str, columns: Sequence[int], layout: AgentLayout, *, fixed: bool) -> list[int]:
    """Return the columns that a policy can play: all, which must be of one kind, if the mapping is fixed.

    Raises:
        ConfigError: agents of different spaces share the policy, or it is ambiguous which it is for.
    """
    if not columns:
        raise ConfigError(f"policies: no agent is mapped to {policy!r}. Map one to it, or leave the policy out.")
    kinds = sorted({layout.kind_of(column) for column in columns})
    if len(kinds) == 1:
        return list(columns)
    first, second = (layout.kinds[kind] for kind in kinds[:2])
    agents = [layout.agents[kind.start] for kind in (first, second)]
    spaces = (first.observation_space, second.observation_space)
    if same_space(*spaces) is None:
        spaces = (first.action_space, second.action_space)
    if fixed:
        raise ConfigError(
            f"policies: {policy!r} is to play agents {agents[0]!r} and {agents[1]!r}, whose spaces differ: "
            f"{describe(spaces[0])} and {describe(spaces[1])}. Give them a policy each."
        )
    raise ConfigError(
        f"policies: the env has agents of different spaces ({agents[0]!r}: {describe(spaces[0])}, {agents[1]!r}: "
        f"{describe(spaces[1])}), and with a mapping function it is not known which are for {policy!r}. Name one of "
        f"its agents: PolicySpec(like={str(agents[0])!r})."
    )


def _list(agents: Sequence[AgentID]) -> str:
    """Write agents, the first few of many."""
    names = [str(agent) for agent in agents]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
