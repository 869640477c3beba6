"""How strong players are: Elo ratings, and who wins how often against whom.

A score is what a player got out of a game: 1 for a win, 0.5 for a draw, 0 for a loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from rl_core.errors import ConfigError
from rl_core.sampling.episodes import EpisodeStats
from rl_multiagent.records import AgentEpisodes


def expected_score(rating: float, opponent_rating: float) -> float:
    """Return the score that Elo ratings predict, in (0, 1).

        1 / (1 + 10^((opponent_rating - rating) / 400))

    Source: Elo 1978, The Rating of Chessplayers, in the logistic form of today's federations.
    """
    return float(1.0 / (1.0 + 10.0 ** ((opponent_rating - rating) / 400.0)))


def games(episodes: EpisodeStats) -> Iterator[tuple[str, str, float]]:
    """List who won against whom in finished episodes, as `EloTable.record` and `WinTable.record` take it.

    Every two agents that took part count as a game of the policies that played them, if these are two.

    Args:
        episodes: Of many agents, such as `algorithm.env_runner.episodes`.

    Yields:
        Player, opponent, and the player's score: 1 if it got more than the other, 0.5 if as much, else 0.

    Raises:
        ConfigError: the episodes are of a run with one policy.
    """
    if not isinstance(episodes, AgentEpisodes):
        raise ConfigError("games: these episodes are of one agent. Build the run with config.use(MultiAgent(...)).")
    for first, second in combinations(range(len(episodes.agents)), 2):
        players, opponents = episodes.played_by[:, first], episodes.played_by[:, second]
        scores = (1.0 + np.sign(episodes.agent_returns[:, first] - episodes.agent_returns[:, second])) / 2.0
        met = episodes.took_part[:, first] & episodes.took_part[:, second] & (players != opponents)
        for episode in np.flatnonzero(met):
            yield episodes.policies[players[episode]], episodes.policies[opponents[episode]], float(scores[episode])


class EloTable:
    """Elo ratings, updated game by game; whoever is named first gets the initial rating.

        rating += k * (score - expected score)

    Example:
        >>> table = EloTable(initial=1000.0)
        >>> table.record("main", "main_v1", 1.0)
        >>> table["main"], table["main_v1"]
        (1016.0, 984.0)
    """

    def __init__(self, *, initial: float = 1000.0, k: float = 32.0) -> None:
        """Begin with no players.

        Args:
            initial: Rating of new players.
            k: By how much one game moves a rating at most.

        Raises:
            ConfigError: `k` is not positive.
        """
        if not k > 0:
            raise ConfigError(f"EloTable: k={k!r}, expected a positive number.")
        self.initial = initial
        self.k = k
        self.ratings: dict[str, float] = {}
        """By player."""

    def __getitem__(self, player: str) -> float:
        """Return a player's rating."""
        return self.ratings.get(player, self.initial)

    def add(self, player: str, *, rating: float) -> None:
        """Let a player begin with a rating, as a frozen copy begins with that of its original."""
        self.ratings[player] = rating

    def record(self, player: str, opponent: str, score: float) -> None:
        """Take in a game.

        Args:
            player: One side.
            opponent: The other.
            score: The first one's, in [0, 1].

        Raises:
            ValueError: the score is out of range, or somebody plays itself.
        """
        _check(player, opponent, score)
        change = self.k * (score - expected_score(self[player], self[opponent]))
        self.ratings[player], self.ratings[opponent] = self[player] + change, self[opponent] - change

    def ranking(self) -> list[tuple[str, float]]:
        """List players and ratings, the best first."""
        return sorted(self.ratings.items(), key=lambda item: -item[1])

    def get_state(self) -> dict[str, Any]:
        """Return the ratings."""
        return {"ratings": dict(self.ratings)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""
        self.ratings = dict(state["ratings"])


class WinTable:
    """Scores of every pair of players.

    Example:
        >>> table = WinTable()
        >>> table.record("main", "main_v1", 1.0)
        >>> table.record("main", "main_v1", 0.5)
        >>> table.win_rate("main", "main_v1"), table.win_rate("main_v1", "main"), table.win_rate("main", "stranger")
        (0.75, 0.25, 0.5)
    """

    def __init__(self, *, decay: float = 1.0) -> None:
        """Begin with no games.

        Args:
            decay: With each game of a pair, its earlier games count this much less, in (0, 1]: for players that learn.

        Raises:
            ConfigError: `decay` is out of range.
        """
        if not 0 < decay <= 1:
            raise ConfigError(f"WinTable: decay={decay!r}, expected a number above 0, at most 1.")
        self.decay = decay
        self._total: dict[str, dict[str, tuple[float, float]]] = {}
        """Player -> opponent -> weighted sums of scores and games."""

    def record(self, player: str, opponent: str, score: float) -> None:
        """Take in a game.

        Args:
            player: One side.
            opponent: The other.
            score: The first one's, in [0, 1].

        Raises:
            ValueError: the score is out of range, or somebody plays itself.
        """
        _check(player, opponent, score)
        for one, other, own in ((player, opponent, score), (opponent, player, 1.0 - score)):
            total, games = self._total.setdefault(one, {}).get(other, (0.0, 0.0))
            self._total[one][other] = (total * self.decay + own, games * self.decay + 1.0)

    def forget(self, player: str) -> None:
        """Drop all games of a player, as of one that begins anew."""
        self._total.pop(player, None)
        for row in self._total.values():
            row.pop(player, None)

    def num_games(self, player: str, opponent: str) -> float:
        """Return how many games a pair's rate stands on; with decay the weights' sum."""
        return self._total.get(player, {}).get(opponent, (0.0, 0.0))[1]

    def win_rate(self, player: str, opponent: str) -> float:
        """Return a player's mean score against another; 0.5 where they never met."""
        total, games = self._total.get(player, {}).get(opponent, (0.5, 1.0))
        return total / games

    def win_rates(self, player: str, opponents: Sequence[str]) -> np.ndarray:
        """Return the mean scores against N others, `[N]`."""
        return np.array([self.win_rate(player, opponent) for opponent in opponents])

    def matrix(self, players: Sequence[str]) -> np.ndarray:
        """Return `[N, N]`: the mean score of each (row) against each (column), 0.5 on the diagonal."""
        return np.array([self.win_rates(player, players) for player in players])

    def beats_all(self, player: str, opponents: Sequence[str], *, threshold: float, min_games: float) -> bool:
        """Whether a player scores at least `threshold` against each of some others, in at least so many games each."""
        return all(
            self.num_games(player, opponent) >= min_games and self.win_rate(player, opponent) >= threshold
            for opponent in opponents
        )

    def get_state(self) -> dict[str, Any]:
        """Return all scores."""
        return {"total": {player: dict(row) for player, row in self._total.items()}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""
        self._total = {
            player: {opponent: (float(total), float(games)) for opponent, (total, games) in row.items()}
            for player, row in state["total"].items()
        }


def _check(player: str, opponent: str, score: float) -> None:
    """Refuse what is no result of a game."""
    if player == opponent:
        raise ValueError(f"record: {player!r} is on both sides. Freeze a copy and give it a name of its own.")
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"record: score {score!r} of {player!r} against {opponent!r}, expected one in [0, 1].")
