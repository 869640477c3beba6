"""Envs of PettingZoo as `MultiAgentEnv`, and a `MultiAgentEnv` as an env of PettingZoo."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo.utils.env import AECEnv, ParallelEnv

from rl_core.errors import EnvError
from rl_multiagent.env.agent_env import EVERYONE, AgentID, MultiAgentEnv
from rl_multiagent.env.slot import MASK

_Spaces = dict[AgentID, spaces.Space[Any]]
_Step = tuple[dict[Any, Any], dict[Any, float], dict[Any, bool], dict[Any, bool], dict[Any, Any]]


class ParallelPettingZooEnv(MultiAgentEnv):
    """A parallel env of PettingZoo, in which all agents act at the same time.

    Action masks are where modules of this library look for them: an observation is a Dict of `observations` and
    `action_mask`, whether the env has the mask in a Dict beside `observation`, or in its infos.
    """

    def __init__(self, env: ParallelEnv[Any, Any, Any]) -> None:
        """Take ownership of the env; it is reset once, to see where its action masks are.

        Raises:
            EnvError: it does not say who may ever take part.
        """
        self.env = _prepare(env)
        self.possible_agents = tuple(env.possible_agents)
        _, infos = env.reset()
        self._look = _Look(env, infos)
        self.observation_spaces: _Spaces = self._look.spaces
        self.action_spaces: _Spaces = {agent: env.action_space(agent) for agent in self.possible_agents}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin an episode."""
        obs, infos = self.env.reset(seed=seed, options=options)
        return self._seen(obs, infos), infos

    def step(self, actions: dict[Any, Any]) -> _Step:
        """Let all agents act."""
        obs, rewards, terminateds, truncateds, infos = self.env.step(actions)
        ends = dict(terminateds), dict(truncateds)
        if not self.env.agents:
            _end(*ends)
        return self._seen(obs, infos), rewards, *ends, infos

    def _seen(self, obs: Mapping[Any, Any], infos: Mapping[Any, Any]) -> dict[Any, Any]:
        """Put observations together with their masks."""
        return {agent: self._look(agent, value, infos.get(agent)) for agent, value in obs.items()}

    def render(self) -> Any:
        """Return what the env draws."""
        return self.env.render()

    def close(self) -> None:
        """Close the env."""
        self.env.close()


class PettingZooEnv(MultiAgentEnv):
    """An env of PettingZoo in which one agent acts at a time (AEC).

    An agent gets its observation when its turn comes, with all rewards since its last turn, which PettingZoo adds up
    for it; and a last observation when its part has ended. Action masks are as in `ParallelPettingZooEnv`.
    """

    def __init__(self, env: AECEnv[Any, Any, Any]) -> None:
        """Take ownership of the env; it is reset once, to see where its action masks are.

        Raises:
            EnvError: it does not say who may ever take part.
        """
        self.env = _prepare(env)
        self.possible_agents = tuple(env.possible_agents)
        env.reset()
        self._look = _Look(env, {env.agent_selection: env.last()[4]})
        self.observation_spaces: _Spaces = self._look.spaces
        self.action_spaces: _Spaces = {agent: env.action_space(agent) for agent in self.possible_agents}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin an episode."""
        self.env.reset(seed=seed, options=options)
        obs, *_, infos = self._go_on()
        return obs, infos

    def step(self, actions: dict[Any, Any]) -> _Step:
        """Let the agent act whose turn it is."""
        self.env.step(actions[self.env.agent_selection])
        return self._go_on()

    def _go_on(self) -> _Step:
        """Take leave of agents whose part has ended, up to the next one that acts."""
        env = self.env
        seen: _Step = ({}, {}, {}, {}, {})
        obs, rewards, terminateds, truncateds, infos = seen
        while env.agents:
            agent = env.agent_selection
            value, rewards[agent], terminated, truncated, infos[agent] = env.last()
            obs[agent] = self._look(agent, value, infos[agent])
            if not (terminated or truncated):
                return seen
            terminateds[agent], truncateds[agent] = bool(terminated), bool(truncated)
            env.step(None)
        _end(terminateds, truncateds)
        return seen

    def render(self) -> Any:
        """Return what the env draws."""
        return self.env.render()

    def close(self) -> None:
        """Close the env."""
        self.env.close()


class AsParallelEnv(ParallelEnv[Any, Any, Any]):  # type: ignore[misc] # PettingZoo is not typed
    """A `MultiAgentEnv` as a parallel env of PettingZoo, for its tools and tests.

    All agents that take part act in every step there. The action of one that waits is not used, and its newest
    observation is given again.
    """

    def __init__(self, env: MultiAgentEnv, name: str = "multi_agent_env", render_mode: str | None = None) -> None:
        """Take ownership of the env.

        Args:
            env: With any schedule of agents.
            name: What PettingZoo calls it.
            render_mode: What `render` returns, in PettingZoo's words.
        """
        self.env = env
        self.metadata = {"name": name, "render_modes": [] if render_mode is None else [render_mode]}
        self.render_mode = render_mode
        self.possible_agents = list(env.possible_agents)
        self.agents: list[AgentID] = []
        self._newest: dict[AgentID, Any] = {}
        self._awaited: set[AgentID] = set()

    def observation_space(self, agent: AgentID) -> spaces.Space[Any]:
        """Look up the space of an agent."""
        return self.env.observation_spaces[agent]

    def action_space(self, agent: AgentID) -> spaces.Space[Any]:
        """Look up the space of an agent."""
        return self.env.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[Any, Any], dict[Any, Any]]:
        """Begin an episode."""
        obs, infos = self.env.reset(seed=seed, options=options)
        self.agents, self._newest, self._awaited = list(obs), dict(obs), set(obs)
        return dict(obs), {agent: dict(infos.get(agent, {})) for agent in self.agents}

    def step(self, actions: dict[Any, Any]) -> _Step:
        """Let those agents act that are awaited.

        Raises:
            EnvError: the episode is over.
        """
        if not self.agents:
            raise EnvError(f"{self.metadata['name']}: step was called, but the episode is over. Call reset first.")
        awaited = {agent: action for agent, action in actions.items() if agent in self._awaited}
        obs, rewards, terminateds, truncateds, infos = self.env.step(awaited)
        self._newest |= obs
        present = [*self.agents, *(agent for agent in obs if agent not in self.agents)]
        ends = [
            {agent: bool(flags.get(agent)) or bool(flags.get(EVERYONE)) for agent in present}
            for flags in (terminateds, truncateds)
        ]
        self.agents = [agent for agent in present if not (ends[0][agent] or ends[1][agent])]
        self._awaited = set(obs) & set(self.agents)
        return (
            {agent: self._newest[agent] for agent in present},
            {agent: float(rewards.get(agent, 0.0)) for agent in present},
            ends[0],
            ends[1],
            {agent: dict(infos.get(agent, {})) for agent in present},
        )

    def render(self) -> Any:
        """Return what the env draws."""
        return self.env.render()

    def close(self) -> None:
        """Close the env."""
        self.env.close()


def as_multi_agent_env(env: object) -> MultiAgentEnv | None:
    """Wrap an env of PettingZoo; None if it is none."""
    if isinstance(env, ParallelEnv):
        return ParallelPettingZooEnv(env)
    return PettingZooEnv(env) if isinstance(env, AECEnv) else None


class _Look:
    """Turns what PettingZoo shows an agent into an observation with its action mask."""

    def __init__(self, env: Any, infos: Mapping[Any, Mapping[str, Any]]) -> None:
        """Find out where masks are.

        Args:
            env: Of PettingZoo.
            infos: Of agents that act first.
        """
        in_infos = any(MASK in info for info in infos.values())
        self._renamed: dict[AgentID, None] = {}  # a set's order cannot be saved with the env
        self._added: dict[AgentID, spaces.MultiBinary] = {}
        self.spaces: _Spaces = {}
        for agent in env.possible_agents:
            space, actions = env.observation_space(agent), env.action_space(agent)
            if isinstance(space, spaces.Dict) and MASK in space.spaces:
                if "observation" in space.spaces and "observations" not in space.spaces:
                    self._renamed[agent] = None
                    space = spaces.Dict(_rename(space.spaces))
            elif in_infos and isinstance(actions, spaces.Discrete):
                mask = self._added[agent] = spaces.MultiBinary(int(actions.n))
                space = spaces.Dict({MASK: mask, "observations": space})
            self.spaces[agent] = space

    def __call__(self, agent: AgentID, value: Any, info: Mapping[str, Any] | None) -> Any:
        """Put an observation together; a mask that infos leave out allows everything."""
        if agent in self._renamed:
            return _rename(value)
        mask = self._added.get(agent)
        if mask is None:
            return value
        given = (info or {}).get(MASK)
        return {MASK: np.ones(mask.shape, mask.dtype) if given is None else np.asarray(given), "observations": value}


def _rename(parts: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Call `observation` what it is called here."""
    return OrderedDict(("observations" if key == "observation" else key, part) for key, part in parts.items())


def _prepare(env: Any) -> Any:
    """Check who may ever take part, and make what PettingZoo makes while it runs, so that a saved state fits."""
    if not getattr(env, "possible_agents", None):
        raise EnvError(
            f"{env}: it has no possible_agents, so nobody knows who may take part. Give it the list of all agents."
        )
    inner = env.unwrapped
    if isinstance(inner, AECEnv) and not hasattr(inner, "_skip_agent_selection"):
        inner._skip_agent_selection = None  # as AECEnv takes it where there is none
    return env


def _end(terminateds: dict[Any, bool], truncateds: dict[Any, bool]) -> None:
    """End the episode for those that PettingZoo dropped without a word, too."""
    cut = any(truncateds.values()) and not any(terminateds.values())
    (truncateds if cut else terminateds)[EVERYONE] = True
