"""Whom to play against: from win rates to probabilities, and from those to the policies of an episode.

`win_rates` are the learning player's mean scores against its N opponents, in [0, 1]; all functions return the
probabilities `[N]` of meeting each, from which `choose` draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rl_core.config.codec import Storable
from rl_core.errors import ConfigError
from rl_multiagent.env.agent_env import AgentID
from rl_multiagent.env.chance import choose
from rl_multiagent.mapping import EpisodeInfo

Rates: TypeAlias = Sequence[float] | np.ndarray
"""`[N]`"""
MatchMaker: TypeAlias = Callable[[Rates], np.ndarray]
"""One of the functions below, or one like them."""


def uniform(win_rates: Rates) -> np.ndarray:
    """Meet all equally often."""
    return _normalized(np.ones(len(win_rates)))


def unbeaten(win_rates: Rates, *, threshold: float = 0.7) -> np.ndarray:
    """Meet those equally often against whom the win rate is below `threshold`; all, once there are none."""
    return _normalized((np.asarray(win_rates) < threshold).astype(float))


def prioritized(win_rates: Rates, *, power: float = 2.0) -> np.ndarray:
    """Prioritised fictitious self-play: meet those most who are hardest to beat.

        p_i ~ (1 - win_rate_i)^power

    All are equally likely where all are beaten always.

    Source: Vinyals et al. 2019, Grandmaster level in StarCraft II, methods, `f_hard` with power 2.
    """
    return _normalized((1.0 - np.asarray(win_rates, np.float64)) ** power)


def even(win_rates: Rates) -> np.ndarray:
    """Prioritised fictitious self-play among equals: meet those most who are about as strong.

        p_i ~ win_rate_i (1 - win_rate_i)

    Source: Vinyals et al. 2019, Grandmaster level in StarCraft II, methods, `f_var`.
    """
    rates = np.asarray(win_rates, np.float64)
    return _normalized(rates * (1.0 - rates))


@dataclass(frozen=True)
class AgainstPool(Storable):
    """A `policy_mapping_fn`: one agent is played by the learning policy, the others by opponents drawn for the episode.

    Which agent that is changes from episode to episode, so that every env slot gives it all sides equally often.

    Example:
        >>> probabilities = prioritized(table.win_rates("main", ("main_v1", "main_v2")))
        >>> match = AgainstPool(("player_0", "player_1"), "main", ("main_v1", "main_v2"), tuple(probabilities))
        >>> map_agents(algorithm, match)
    """

    agents: tuple[AgentID, ...]
    """All that take part, in order."""
    learner: str
    """Id of the learning policy."""
    opponents: tuple[str, ...]
    """Ids of the policies it plays against; itself may be among them."""
    probabilities: tuple[float, ...]
    """Of each opponent, for every other agent anew."""

    def __post_init__(self) -> None:
        """Check the probabilities.

        Raises:
            ConfigError: there are no opponents, or no probability for each.
        """
        values = np.asarray(self.probabilities, np.float64)
        if not self.opponents or values.shape != (len(self.opponents),):
            raise ConfigError(
                f"AgainstPool: {len(self.opponents)} opponents with {values.size} probabilities, expected one for each "
                "of at least one opponent."
            )
        if not (values >= 0).all() or not np.isclose(values.sum(), 1.0):
            raise ConfigError(f"AgainstPool: probabilities {self.probabilities} are none: they must sum up to 1.")
        object.__setattr__(self, "probabilities", tuple(values.tolist()))

    def __call__(self, agent: AgentID, episode: EpisodeInfo) -> str:
        """Name the policy of an agent in an episode."""
        if agent == self.agents[(episode.env_slot + episode.number) % len(self.agents)]:
            return self.learner
        return choose(self.opponents, self.probabilities, episode.rng)


@dataclass(frozen=True)
class TakeTurns(Storable):
    """A `policy_mapping_fn`: several matches in turn, for several learning policies in one run.

    Every env slot gives each match all sides before it goes on to the next one.
    """

    matches: tuple[AgainstPool, ...]
    """A match that stands there twice has twice as many episodes."""

    def __post_init__(self) -> None:
        """Check that there is something to play.

        Raises:
            ConfigError: there are no matches.
        """
        if not self.matches:
            raise ConfigError("TakeTurns: there are no matches. Give one for each policy that learns.")

    def __call__(self, agent: AgentID, episode: EpisodeInfo) -> str:
        """Name the policy of an agent in an episode."""
        num_sides = len(self.matches[0].agents)
        turn = (episode.env_slot + episode.number) // num_sides
        return self.matches[turn % len(self.matches)](agent, episode)


def _normalized(weights: np.ndarray) -> np.ndarray:
    """Scale weights to a sum of 1; equal ones where all are 0.

    Raises:
        ValueError: there is nobody to choose from, or a rate was not one.
    """
    if not len(weights):
        raise ValueError("matchmaking: there is no opponent to choose from. Freeze a policy first.")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"matchmaking: weights {weights}: win rates must be in [0, 1].")
    total = weights.sum()
    result: np.ndarray = weights / total if total > 0 else np.full(len(weights), 1.0 / len(weights))
    return result
