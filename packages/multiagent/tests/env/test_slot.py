"""An env slot writes exactly what the env's dicts say, and refuses what makes no sense."""

import numpy as np
import pytest
from gymnasium import spaces
from plain_envs import ScriptedEnv
from scheduled_env import ScheduledEnv

from rl_core.errors import EnvError
from rl_multiagent.env.vector import SyncAgentsEnv

MASKED = spaces.Dict({"action_mask": spaces.MultiBinary(3), "observations": spaces.Box(-1, 1, (2,), np.float32)})


def seen(mask):
    return {"action_mask": np.array(mask, np.int8), "observations": np.zeros(2, np.float32)}


def play(script, num_steps, **settings):
    """Reset and step a scripted env in one slot."""
    env = SyncAgentsEnv(lambda: ScriptedEnv(script, **settings), 1, name="Scripted")
    step = env.reset(0)
    for _ in range(num_steps):
        step = env.step(env.layout.empty_actions(1))
    return env, step


def test_a_step_says_who_acts_who_was_paid_and_who_left():
    _env, step = play([{"a": 1, "b": 2}, ({"a": 3, "b": 4}, {"b": 0.5}, {"b": True}, {})], 1)
    assert step.obs[0][0, 0] == [3]
    assert step.acts.tolist() == [[True, False]]
    assert step.reward.tolist() == [[0, 0.5]]
    assert step.terminated.tolist() == [[False, True]]
    assert step.truncated.tolist() == [[False, False]]
    assert step.final_observed.tolist() == [[False, True]]
    assert step.final_obs[0][0, 1] == [4]
    assert step.first.tolist() == [False]


def test_flags_of_one_step_are_gone_in_the_next():
    script = [{"a": 1, "b": 2}, ({"a": 3, "b": 4}, {"a": 1.0}, {"b": True}, {}), ({"a": 5}, {}, {}, {})]
    _, step = play(script, 2)
    for column in (step.terminated, step.truncated, step.final_observed, step.reward, step.first):
        assert not column.any()
    assert step.acts.tolist() == [[True, False]]


def test_the_end_for_all_begins_the_next_episode_at_once():
    _env, step = play([{"a": 1}, ({"a": 7, "b": 8}, {"a": 1.0}, {}, {"__all__": True})], 1)
    assert step.first.tolist() == [True]
    assert step.truncated.tolist() == [[True, True]]
    assert step.final_obs[0][0, :, 0].tolist() == [7, 8]
    assert step.obs[0][0, 0] == [1]
    assert step.acts.tolist() == [[True, False]]


def test_actions_go_to_those_that_act_in_the_form_of_their_space():
    wide = spaces.Dict({"move": spaces.Discrete(2), "aim": spaces.Box(-1, 1, (2,), np.float32)})
    script = [{"a": 1, "b": 2}, ({"b": 2}, {}, {}, {}), ({"b": 2}, {}, {}, {})]
    env = SyncAgentsEnv(lambda: ScriptedEnv(script, agents=("a", "b", "c"), action_space=wide), 1, name="Scripted")
    env.reset(0)
    (actions,) = env.layout.empty_actions(1)
    actions["move"][0] = [0, 1, 0]
    actions["aim"][0] = [[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]
    env.step((actions,))
    env.step((actions,))
    actions["aim"][:] = 9
    both, single = env._slots[0].env.got
    assert list(both) == ["a", "b"]
    assert list(single) == ["b"], "one of three is picked by itself"
    for got in (both, single):
        assert got["b"]["move"] == 1
        np.testing.assert_array_equal(got["b"]["aim"], np.float32([0.2, 0.2]), err_msg="the env may keep its action")


@pytest.mark.parametrize("num_acting", [1, 3])
def test_discrete_actions_are_plain_ints(num_acting):
    agents = ("a", "b", "c")
    first = dict.fromkeys(agents[:num_acting], 1)
    env, _ = play([first, ({}, {}, {}, {})], 1, agents=agents)
    (got,) = env._slots[0].env.got
    assert [type(action) for action in got.values()] == [int] * num_acting


def test_a_last_mask_without_actions_allows_all_since_nothing_is_chosen_on_it():
    script = [{"a": seen([1, 0, 0]), "b": seen([1, 1, 1])}, ({"a": seen([0, 0, 0])}, {}, {"a": True}, {})]
    _, step = play(script, 1, obs_space=MASKED)
    assert step.final_obs[0]["action_mask"][0, 0].tolist() == [1, 1, 1]


def number(value):
    return lambda: ({"a": value}, {}, {}, {}, {})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (({"c": 1}, {}, {}, {}), r"Scripted, env slot 0, step 1: agent 'c' is not among possible_agents"),
        (({}, {"c": 1.0}, {}, {}), r"step 1: agent 'c' is not among possible_agents"),
        (({}, {}, {"c": True}, {}), r"step 1: agent 'c' is not among possible_agents"),
        (({}, {"a": "much"}, {}, {}), r"step 1: the reward of agent 'a' is 'much', expected a number"),
        (({"a": np.zeros(2)}, {}, {}, {}), r"step 1: the observation of agent 'a' .*shape \(2,\), expected \(1,\)"),
        (({"a": "x"}, {}, {}, {}), r"step 1: the observation of agent 'a' does not fit its space Box"),
        (({"b": {}}, {}, {}, {}), r"step 1: the observation of agent 'b' does not fit its space"),
        (lambda: 1 / 0, r"env slot 0, step 1: step failed with ZeroDivisionError"),
        (lambda: ({}, {}, {}, {}), r"step 1: step failed with ValueError: not enough values to unpack"),
        (lambda: ([1], {}, {}, {}, {}), r"step 1: agent 1 is not among"),
        (lambda: (None, {}, {}, {}, {}), r"step 1: got observations None, expected a dict by agent"),
    ],
)
def test_what_makes_no_sense_is_refused_with_agent_and_step(said, message):
    with pytest.raises(EnvError, match=message):
        play([{"a": 1, "b": 2}, said], 1)


def test_an_observation_for_who_left_is_refused():
    script = [{"a": 1, "b": 2}, ({"a": 1}, {}, {"b": True}, {}), ({"a": 1, "b": 2}, {}, {}, {})]
    with pytest.raises(EnvError, match=r"step 2: agent 'b' got an observation, but it left the episode at step 1"):
        play(script, 2)


def test_an_episode_in_which_nobody_acts_is_refused():
    with pytest.raises(EnvError, match=r"step 0: reset gave no agent an observation, so that nobody would ever act"):
        play([{}], 0)


def test_a_game_without_a_legal_action_is_refused():
    script = [{"a": seen([1, 0, 0])}, ({"b": seen([0, 0, 0])}, {}, {}, {})]
    with pytest.raises(EnvError, match=r"env slot 0, step 1: agent 'b' is to act, but its 'action_mask' allows no"):
        play(script, 1, obs_space=MASKED)


@pytest.mark.parametrize("space", [spaces.Tuple([spaces.Discrete(3), spaces.Box(0, 1, (2, 2))]), MASKED])
def test_nested_observations_are_checked_leaf_by_leaf(space):
    good = space.sample()
    bad = (1, np.zeros(2)) if isinstance(good, tuple) else {**good, "observations": np.zeros((1, 2))}
    with pytest.raises(EnvError, match=r"agent 'a' does not fit its space .*shape"):
        play([{"a": bad}], 0, obs_space=space)


def test_an_agent_without_a_space_is_refused():
    def make():
        env = ScriptedEnv([{"a": 1}])
        del env.action_spaces["b"]
        return env

    with pytest.raises(EnvError, match=r"Scripted: agent 'b' has no space in action_spaces"):
        SyncAgentsEnv(make, 1, name="Scripted")


class Unaccounted(ScheduledEnv):
    """Makes no objects while it runs, so that its state can be captured."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.accountant = self

    def step(self, actions, *accounts):
        return None if accounts else super().step(actions)

    def reset(self, obs=None, **settings):
        return None if obs is not None else super().reset(**settings)


@pytest.mark.parametrize("turn_based", [True, False])
def test_a_restored_slot_goes_on_exactly(turn_based):
    first, second = (
        SyncAgentsEnv(lambda: Unaccounted(seed=5, turn_based=turn_based), 2, name="Scheduled") for _ in range(2)
    )
    actions = first.layout.empty_actions(2)
    for env in (first, second):
        env.reset(0)
    for _ in range(7):
        first.step(actions)
        second.step(actions)
    for _ in range(4):
        first.step(actions)
    state = first.get_state()
    second.reset(1)
    second.set_state(state)
    for _ in range(30):
        one, two = first.step(actions), second.step(actions)
        for name in ("acts", "reward", "terminated", "truncated", "first", "final_observed"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(one.obs[0][one.acts], two.obs[0][two.acts])
