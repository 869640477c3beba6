"""A league: policies that learn, frozen copies of them, and who meets whom while they do."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rl_core import Algorithm, Callbacks
from rl_core.config.codec import Storable
from rl_core.errors import ConfigError
from rl_multiagent.env.agent_env import AgentID
from rl_multiagent.policies import add_policy, map_agents, restart_policy
from rl_multiagent.selfplay.matchmaking import AgainstPool, MatchMaker, TakeTurns, prioritized
from rl_multiagent.selfplay.ratings import WinTable, games


@dataclass(frozen=True, kw_only=True)
class LeaguePlayer(Storable):
    """What a policy of a league that learns does: whom it meets, and when it has learned enough for a frozen copy.

    The three of AlphaStar's league are `main_player`, `main_exploiter` and `league_exploiter`.

    Source: Vinyals et al. 2019, Grandmaster level in StarCraft II, methods.
    """

    learners: tuple[str, ...] = ()
    """Ids of policies that learn too and that it meets equally often; itself may be among them."""
    learner_share: float = 0.5
    """Share of its episodes against `learners`, in [0, 1]; the others are against frozen policies."""
    match_maker: MatchMaker = prioritized
    """How often it meets each frozen policy, by its win rates against them."""
    freeze_at: float = 0.7
    """Win rate from which on a frozen copy joins the league: against each frozen policy, or against each of `learners`
    where it meets no others. Source of the default: AlphaStar's."""
    restarts: bool = False
    """Whether it begins anew, with its first weights, after a copy was frozen: for exploiters."""
    turns: int = 1
    """Of its episodes, for this many of other players with one turn."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one is out of range.
        """
        for name in ("learner_share", "freeze_at"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"LeaguePlayer: {name}={getattr(self, name)!r}, expected a number in [0, 1].")
        if self.turns < 1:
            raise ConfigError(f"LeaguePlayer: turns={self.turns!r}, expected at least 1.")

    @property
    def meets_frozen(self) -> bool:
        """Whether it plays against frozen policies."""
        return not self.learners or self.learner_share < 1


def main_player(
    name: str = "main", *, match_maker: MatchMaker = prioritized, freeze_at: float = 0.7, turns: int = 1
) -> LeaguePlayer:
    """Make the player that the league is for: it meets itself as often as all frozen policies together."""
    return LeaguePlayer(learners=(name,), match_maker=match_maker, freeze_at=freeze_at, turns=turns)


def main_exploiter(of: str = "main", *, freeze_at: float = 0.7) -> LeaguePlayer:
    """Make a player that looks for weaknesses of a main player as it is now, then begins anew."""
    return LeaguePlayer(learners=(of,), learner_share=1.0, freeze_at=freeze_at, restarts=True)


def league_exploiter(*, match_maker: MatchMaker = prioritized, freeze_at: float = 0.7) -> LeaguePlayer:
    """Make a player that looks for what nobody in the league has an answer to, then begins anew."""
    return LeaguePlayer(match_maker=match_maker, freeze_at=freeze_at, restarts=True)


@dataclass(frozen=True)
class League(Callbacks, Storable):
    """Freezes copies of the players that win enough, and lets the players meet them: after each iteration of a run.

    The league is all policies of the run: those named in `players` learn, all others are frozen, for example one that
    plays at random, to begin with. Win rates are those of the training episodes; older ones count less.

    A run that goes on from a checkpoint has its policies and matches; its win rates begin anew.

    Example:
        >>> league = League(("player_0", "player_1"), {"main": main_player(), "exploiter": main_exploiter()})
        >>> config.callbacks(callbacks_class=league).use(
        ...     MultiAgent(
        ...         policies={
        ...             "main": PolicySpec(),
        ...             "exploiter": PolicySpec(),
        ...             "random": PolicySpec(module_class=UniformRandom),
        ...         },
        ...         policy_mapping_fn=league.mapping(("random",)),
        ...         policies_to_train=("main", "exploiter"),
        ...     )
        ... )
    """

    agents: tuple[AgentID, ...]
    """All agents of the env, in order."""
    players: Mapping[str, LeaguePlayer]
    """By the id of the policy that learns."""
    min_games: int = 100
    """Games that a win rate must stand on before a copy is frozen; at most `1 / (1 - decay)`."""
    max_size: int | None = None
    """Policies from which on no more copies are frozen; None for no end."""
    decay: float = 0.995
    """How much less each game of a pair makes its earlier ones count."""
    table: WinTable = field(init=False, repr=False, compare=False)
    """Scores of the training episodes."""

    def __post_init__(self) -> None:
        """Check who is in it.

        Raises:
            ConfigError: there are no players, one meets somebody who does not learn here, or a number is out of range.
        """
        if not self.players:
            raise ConfigError("League: there are no players. Name a policy that learns.")
        for name, player in self.players.items():
            strangers = sorted(set(player.learners) - set(self.players))
            if strangers:
                raise ConfigError(
                    f"League: {name!r} is to meet {strangers[0]!r}, but players are only {', '.join(self.players)}. "
                    "Frozen policies are met by all that do not have learner_share=1."
                )
            if not player.meets_frozen and not set(player.learners) - {name}:
                raise ConfigError(
                    f"League: {name!r} meets nobody but itself, so there is nobody to beat. Set its learner_share "
                    "below 1, so that it meets frozen policies too, or name other learners."
                )
        object.__setattr__(self, "table", WinTable(decay=self.decay))
        most = np.inf if self.decay == 1 else 1 / (1 - self.decay)
        if not 1 <= self.min_games <= most:
            raise ConfigError(
                f"League: min_games={self.min_games!r} with decay={self.decay}, expected a number from 1 to {most:g}: "
                "so much do the games of a pair count together at most."
            )

    def mapping(self, frozen: Sequence[str]) -> TakeTurns:
        """Say who meets whom, by the win rates so far.

        Args:
            frozen: Ids of the policies that do not learn.

        Raises:
            ConfigError: a player has nobody to meet.
        """
        return TakeTurns(
            tuple(self._match(name, frozen) for name, player in self.players.items() for _ in range(player.turns))
        )

    def on_train_result(self, *, algorithm: Algorithm, result: dict[str, float]) -> None:
        """Take in the games of the newest rollout, freeze who has won enough, and match anew.

        Adds to the result `league/size`, and for each player the lowest of its win rates against those that it must
        beat for a copy, `league/lowest_win_rate/<player>`.
        """
        for game in games(algorithm.env_runner.episodes):
            self.table.record(*game)
        for name in self.players:
            frozen = self.frozen(algorithm.env_runner.policies)
            rivals = self._rivals(name, frozen)
            result[f"league/lowest_win_rate/{name}"] = float(self.table.win_rates(name, rivals).min())
            if self._is_full(algorithm) or not self.has_beaten(name, frozen):
                continue
            copies = (f"{name}_v{number}" for number in itertools.count(1))
            add_policy(algorithm, next(copy for copy in copies if copy not in frozen), weights=name)
            if self.players[name].restarts:
                restart_policy(algorithm, name)
                self.table.forget(name)
        policies = algorithm.env_runner.policies
        result["league/size"] = float(len(policies))
        map_agents(algorithm, self.mapping(self.frozen(policies)))

    def frozen(self, policies: Collection[str]) -> list[str]:
        """List those of the policies of a run that do not learn."""
        return [name for name in policies if name not in self.players]

    def has_beaten(self, name: str, frozen: Sequence[str]) -> bool:
        """Whether a player has won enough for a copy.

        Args:
            name: Of the player.
            frozen: Ids of the policies that do not learn.
        """
        threshold = self.players[name].freeze_at
        rivals = self._rivals(name, frozen)
        return self.table.beats_all(name, rivals, threshold=threshold, min_games=self.min_games)

    def _rivals(self, name: str, frozen: Sequence[str]) -> list[str]:
        """List whom a player must beat."""
        player = self.players[name]
        return list(frozen) if player.meets_frozen else [other for other in player.learners if other != name]

    def _is_full(self, algorithm: Algorithm) -> bool:
        """Whether no more copies may join."""
        return self.max_size is not None and len(algorithm.env_runner.policies) >= self.max_size

    def _match(self, name: str, frozen: Sequence[str]) -> AgainstPool:
        """Say whom a player meets."""
        player = self.players[name]
        if not player.meets_frozen:
            frozen = ()
        elif not frozen:
            raise ConfigError(
                f"League: there is no frozen policy that {name!r} could meet. Add one to the run, such as "
                "PolicySpec(module_class=UniformRandom)."
            )
        share = player.learner_share if player.learners else 0.0
        probabilities = [share / len(player.learners) for _ in player.learners]
        if frozen:
            by_win_rate = player.match_maker(self.table.win_rates(name, frozen))
            probabilities += ((1.0 - share) * by_win_rate).tolist()
        return AgainstPool(self.agents, name, (*player.learners, *frozen), tuple(probabilities))
