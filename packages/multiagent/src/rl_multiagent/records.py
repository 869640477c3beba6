"""The records of a run with many agents; the axis letters are those of `rl_core.records`.

Further letters: E env slots, A possible agents, A_k those of kind k, K finished episodes. An agent slot is a pair of
env slot and agent; the B slots of one policy are all agent slots that it may play.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from rl_core import Rollout, Weights
from rl_core.records import Tree
from rl_core.sampling.episodes import EpisodeStats
from rl_multiagent.env.agent_env import AgentID


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsStep:
    """What a vector env says after a reset or a step of all its env slots.

    Its arrays may be the env's own buffers, valid until the next call.

    Example (2 env slots with the agents p0 and p1 that take turns, p0 to move in both):
        `AgentsStep(obs=(f32[2, 2, 9],), acts=[[T, F], [T, F]], reward=[[0, 0], [0, 0]], terminated=[[F, F], [F, F]],
        truncated=[[F, F], [F, F]], first=[F, F], final_obs=..., final_observed=...)`
    """

    obs: tuple[Tree, ...]
    """For each kind of agents `[E, A_k, ...]`: what next actions are chosen on; meaningful where `acts`."""
    acts: Bool[np.ndarray, "E A"]
    """`[E, A]`: the agent got an observation and its action is awaited."""
    reward: Float[np.ndarray, "E A"]
    """`[E, A]`: of this step; 0 for who got none, and after a reset."""
    terminated: Bool[np.ndarray, "E A"]
    """`[E, A]`: the agent's part in the episode ended here in a terminal state, whose value is 0."""
    truncated: Bool[np.ndarray, "E A"]
    """`[E, A]`: the agent's part was cut here; its value goes on past the end."""
    first: Bool[np.ndarray, "E"]
    """`[E]`: `obs` begins a new episode of the env; the other columns are of the one that ended."""
    final_obs: tuple[Tree, ...]
    """For each kind `[E, A_k, ...]`: last observations of agents whose part ended, where `final_observed`."""
    final_observed: Bool[np.ndarray, "E A"]
    """`[E, A]`: the agent whose part ended here got a last observation."""
    restarts: Int[np.ndarray, "E"] | None = None
    """`[E]`: envs that failed here and were made anew; None where that never happens."""
    broken: Bool[np.ndarray, "E"] | None = None
    """`[E]`: the env failed in this step, which did not take place, and `obs` begins an episode in a new one: the
    episode before has no end; None as above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRollouts:
    """What T steps of all env slots hold for each policy."""

    by_policy: Mapping[str, Rollout]
    """The transitions that were completed, at the clock of each policy's agents; without any, a policy is left out."""
    num_envs: tuple[int, ...]
    """E of each runner whose slots are side by side: one number, or several in a joined one."""
    env_steps: int
    """T * E, less the steps in which an env failed."""
    agent_steps: int
    """Actions that agents chose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEpisodes(EpisodeStats):
    """K finished episodes: who played whom, and what each agent got.

    `algorithm.env_runner.episodes` has those of the newest rollout; `selfplay.games` makes games for ratings of them.

    Example (two games of `main`, which wins as player_1 against `old` and then as player_0 against `random`):
        `AgentEpisodes(agents=("player_0", "player_1"), policies=("main", "old", "random"), played_by=[[1, 0], [0, 2]],
        agent_returns=[[-1, 1], [1, -1]], took_part=[[T, T], [T, T]], returns=[0, 0], lengths=[9, 7])`
    """

    agents: tuple[AgentID, ...]
    """The A possible agents, in order of the columns."""
    policies: tuple[str, ...]
    """Ids that `played_by` refers to."""
    played_by: Int[np.ndarray, "K A"]
    """`[K, A]`: the place in `policies` of whom the agent was played by; meaningful where `took_part`."""
    agent_returns: Float[np.ndarray, "K A"]
    """`[K, A]`, float64: each agent's share of `returns`."""
    took_part: Bool[np.ndarray, "K A"]
    """`[K, A]`: the agent was there at any time of the episode."""

    @staticmethod
    def joined(parts: Sequence[EpisodeStats]) -> AgentEpisodes:
        """Put the episodes of several runners, which have the same agents and policies, one after the other."""
        together, first = EpisodeStats.joined(parts), parts[0]
        own = [part for part in parts if isinstance(part, AgentEpisodes)]
        assert isinstance(first, AgentEpisodes), "runners of one kind"
        return AgentEpisodes(
            returns=together.returns,
            lengths=together.lengths,
            parts=together.parts,
            num_steps=together.num_steps,
            agents=first.agents,
            policies=first.policies,
            played_by=np.concatenate([part.played_by for part in own]),
            agent_returns=np.concatenate([part.agent_returns for part in own]),
            took_part=np.concatenate([part.took_part for part in own]),
        )


AgentWeights = Mapping[str, Weights]
"""For each policy what its learner publishes, or its runner acts with."""
