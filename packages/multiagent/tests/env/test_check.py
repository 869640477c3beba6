"""The conformance checks find what training would break on, and name agent and step."""

import dataclasses

import numpy as np
import pytest
from gymnasium import spaces
from plain_envs import CountEnv, ScriptedEnv
from scheduled_env import ScheduledEnv

from rl_core.errors import EnvError, UnsupportedSpaceError
from rl_multiagent.env.vector import SyncAgentsEnv
from rl_multiagent.testing import check_agents_vector_env, check_multi_agent_env

MASKED = spaces.Dict({"action_mask": spaces.MultiBinary(3), "observations": spaces.Box(-1, 1, (2,), np.float32)})
GOES_ON = ({"a": 1}, {"a": 1.0}, {"a": False}, {"__all__": False})


def seen(mask):
    return {"action_mask": np.array(mask, np.int8), "observations": np.zeros(2, np.float32)}


def check(script, **settings):
    return check_multi_agent_env(ScriptedEnv(script, **settings), num_steps=len(script) - 1)


@pytest.mark.parametrize("env", [CountEnv((3, 1, 4)), ScriptedEnv([{"a": 1}] + [GOES_ON] * 50)])
def test_envs_that_keep_to_the_contract_pass(env):
    assert check_multi_agent_env(env) == []
    assert not getattr(env, "closed", False)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("turn_based", [True, False])
def test_any_schedule_of_agents_passes(seed, turn_based):
    *notes, seeds = check_multi_agent_env(ScheduledEnv(seed=seed, turn_based=turn_based))
    assert "Two runs from reset(seed=0) with the same actions are not the same" in seeds
    assert all("appeared when the episode ended" in note for note in notes)


def test_who_appears_with_the_end_is_noted():
    script = [{"a": 1}, ({"a": 1, "b": 1}, {}, {"__all__": True}, {})]
    (note,) = check_multi_agent_env(ScriptedEnv(script))
    assert note == "step 50: agent 'b' appeared when the episode ended, and never acted."


def test_actions_are_such_as_the_mask_allows():
    env = ScriptedEnv([{"a": seen([0, 1, 0])}] + [({"a": seen([1, 0, 1])}, {}, {}, {})] * 20, obs_space=MASKED)
    check_multi_agent_env(env, 20)
    assert env.got[0] == {"a": 1}
    assert {actions["a"] for actions in env.got[1:20]} == {0, 2}


BAD = {
    "step 2: agent 'b' got an observation, but it left the episode at step 1": [
        {"a": 1, "b": 1},
        ({"a": 1}, {}, {"b": True}, {}),
        ({"a": 1, "b": 1}, {}, {}, {}),
    ],
    "step 1: observations name agent 'c', which is not among possible_agents": [{"a": 1}, ({"c": 1}, {}, {}, {})],
    "step 1: rewards name agent 'c'": [{"a": 1}, ({"a": 1}, {"c": 1.0}, {}, {})],
    "step 1: truncateds name agent 'c'": [{"a": 1}, ({"a": 1}, {}, {}, {"c": False})],
    "step 1: the observation of agent 'a' is outside its space": [{"a": 1}, ({"a": 1000}, {}, {}, {})],
    "step 1: the observation of agent 'a' is outside": [{"a": 1}, ({"a": float("nan")}, {}, {}, {})],
    "step 1: the observation of agent 'a' has shape \\(2,\\), expected \\(1,\\)": [
        {"a": 1},
        ({"a": np.zeros(2)}, {}, {}, {}),
    ],
    "step 1: the observation of agent 'a' is 'x' \\(str\\), expected": [{"a": 1}, ({"a": "x"}, {}, {}, {})],
    "step 1: the reward of agent 'b' is nan \\(float\\), expected a finite number": [
        {"a": 1},
        ({"a": 1}, {"b": float("nan")}, {}, {}),
    ],
    "step 1: the reward of agent 'b' is None": [{"a": 1}, ({"a": 1}, {"b": None}, {}, {})],
    "step 1: terminateds\\['a'\\] is 1 \\(int\\), expected a bool": [{"a": 1}, ({"a": 1}, {}, {"a": 1}, {})],
    "step 1: rewards are 3 \\(int\\), expected a dict by agent": [{"a": 1}, ({"a": 1}, 3, {}, {})],
    "step 1: returned a tuple of 4": [{"a": 1}, lambda: (0, 0, 0, 0)],
    "step 1: raised ZeroDivisionError": [{"a": 1}, lambda: 1 / 0],
    "reset: gave no agent an observation, so that nobody would ever act": [{}],
    "reset: observations name agent 'c'": [{"c": 1}],
}


@pytest.mark.parametrize("message", BAD)
def test_what_breaks_the_contract_is_named(message):
    with pytest.raises(EnvError, match=r"ScriptedEnv does not keep to the contract of MultiAgentEnv:\n  - " + message):
        check(BAD[message])


def test_a_failing_reset_and_one_of_another_form_are_named():
    env = ScriptedEnv([])
    with pytest.raises(EnvError, match="reset: raised IndexError"):
        check_multi_agent_env(env)
    env.reset = lambda **_: {"a": 1}
    with pytest.raises(EnvError, match=r"reset: returned .*expected \(observations, infos\)"):
        check_multi_agent_env(env)


def test_a_game_without_a_legal_action_is_named():
    with pytest.raises(EnvError, match=r"step 1: agent 'b' is to act, but its 'action_mask' allows no action"):
        check([{"a": seen([1, 0, 0])}, ({"b": seen([0, 0, 0])}, {}, {}, {}), GOES_ON], obs_space=MASKED)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"observations": np.zeros(2)}, r"reset: the observation of agent 'a' has the keys \['observations'\], exp"),
        (7, r"reset: the observation of agent 'a' has 7 \(int\), expected a dict"),
        (
            {"action_mask": np.ones(3, np.int8), "observations": np.full(2, 5.0)},
            r"reset: the observation\['observations'\] of agent 'a' is outside its space",
        ),
    ],
)
def test_nested_observations_are_checked_to_the_leaf(value, message):
    env = ScriptedEnv([{"a": 1}], obs_space=MASKED)
    env.reset = lambda **_: ({"a": value}, {})
    with pytest.raises(EnvError, match=message):
        check_multi_agent_env(env)


def test_spaces_are_asked_of_all_possible_agents():
    env = ScriptedEnv([{"a": 1}])
    del env.observation_spaces["b"]
    with pytest.raises(EnvError, match=r"agent 'b' has no space in observation_spaces"):
        check_multi_agent_env(env)
    env.observation_spaces["b"] = spaces.Text(3)
    with pytest.raises(UnsupportedSpaceError, match=r"observation space of agent 'b' is a Text space"):
        check_multi_agent_env(env)


def test_only_envs_for_many_agents_can_be_checked():
    with pytest.raises(EnvError, match=r"got a builtins\.int, expected a MultiAgentEnv"):
        check_multi_agent_env(3)


class Spoiled:
    """A vector env of two slots whose records are changed from step `at` on."""

    def __init__(self, change, at=3):
        self.env = SyncAgentsEnv(lambda: CountEnv((2, 5)), 2, name="count")
        self.num_envs, self.layout = 2, self.env.layout
        self.change, self.at, self.time = change, at, 0

    def reset(self, seed=None):
        self.time = 0
        return self.env.reset(seed)

    def step(self, actions):
        self.time += 1
        step = self.env.step(actions)
        if self.time < self.at:
            return step
        copies = {
            field.name: getattr(step, field.name).copy()
            for field in dataclasses.fields(step)
            if isinstance(getattr(step, field.name), np.ndarray)
        }
        step = dataclasses.replace(step, **copies)
        return self.change(step) or step


def everyone_acts(step):
    step.acts[:] = True


def everyone_ends(step):
    step.terminated[:] = True


def one_is_overpaid(step):
    step.reward[1, 0] = np.inf


def new_episode(step):
    step.first[0] = True


def early_last_observation(step):
    step.final_observed[0, 1] = True


def leaves_its_space(step):
    step.obs[1][1, 0] = -4


def wrong_type(step):
    return dataclasses.replace(step, acts=step.acts.astype(np.int8))


def wrong_shape(step):
    return dataclasses.replace(step, reward=step.reward[0])


def wrong_leaf(step):
    return dataclasses.replace(step, obs=tuple(leaf.astype(np.float64) for leaf in step.obs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (everyone_acts, r"step 3, env slot 0: agent 'agent_0' is to act, but its part in the episode has ended"),
        (everyone_ends, r"step 3, env slot 0: agent 'agent_0' ended, but it had left the episode before"),
        (one_is_overpaid, r"step 3, env slot 1: agent 'agent_0' got a reward that is no finite number"),
        (new_episode, r"step 3, env slot 0: agent 'agent_1' is in an episode that was replaced \(`first`\)"),
        (early_last_observation, r"step 3, env slot 0: agent 'agent_1' got a last observation too early"),
        (leaves_its_space, r"step 3: obs at \(0,\).* is -4.0, expected .*among the agents from 'agent_1' on"),
        (wrong_type, r"step 3: acts is int8 \(2, 2\), expected bool \(2, 2\)"),
        (wrong_shape, r"step 3: reward is float64 \(2,\), expected floats \(2, 2\)"),
        (wrong_leaf, r"step 3: obs of the agents from 'agent_0' on has a leaf float64"),
    ],
)
def test_vector_envs_that_break_the_contract_are_named(change, message):
    check_agents_vector_env(Spoiled(lambda step: None), 12)
    with pytest.raises(EnvError, match=message):
        check_agents_vector_env(Spoiled(change), 12)
