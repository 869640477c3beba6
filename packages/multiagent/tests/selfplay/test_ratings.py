"""Elo ratings and win rates against numbers worked out by hand."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_core.errors import ConfigError
from rl_core.sampling.episodes import EpisodeStats
from rl_multiagent.records import AgentEpisodes
from rl_multiagent.selfplay import EloTable, WinTable, expected_score, games


def test_expected_scores_are_those_of_elos_formula():
    assert expected_score(1000, 1000) == 0.5
    assert expected_score(1400, 1000) == pytest.approx(10 / 11)
    assert expected_score(1000, 1400) == pytest.approx(1 / 11)
    assert expected_score(1800, 1000) == pytest.approx(100 / 101)


def test_ratings_move_as_worked_out_by_hand():
    table = EloTable(initial=1000.0, k=32.0)
    table.record("main", "old", 1.0)
    assert (table["main"], table["old"]) == (1016.0, 984.0)
    table.record("main", "old", 0.5)  # expected 1 / (1 + 10^-0.08) = 0.545922, so 32 * -0.045922 = -1.469509
    assert table["main"] == pytest.approx(1014.530491, abs=1e-5)
    assert table["old"] == pytest.approx(985.469509, abs=1e-5)
    table.add("new", rating=1200.0)
    table.record("old", "new", 1.0)  # expected 1 / (1 + 10^(214.530491 / 400)) = 0.225305
    assert table["old"] == pytest.approx(985.469509 + 32 * (1 - 0.225305), abs=1e-3)
    assert [player for player, _ in table.ranking()] == ["new", "main", "old"]
    assert table["stranger"] == 1000.0


def test_games_of_episodes_are_those_of_two_policies_that_both_took_part():
    episodes = AgentEpisodes(
        agents=("left", "middle", "right"),
        policies=("main", "old"),
        played_by=np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]]),
        agent_returns=np.array([[1.0, -1.0, -1.0], [0.0, 0.0, 5.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]),
        took_part=np.array([[True, True, True], [True, True, True], [True, True, True], [True, False, True]]),
        returns=np.array([-1.0, 5.0, 6.0, 4.0]),
        lengths=np.array([3, 3, 3, 3]),
    )
    assert list(games(episodes)) == [
        ("main", "old", 1.0),
        ("old", "main", 0.5),
        ("old", "main", 0.0),
        ("main", "old", 0.0),
        ("old", "main", 0.5),
    ]


def test_episodes_of_one_agent_are_no_games():
    with pytest.raises(ConfigError, match="episodes are of one agent"):
        list(games(EpisodeStats(returns=np.ones(1), lengths=np.ones(1, np.int64))))


def test_a_player_that_begins_anew_has_no_games():
    table = WinTable()
    for other in ("old", "new"):
        table.record("main", other, 1.0)
    table.record("old", "new", 1.0)
    table.forget("main")
    assert table.num_games("main", "old") == table.num_games("old", "main") == 0
    assert table.win_rate("old", "new") == 1.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.sampled_from([0.0, 0.5, 1.0]))))
def test_what_one_side_gains_the_other_loses(games):
    table = EloTable()
    for player, opponent, score in games:
        if player != opponent:
            table.record(player, opponent, score)
    assert sum(table[player] for player in "abc") == pytest.approx(3000.0)


def test_a_stronger_player_is_found_out_by_its_rating():
    rng, table = np.random.default_rng(0), EloTable(k=4.0)
    for _ in range(4000):
        table.record("strong", "weak", float(rng.random() < 0.75))
    # 0.75 is expected at a difference of 400 log10(3) = 190.8
    assert table["strong"] - table["weak"] == pytest.approx(190.8, abs=40)


def test_win_rates_are_mean_scores_from_both_sides():
    table = WinTable()
    for score in (1.0, 1.0, 0.5, 0.0):
        table.record("a", "b", score)
    table.record("c", "a", 1.0)
    assert table.win_rate("a", "b") == 0.625
    assert table.win_rate("b", "a") == 0.375
    assert table.num_games("b", "a") == 4
    assert table.win_rates("a", ("b", "c", "stranger")).tolist() == [0.625, 0.0, 0.5]
    np.testing.assert_array_equal(
        table.matrix(("a", "b", "c")), [[0.5, 0.625, 0.0], [0.375, 0.5, 0.5], [1.0, 0.5, 0.5]]
    )


def test_with_decay_later_games_count_more():
    table = WinTable(decay=0.5)
    for score in (0.0, 0.0, 1.0):
        table.record("a", "b", score)
    assert table.num_games("a", "b") == 1.75
    assert table.win_rate("a", "b") == pytest.approx(1 / 1.75)
    assert table.win_rate("b", "a") == pytest.approx(0.75 / 1.75)


def test_all_are_beaten_only_after_enough_games_against_each():
    table = WinTable()
    for _ in range(10):
        table.record("main", "v1", 1.0)
        table.record("main", "v2", 0.5)
    assert table.beats_all("main", ("v1",), threshold=0.8, min_games=10)
    assert not table.beats_all("main", ("v1",), threshold=0.8, min_games=11)
    assert not table.beats_all("main", ("v1", "v2"), threshold=0.8, min_games=10)


@pytest.mark.parametrize("make", [EloTable, WinTable])
def test_tables_go_through_json(make):
    table, again = make(), make()
    table.record("a", "b", 1.0)
    table.record("b", "c", 0.5)
    again.set_state(json.loads(json.dumps(table.get_state())))
    assert again.get_state() == table.get_state()
    table.record("c", "a", 0.0)
    again.record("c", "a", 0.0)
    assert again.get_state() == table.get_state()


@pytest.mark.parametrize("make", [EloTable, WinTable])
@pytest.mark.parametrize(
    ("game", "message"),
    [
        (("a", "a", 1.0), "'a' is on both sides"),
        (("a", "b", 1.5), "score 1.5 of 'a' against 'b'"),
        (("a", "b", float("nan")), "score nan"),
    ],
)
def test_what_is_no_result_is_refused(make, game, message):
    table = make()
    with pytest.raises(ValueError, match=message):
        table.record(*game)
    assert table.get_state() == make().get_state()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="k=0"):
        EloTable(k=0)
    with pytest.raises(ConfigError, match=r"decay=1\.1"):
        WinTable(decay=1.1)
