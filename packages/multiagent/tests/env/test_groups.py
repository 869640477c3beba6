"""Groups see, act and earn together what their members do."""

import numpy as np
import pytest
from gymnasium import spaces
from plain_envs import CountEnv, ScriptedEnv
from scheduled_env import ScheduledEnv

from rl_core.errors import EnvError
from rl_multiagent import GroupedAgents
from rl_multiagent.env.vector import SyncAgentsEnv
from rl_multiagent.testing import check_agents_vector_env, check_multi_agent_env


def grouped(script, groups=None, agents=("a", "b", "c")):
    return GroupedAgents(ScriptedEnv(script, agents=agents), groups or {"team": ("b", "a")})


def test_members_become_a_tuple_in_the_order_of_the_group():
    env = grouped([{"a": 1, "b": 2, "c": 3}, ({"a": 4, "b": 5}, {"a": 1.0, "b": 2.0, "c": 0.5}, {"c": True}, {})])
    assert env.possible_agents == ("team", "c")
    box, discrete = env.env.observation_spaces["a"], env.env.action_spaces["a"]
    assert env.observation_spaces == {"team": spaces.Tuple([box, box]), "c": box}
    assert env.action_spaces == {"team": spaces.Tuple([discrete, discrete]), "c": discrete}
    obs, _ = env.reset(seed=4)
    assert env.env.seed == 4
    assert obs == {"team": (2, 1), "c": 3}
    obs, rewards, terminateds, truncateds, _ = env.step({"team": (1, 2), "c": 0})
    assert env.env.got == [{"b": 1, "a": 2, "c": 0}]
    assert obs == {"team": (5, 4)}
    assert rewards == {"team": 3.0, "c": 0.5}
    assert terminateds == {"c": True}
    assert truncateds == {"c": False}


def test_who_waits_keeps_its_newest_observation_and_does_not_act():
    env = grouped([{"a": 1}, ({"b": 2}, {}, {}, {}), ({"a": 3}, {}, {}, {})])
    assert env.reset()[0] == {"team": (0, 1)}
    assert env.step({"team": (1, 2)})[0] == {"team": (2, 1)}
    assert env.step({"team": (0, 1)})[0] == {"team": (2, 3)}
    assert env.env.got == [{"a": 2}, {"b": 0}]
    assert env.reset()[0] == {"team": (0, 1)}, "nothing is remembered from the episode before"


def test_a_group_leaves_with_its_last_member_truncated_if_any_was():
    script = [
        {"a": 1, "b": 1, "c": 1},
        ({"b": 2, "c": 2}, {}, {}, {"a": True}),
        ({"b": 3, "c": 3}, {}, {"b": True}, {}),
    ]
    env = grouped(script)
    env.reset()
    _, _, terminateds, truncateds, _ = env.step({"team": (0, 0), "c": 0})
    assert terminateds == truncateds == {}
    obs, _, terminateds, truncateds, _ = env.step({"team": (0, 0), "c": 0})
    assert obs["team"] == (3, 1)
    assert (terminateds, truncateds) == ({"team": False}, {"team": True})


def test_the_episode_is_over_when_all_that_took_part_have_left():
    env = grouped([{"a": 1}, ({}, {"a": 1.0}, {"a": True}, {})])
    env.reset()
    _, _, terminateds, truncateds, _ = env.step({"team": (0, 0)})
    assert terminateds == {"__all__": True}
    assert truncateds == {"__all__": False}


def test_who_terminates_at_the_time_limit_is_not_cut():
    both = {"a": True, "b": True, "c": True, "__all__": True}
    env = grouped([{"a": 1, "b": 2, "c": 3}, ({}, {}, both, both)])
    env.reset()
    _, _, terminateds, truncateds, _ = env.step({"team": (0, 0), "c": 0})
    assert terminateds == {"team": True, "c": True, "__all__": True}
    assert truncateds == {"team": False, "c": False, "__all__": False}


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_the_end_for_all_is_passed_on(flag):
    ends = ({"__all__": True}, {}) if flag == "terminated" else ({}, {"__all__": True})
    env = grouped([{"a": 1, "b": 1, "c": 1}, ({"a": 2}, {}, *ends)])
    env.reset()
    obs, _, terminateds, truncateds, _ = env.step({"team": (0, 0), "c": 0})
    assert terminateds["__all__"] is (flag == "terminated")
    assert truncateds["__all__"] is (flag == "truncated")
    assert obs == {"team": (1, 2)}


@pytest.mark.parametrize("seed", range(5))
def test_whatever_agents_do_groups_keep_to_the_contract_and_lose_no_reward(seed):
    groups = {"odd": ("a1", "a3"), "even": ("a0", "a2")}
    env = SyncAgentsEnv(lambda: GroupedAgents(ScheduledEnv(5, seed=seed), groups), 1, name="grouped")
    check_agents_vector_env(env, 40)
    step, total = env.reset(0), 0.0
    inner = env._slots[0].env.env
    before, paid = len(inner.accountant.returns), []
    for _ in range(60):
        step = env.step(env.layout.empty_actions(1))
        total += step.reward.sum()
        if step.first[0]:
            paid.append(total)
            total = 0.0
    np.testing.assert_allclose(paid, inner.accountant.returns[before:])


def test_restored_groups_go_on_exactly():
    members = {"team": ("agent_0", "agent_2"), "rest": ("agent_1", "agent_3")}
    first, second = (
        SyncAgentsEnv(lambda: GroupedAgents(CountEnv((2, 5, 3, 4)), members), 1, name="grouped") for _ in range(2)
    )
    actions = first.layout.empty_actions(1)
    first.reset(0)
    for _ in range(8):
        first.step(actions)
    state = first.get_state()
    second.reset(1)
    second.set_state(state)
    for _ in range(12):
        one, two = first.step(actions), second.step(actions)
        for name in ("acts", "reward", "terminated", "truncated", "first", "final_observed"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_the_conformance_check_passes():
    check_multi_agent_env(grouped([{"a": 1, "b": 2, "c": 3}] + [({"a": 4, "b": 5, "c": 6}, {}, {}, {})] * 60))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"team": ("a", "d")}, r"group 'team' is of \('a', 'd'\), expected one or more of possible_agents"),
        ({"team": ()}, r"group 'team' is of \(\), expected one or more"),
        ({"one": ("a", "b"), "two": ("b",)}, r"agent 'b' is in more than one place"),
        ({"one": ("a", "a")}, r"agent 'a' is in more than one place"),
        ({"c": ("a", "b")}, r"group 'c' is called like an agent"),
    ],
)
def test_groups_that_make_no_sense_are_refused(groups, message):
    with pytest.raises(EnvError, match=message):
        grouped([{}], groups)
