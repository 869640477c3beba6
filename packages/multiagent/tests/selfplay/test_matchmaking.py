"""Match-makers against numbers worked out by hand, and who plays whom in episodes."""

import collections
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st

from rl_core import PPOConfig
from rl_core.errors import ConfigError
from rl_multiagent import MultiAgent
from rl_multiagent.env.layout import AgentKind, AgentLayout
from rl_multiagent.mapping import PolicyMapper
from rl_multiagent.selfplay import AgainstPool, TakeTurns, even, prioritized, unbeaten, uniform

AGENTS = ("player_0", "player_1")
MATCH = AgainstPool(AGENTS, "main", ("v1", "v2"), (0.25, 0.75))
BOTH = TakeTurns((MATCH, AgainstPool(AGENTS, "v1", ("v2",), (1.0,))))


@pytest.mark.parametrize(
    ("maker", "expected"),
    [
        (uniform, [1 / 3, 1 / 3, 1 / 3]),
        (unbeaten, [1.0, 0.0, 0.0]),
        (prioritized, [0.25 / 0.26, 0.01 / 0.26, 0.0]),  # (1 - p)^2 = 0.25, 0.01, 0
        (lambda rates: prioritized(rates, power=1.0), [0.5 / 0.6, 0.1 / 0.6, 0.0]),
        (even, [0.25 / 0.34, 0.09 / 0.34, 0.0]),  # p (1 - p) = 0.25, 0.09, 0
    ],
)
def test_probabilities_are_those_worked_out_by_hand(maker, expected):
    np.testing.assert_allclose(maker([0.5, 0.9, 1.0]), expected)


@pytest.mark.parametrize("maker", [uniform, unbeaten, prioritized, even])
def test_where_all_are_beaten_all_are_met_equally_often(maker):
    np.testing.assert_allclose(maker([1.0, 1.0]), [0.5, 0.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_probabilities_sum_up_to_one_and_the_hardest_is_met_most(rates):
    for maker in (uniform, unbeaten, prioritized, even):
        probabilities = maker(rates)
        assert (probabilities >= 0).all()
        assert probabilities.sum() == pytest.approx(1.0)
    assert prioritized(rates)[np.argmin(rates)] == prioritized(rates).max()


@pytest.mark.parametrize("rates", [[0.5, 1.5], [float("nan")], []])
def test_what_are_no_win_rates_is_refused(rates):
    with pytest.raises(ValueError, match=r"matchmaking: .*(win rates must be in \[0, 1\]|no opponent)"):
        even(rates)


def make_mapper(match=MATCH, seed=7):
    kind = AgentKind(Box(0, 1, (1,)), Discrete(2), 0, 2)
    layout = AgentLayout(agents=AGENTS, kinds=(kind,), index={agent: place for place, agent in enumerate(AGENTS)})
    return PolicyMapper(match, layout, ("main", "v1", "v2"), seed=seed)


def test_the_learner_changes_sides_and_meets_each_opponent_as_often_as_it_should():
    mapper, sides, met = make_mapper(), collections.Counter(), collections.Counter()
    for env_slot in range(4):
        for number in range(500):
            owner = mapper.assign(env_slot, number).tolist()
            sides[env_slot, owner.index(0)] += 1
            met[max(owner)] += 1
    assert set(sides.values()) == {250}
    assert met[2] / 2000 == pytest.approx(0.75, abs=0.04)


def test_who_plays_whom_depends_on_seed_slot_and_number_alone():
    first, second = make_mapper(), make_mapper()
    second.assign(3, 3)  # what else was asked does not matter
    for place in range(50):
        assert (first.assign(place % 4, place) == second.assign(place % 4, place)).all()


def test_who_plays_whom_is_the_same_in_every_process():
    script = (
        "from test_matchmaking import BOTH, make_mapper; mapper = make_mapper(BOTH)\n"
        "print([mapper.assign(slot, number).tolist() for slot in range(4) for number in range(50)])"
    )
    there = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parent)},  # here it is another one
        capture_output=True,
        text=True,
        check=True,
    )
    mapper = make_mapper(BOTH)
    here = [mapper.assign(slot, number).tolist() for slot in range(4) for number in range(50)]
    assert there.stdout == f"{here}\n"


def test_matches_take_turns_and_each_has_all_sides_equally_often():
    mapper, seen = make_mapper(BOTH), collections.Counter()
    for env_slot in range(3):
        for number in range(400):
            seen[env_slot, *mapper.assign(env_slot, number).tolist()] += 1
    for env_slot in range(3):
        assert seen[env_slot, 1, 2] == seen[env_slot, 2, 1] == 100
        for owners in ((0, 1), (0, 2), (1, 0), (2, 0)):
            assert 10 < seen[env_slot, *owners] < 90


def test_taking_turns_needs_matches():
    with pytest.raises(ConfigError, match="no matches"):
        TakeTurns(())


@pytest.mark.parametrize("match", [MATCH, BOTH])
def test_a_match_is_stored_with_the_config(match):
    config = PPOConfig().use(MultiAgent(policies=("main", "v1", "v2"), policy_mapping_fn=match))
    (extension,) = PPOConfig.from_dict(config.to_dict()).extensions
    assert extension.policy_mapping_fn == match


@pytest.mark.parametrize(
    ("opponents", "probabilities", "message"),
    [
        ((), (), "0 opponents"),
        (("v1", "v2"), (1.0,), "2 opponents with 1 probabilities"),
        (("v1", "v2"), (0.5, 0.6), "must sum up to 1"),
        (("v1", "v2"), (-0.5, 1.5), "must sum up to 1"),
    ],
)
def test_a_match_without_proper_probabilities_is_refused(opponents, probabilities, message):
    with pytest.raises(ConfigError, match=message):
        AgainstPool(AGENTS, "main", opponents, probabilities)
