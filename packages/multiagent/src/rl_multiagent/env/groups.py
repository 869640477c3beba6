"""Several agents that act as one, as RLlib's `with_agent_groups`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gymnasium import spaces

from rl_core.errors import EnvError
from rl_multiagent.env.agent_env import EVERYONE, AgentID, MultiAgentEnv
from rl_multiagent.env.layout import zeros


class GroupedAgents(MultiAgentEnv):
    """Makes each group of agents one agent, whose observations and actions are tuples and whose reward is the sum.

    A group acts when any of its members does. The place of a member that got no observation holds the newest that it
    had in the episode, zeros before the first, and its action is not used. A group leaves when all its members have,
    truncated if any of them was.

    Example:
        >>> GroupedAgents(env, {"team": ("a", "b")})  # agents: "team", and those of env that are in no group
    """

    def __init__(self, env: MultiAgentEnv, groups: Mapping[AgentID, Sequence[AgentID]]) -> None:
        """Take ownership of the env.

        Args:
            env: Whose agents are grouped.
            groups: Name of each group -> its members, in the order of the tuples.

        Raises:
            EnvError: a member is no agent of the env, is in two groups, or a group has none or the name of an agent.
        """
        self.env = env
        self.groups = {group: tuple(members) for group, members in groups.items()}
        self._group_of = {agent: group for group, members in self.groups.items() for agent in members}
        self._check()
        single = tuple(agent for agent in env.possible_agents if agent not in self._group_of)
        self.possible_agents = (*self.groups, *single)
        self.observation_spaces = self._spaces(env.observation_spaces)
        self.action_spaces = self._spaces(env.action_spaces)
        self._newest: dict[AgentID, Any] = {}
        # Dicts in place of sets, whose order could not be saved with the env.
        self._awaited: dict[AgentID, None] = {}
        self._present: dict[AgentID, None] = {}
        self._ends: dict[AgentID, bool] = {}
        """Members that left this episode, and whether they were cut."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin an episode."""
        obs, infos = self.env.reset(seed=seed, options=options)
        self._newest = {agent: zeros(self.env.observation_spaces[agent], ()) for agent in self._group_of}
        self._present, self._ends = dict.fromkeys(obs), {}
        return self._seen(obs, ()), self._infos(infos)

    def step(
        self, actions: dict[Any, Any]
    ) -> tuple[dict[Any, Any], dict[Any, float], dict[Any, bool], dict[Any, bool], dict[Any, Any]]:
        """Let groups and single agents act."""
        chosen: dict[AgentID, Any] = {}
        for name, action in actions.items():
            members = self.groups.get(name)
            parts = {name: action} if members is None else dict(zip(members, action, strict=True))
            chosen.update((agent, part) for agent, part in parts.items() if agent in self._awaited)
        obs, rewards, terminateds, truncateds, infos = self.env.step(chosen)
        grouped_rewards: dict[Any, float] = {}
        for agent, reward in rewards.items():
            name = self._group_of.get(agent, agent)
            grouped_rewards[name] = grouped_rewards.get(name, 0.0) + reward
        self._present |= dict.fromkeys(obs)
        gone = self._leave(terminateds, truncateds)
        ends = {name: not cut for name, cut in gone.items()}, gone
        return self._seen(obs, gone), grouped_rewards, *ends, self._infos(infos)

    def render(self) -> Any:
        """Return what the env draws."""
        return self.env.render()

    def close(self) -> None:
        """Close the env."""
        self.env.close()

    def _seen(self, obs: Mapping[Any, Any], gone: Collection[AgentID]) -> dict[Any, Any]:
        """Put the observations together of groups that act, and the last ones of those that are gone."""
        acting = () if EVERYONE in gone else (agent for agent in obs if agent not in self._ends)
        self._awaited = dict.fromkeys(acting)
        self._newest.update((agent, value) for agent, value in obs.items() if agent in self._group_of)
        seen: dict[Any, Any] = {}
        for agent, value in obs.items():
            group = self._group_of.get(agent)
            if group is None:
                seen[agent] = value
            elif agent in self._awaited or group in gone or EVERYONE in gone:
                seen[group] = tuple(self._newest[member] for member in self.groups[group])
        return seen

    def _leave(self, terminateds: Mapping[Any, bool], truncateds: Mapping[Any, bool]) -> dict[Any, bool]:
        """Work out which groups and single agents leave, and whether they are cut: who terminates is not."""
        ended = {agent: True for agent, flag in truncateds.items() if flag}
        ended |= {agent: False for agent, flag in terminateds.items() if flag}
        everyone = {EVERYONE: ended.pop(EVERYONE)} if EVERYONE in ended else {}
        self._ends |= ended
        for agent in ended:
            self._present.pop(agent, None)
        if not everyone and not self._present:  # all that took part have left, if not all members of the groups
            everyone = {EVERYONE: any(self._ends.values())}
        gone = {agent: cut for agent, cut in ended.items() if agent not in self._group_of}
        for group in {self._group_of[agent] for agent in ended if agent in self._group_of}:
            if all(agent in self._ends for agent in self.groups[group]):
                gone[group] = any(self._ends[agent] for agent in self.groups[group])
        return gone | everyone

    def _infos(self, infos: Mapping[Any, Any]) -> dict[Any, Any]:
        """Infos of groups are those of their members, by agent."""
        grouped: dict[Any, Any] = {}
        for agent, info in infos.items():
            if agent in self._group_of:
                grouped.setdefault(self._group_of[agent], {})[agent] = info
            else:
                grouped[agent] = info
        return grouped

    def _spaces(self, given: Mapping[Any, spaces.Space[Any]]) -> dict[AgentID, spaces.Space[Any]]:
        """Make the spaces of all groups and single agents."""
        return {
            name: spaces.Tuple([given[agent] for agent in self.groups[name]]) if name in self.groups else given[name]
            for name in self.possible_agents
        }

    def _check(self) -> None:
        """Refuse groups that make no sense."""
        agents = self.env.possible_agents
        for group, members in self.groups.items():
            strangers = [agent for agent in members if agent not in agents]
            if strangers or not members:
                raise EnvError(
                    f"GroupedAgents: group {group!r} is of {members}, expected one or more of possible_agents {agents}."
                )
            twice = [agent for agent in members if self._group_of[agent] != group or members.count(agent) > 1]
            if twice:
                raise EnvError(f"GroupedAgents: agent {twice[0]!r} is in more than one place. Put it into one group.")
            if group in agents and group not in members:
                raise EnvError(f"GroupedAgents: group {group!r} is called like an agent. Give it a name of its own.")
