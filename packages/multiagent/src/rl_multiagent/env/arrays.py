"""The arrays of an `AgentsStep`, allocated once and written in place by each env slot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rl_core.records import Tree
from rl_core.tree import tree_map
from rl_multiagent.env.layout import AgentLayout, zeros
from rl_multiagent.records import AgentsStep


@dataclass(frozen=True, slots=True)
class AgentArrays:
    """What all env slots say; see `AgentsStep` for the columns."""

    obs: tuple[Tree, ...]
    final_obs: tuple[Tree, ...]
    acts: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_observed: np.ndarray
    first: np.ndarray
    restarts: np.ndarray
    broken: np.ndarray

    @classmethod
    def allocate(
        cls, layout: AgentLayout, num_envs: int, place: Callable[[np.ndarray], np.ndarray] = np.array
    ) -> AgentArrays:
        """Make arrays of zeros.

        Args:
            layout: Of the agents.
            num_envs: E.
            place: Moves an array to where it shall live, such as shared memory.
        """

        def trees() -> tuple[Tree, ...]:
            return tuple(
                tree_map(place, zeros(kind.observation_space, (num_envs, kind.num_agents))) for kind in layout.kinds
            )

        shape = (num_envs, layout.num_agents)
        return cls(
            obs=trees(),
            final_obs=trees(),
            acts=place(np.zeros(shape, bool)),
            reward=place(np.zeros(shape)),
            terminated=place(np.zeros(shape, bool)),
            truncated=place(np.zeros(shape, bool)),
            final_observed=place(np.zeros(shape, bool)),
            first=place(np.zeros(num_envs, bool)),
            restarts=place(np.zeros(num_envs, np.int64)),
            broken=place(np.zeros(num_envs, bool)),
        )

    def step(self) -> AgentsStep:
        """View the arrays as a record."""
        return AgentsStep(
            obs=self.obs,
            acts=self.acts,
            reward=self.reward,
            terminated=self.terminated,
            truncated=self.truncated,
            first=self.first,
            final_obs=self.final_obs,
            final_observed=self.final_observed,
            restarts=self.restarts,
            broken=self.broken,
        )
