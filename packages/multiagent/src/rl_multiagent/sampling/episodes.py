"""Finished episodes: the env's returns, each agent's and policy's share, and who played whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_multiagent.env.agent_env import AgentID
from rl_multiagent.records import AgentEpisodes, AgentsStep


class AgentEpisodeCounter:
    """Sums rewards per agent and env steps per slot, whatever the rollouts' boundaries."""

    def __init__(self, num_envs: int, agents: Sequence[AgentID], policies: Sequence[str]) -> None:
        """Begin with no episode under way.

        Args:
            num_envs: E.
            agents: In order of their columns.
            policies: In order of their places in a mapping.
        """
        self._agents = tuple(agents)
        self.rename(policies)
        self.open_return = np.zeros((num_envs, len(agents)))
        self.open_length = np.zeros(num_envs, np.int64)
        self.took_part = np.zeros((num_envs, len(agents)), bool)
        self._ended: list[tuple[np.ndarray, int, np.ndarray, np.ndarray]] = []

    def rename(self, policies: Sequence[str]) -> None:
        """Take other names of policies, in order of their places in a mapping."""
        self._policies = tuple(policies)

    def begin(self, step: AgentsStep) -> None:
        """Take the first observations of all slots."""
        self.open_return[:] = 0.0
        self.open_length[:] = 0
        self.took_part[:] = step.acts
        self._ended.clear()

    def add(self, step: AgentsStep, owner: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
        """Add one step of all slots.

        Args:
            step: Of the envs.
            owner: `[E, A]`: places of the policies that played up to this step.
            counted: `[E]`: slots whose episodes count; None for all.

        Returns:
            `[K]`: env slots whose episode ended with it.
        """
        if step.broken is not None and step.broken.any():
            self.open_return[step.broken] = 0.0
            self.open_length[step.broken] = -1  # this step did not take place
            self.took_part[step.broken] = False
        self.open_return += step.reward
        self.open_length += 1
        ended = np.flatnonzero(step.first if step.broken is None else step.first & ~step.broken)
        if len(ended):
            self.took_part[ended] |= step.terminated[ended] | step.truncated[ended]
            for slot in ended if counted is None else ended[counted[ended]]:
                length = int(self.open_length[slot])
                self._ended.append(
                    (self.open_return[slot].copy(), length, self.took_part[slot].copy(), owner[slot].copy())
                )
            self.open_return[ended] = 0.0
            self.open_length[ended] = 0
            self.took_part[ended] = False
        self.took_part |= step.acts
        return ended

    def take(self) -> AgentEpisodes:
        """Return what ended since the last call."""
        ended, self._ended = self._ended, []
        shape = (len(ended), len(self._agents))
        agent_returns = np.array([returns for returns, *_ in ended], np.float64).reshape(shape)
        took_part = np.array([part for *_, part, _ in ended], bool).reshape(shape)
        played_by = np.array([owner for *_, owner in ended], np.int64).reshape(shape)
        parts = {
            f"agent_episode_return_mean/{agent}": agent_returns[took_part[:, column], column]
            for column, agent in enumerate(self._agents)
        }
        episode, column = np.nonzero(took_part)
        place = played_by[episode, column]
        shares = np.zeros((len(ended), len(self._policies)))
        played = np.zeros(shares.shape, bool)
        np.add.at(shares, (episode, place), agent_returns[episode, column])
        played[episode, place] = True
        for own, policy in enumerate(self._policies):
            parts[f"policy_episode_return_mean/{policy}"] = shares[played[:, own], own]
        return AgentEpisodes(
            returns=agent_returns.sum(1),
            lengths=np.array([length for _, length, *_ in ended], np.int64),
            parts=parts,
            agents=self._agents,
            policies=self._policies,
            played_by=played_by,
            agent_returns=agent_returns,
            took_part=took_part,
        )

    def get_state(self) -> dict[str, Any]:
        """Return the sums of open episodes."""
        return {"return": self.open_return, "length": self.open_length, "took_part": self.took_part}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""
        self.open_return = np.array(state["return"])
        self.open_length = np.array(state["length"])
        self.took_part = np.array(state["took_part"])
