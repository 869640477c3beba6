"""What all agents of an env saw last, for critics that look at everyone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_core.env.spaces import batch_flattener, flat_dim
from rl_core.tree import tree_map
from rl_multiagent.env.layout import AgentLayout
from rl_multiagent.records import AgentsStep


def num_joint_features(layout: AgentLayout) -> int:
    """J: width of what critics that look at everyone get, see `JointRows`."""
    width = sum(kind.num_agents * flat_dim(kind.observation_space) for kind in layout.kinds)
    return width + 2 * layout.num_agents


class JointView:
    """For each env slot one vector `[D]`: what each agent saw last, and whether it still takes part.

    Agents stand in order of their columns, each with its newest observation of the episode as a vector, zeros before
    the first; then for each agent 1 if it has seen something and not left, else 0.
    """

    def __init__(self, layout: AgentLayout, num_envs: int) -> None:
        """Begin with nothing seen.

        Args:
            layout: Of the agents.
            num_envs: E.
        """
        self.num_agents = layout.num_agents
        self._flatten = [batch_flattener(kind.observation_space) for kind in layout.kinds]
        self._columns = [slice(kind.start, kind.stop) for kind in layout.kinds]
        self._places: list[slice] = []
        stop = 0
        for kind in layout.kinds:
            start, stop = stop, stop + kind.num_agents * flat_dim(kind.observation_space)
            self._places.append(slice(start, stop))
        self.newest = np.zeros((num_envs, stop + layout.num_agents), np.float32)
        """`[E, D]`: what next actions are chosen in."""
        self.final = self.newest
        """`[E, D]`: what agents whose part ended in the last step saw at their end; meaningful where one's did."""

    def receive(self, step: AgentsStep) -> None:
        """Take in what the envs said."""
        done = step.terminated | step.truncated
        if done.any():
            self.final = self.newest.copy()
            self._see(self.final, step.obs, step.acts & ~step.first[:, np.newaxis])
            self._see(self.final, step.final_obs, step.final_observed)
        there = self.newest[:, -self.num_agents :]
        there[done] = 0.0
        self.newest[step.first] = 0.0
        self._see(self.newest, step.obs, step.acts)
        there[step.acts] = 1.0

    def _see(self, view: np.ndarray, obs: tuple[Any, ...], seen: np.ndarray) -> None:
        """Put the observations of some agents `[E, A]` into a view, in place."""
        for leaves, flatten, columns, place in zip(obs, self._flatten, self._columns, self._places, strict=True):
            where = seen[:, columns]  # [E, A_k]
            part = view[:, place].reshape(*where.shape, -1)  # shares memory: an axis is split
            if where.all():
                rows = tree_map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), leaves)
                part[:] = flatten(rows).reshape(part.shape)
            elif where.any():
                part[where] = flatten(tree_map(lambda leaf, where=where: leaf[where], leaves))

    def get_state(self) -> dict[str, Any]:
        """Return what was seen."""
        return {"newest": self.newest.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""
        self.newest[:] = state["newest"]


class JointRows:
    """The view of those who play certain agent slots: `[J]`, what all agents saw, then one-hot who oneself is."""

    def __init__(self, view: JointView, env_of: np.ndarray, agent_of: np.ndarray) -> None:
        """Prepare for B agent slots.

        Args:
            view: Of all env slots.
            env_of: `[B]`: env slot of each.
            agent_of: `[B]`: column of the agent of each.
        """
        self._view, self._env_of = view, env_of
        self._self = np.eye(view.num_agents, dtype=np.float32)[agent_of]

    def newest(self, index: Any) -> np.ndarray:
        """Return what goes with the newest observations of some slots, `[N, J]`."""
        return np.concatenate((self._view.newest[self._env_of[index]], self._self[index]), 1)

    def final(self, index: np.ndarray) -> np.ndarray:
        """Return what goes with the last observations of some slots, whose agents' part ended, `[K, J]`."""
        return np.concatenate((self._view.final[self._env_of[index]], self._self[index]), 1)
