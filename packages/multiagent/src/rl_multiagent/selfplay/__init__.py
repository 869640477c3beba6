"""Self-play: leagues, frozen pools, match-makers, ratings, matches, exploitability, and play against a person."""

from rl_multiagent.selfplay.exploitability import Exploitability, action_probabilities, exploitability
from rl_multiagent.selfplay.league import League, LeaguePlayer, league_exploiter, main_exploiter, main_player
from rl_multiagent.selfplay.matches import play_games, play_match, round_robin
from rl_multiagent.selfplay.matchmaking import AgainstPool, TakeTurns, even, prioritized, unbeaten, uniform
from rl_multiagent.selfplay.play import play
from rl_multiagent.selfplay.pool import PolicyPool, frozen_copy
from rl_multiagent.selfplay.ratings import EloTable, WinTable, expected_score, games
from rl_multiagent.selfplay.uniform_random import UniformRandom, random_policy

__all__ = [
    "AgainstPool",
    "EloTable",
    "Exploitability",
    "League",
    "LeaguePlayer",
    "PolicyPool",
    "TakeTurns",
    "UniformRandom",
    "WinTable",
    "action_probabilities",
    "even",
    "expected_score",
    "exploitability",
    "frozen_copy",
    "games",
    "league_exploiter",
    "main_exploiter",
    "main_player",
    "play",
    "play_games",
    "play_match",
    "prioritized",
    "random_policy",
    "round_robin",
    "unbeaten",
    "uniform",
]
