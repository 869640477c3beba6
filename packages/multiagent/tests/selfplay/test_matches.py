"""Matches between policies whose results are known."""

import numpy as np
import pytest
import torch
from scheduled_env import ScheduledEnv
from scripted import Always, Undecided, make_policy

from rl_core.errors import ConfigError, EnvError
from rl_multiagent.env.open_spiel import OpenSpielEnv
from rl_multiagent.selfplay import (
    EloTable,
    UniformRandom,
    exploitability,
    play_games,
    play_match,
    random_policy,
    round_robin,
)

pytest.importorskip("pyspiel")


class Heedless(Always):
    """Plays one action, legal or not."""

    def forward_policy(self, obs, state=()):
        logits = 1000.0 * torch.eye(obs["action_mask"].shape[-1])[self.action]
        return logits.expand(obs["action_mask"].shape), state


@pytest.fixture(scope="module")
def rock_paper_scissors():
    return OpenSpielEnv("matrix_rps")


def test_scores_and_win_table_of_rock_paper_and_scissors(rock_paper_scissors):
    env = rock_paper_scissors
    players = {name: make_policy(Always, env, action=place) for place, name in enumerate(("rock", "paper", "scissors"))}
    assert play_match(env, players["rock"], players["paper"], num_games=5, seed=0).tolist() == [0.0] * 5
    assert play_match(env, players["rock"], players["rock"], num_games=3, seed=0).tolist() == [0.5] * 3
    table = round_robin(env, players, num_games=4, seed=0)
    np.testing.assert_array_equal(table.matrix(list(players)), [[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]])
    assert table.num_games("rock", "scissors") == 4


def test_each_has_both_sides_equally_often():
    env = OpenSpielEnv("tic_tac_toe")
    # Both take the first free cell: the one who begins has 0, 2, 4 and 6, and wins by the diagonal.
    scores = play_match(env, make_policy(Always, env), make_policy(Always, env), num_games=6, seed=0)
    assert scores.tolist() == [1.0, 0.0] * 3


def test_returns_are_the_games_own():
    env = OpenSpielEnv("leduc_poker(players=3)")
    policies = {agent: random_policy(env, agent, seed=place) for place, agent in enumerate(env.possible_agents)}
    returns = play_games(env, policies, num_games=50, seed=1)
    assert returns.shape == (50, 3)
    np.testing.assert_allclose(returns.sum(1), 0.0, atol=1e-9)
    assert np.abs(returns).sum(1).all()
    np.testing.assert_array_equal(returns[-1], env.state.returns())


def test_random_players_are_equal_and_choose_every_legal_action():
    env = OpenSpielEnv("matrix_rps")
    first, second = (random_policy(env, "player_0", seed=seed) for seed in (1, 2))
    scores = play_match(env, first, second, num_games=600, seed=0)
    assert {score: int((scores == score).sum()) // 100 for score in (0.0, 0.5, 1.0)}.keys() == {0.0, 0.5, 1.0}
    assert scores.mean() == pytest.approx(0.5, abs=0.05)
    table = EloTable(k=8.0)
    for score in scores:
        table.record("first", "second", float(score))
    assert abs(table["first"] - table["second"]) < 60


def test_some_may_draw_their_actions_and_others_take_the_mode():
    env = OpenSpielEnv("matrix_rps")
    undecided = make_policy(Undecided, env)  # its mode is rock
    drawn = play_match(env, undecided, undecided, num_games=60, seed=0, explore=(False, True))
    assert set(drawn) == {0.0, 0.5, 1.0}
    still = play_match(env, undecided, undecided, num_games=60, seed=0, explore=False)
    assert set(still) == {0.5}
    scissors = make_policy(Always, env, action=2)
    table = round_robin(env, {"mode": undecided, "scissors": scissors}, num_games=20, seed=0, explore=("scissors",))
    assert table.win_rate("mode", "scissors") == 1.0


def test_a_random_policy_draws_where_others_take_their_mode():
    env = OpenSpielEnv("matrix_rps")
    first, second = (random_policy(env, "player_0", seed=seed) for seed in (1, 2))
    assert set(play_match(env, first, second, num_games=60, seed=0, explore=False)) == {0.0, 0.5, 1.0}
    assert exploitability(env, first, explore=False).nash_conv == 0.0


def test_agents_that_come_and_go_are_played_to_the_end():
    env = ScheduledEnv(num_agents=3, seed=0)
    policies = {agent: make_policy(UniformRandom, env) for agent in env.possible_agents}
    returns = play_games(env, policies, num_games=20, seed=0)
    np.testing.assert_allclose(returns.sum(1), env.accountant.returns)


def test_a_policy_for_another_game_is_refused():
    env = OpenSpielEnv("tic_tac_toe")
    stranger = random_policy(OpenSpielEnv("connect_four"), "player_0")
    with pytest.raises(ConfigError, match=r"play_games: the policy of agent 'player_1' .*observation"):
        play_match(env, random_policy(env, "player_0"), stranger, num_games=2, seed=0)


def test_an_agent_without_a_policy_is_named():
    env = OpenSpielEnv("tic_tac_toe")
    with pytest.raises(ConfigError, match=r"play_games: agent 'player_1' has no policy"):
        play_games(env, {"player_0": random_policy(env, "player_0")}, num_games=1, seed=0)


def test_a_policy_that_plays_illegal_moves_is_named_with_the_move():
    env = OpenSpielEnv("tic_tac_toe")
    with pytest.raises(EnvError, match=r"move 1: action 0 of agent 'player_1' is not legal"):
        play_match(env, make_policy(Heedless, env), make_policy(Heedless, env), num_games=2, seed=0)


def test_a_match_is_for_two():
    env = OpenSpielEnv("kuhn_poker(players=3)")
    policy = random_policy(env, "player_0")
    with pytest.raises(ConfigError, match="has 3 agents, expected two"):
        play_match(env, policy, policy, num_games=1, seed=0)
