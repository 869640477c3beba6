"""What connectors make of rewards."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from naming_env import OWN, NamingEnv, make_config
from scheduled_env import ScheduledEnv

from rl_core import ConnectorState, ObsConnector
from rl_multiagent import MultiAgent


@dataclass(frozen=True)
class MarkEnds(ObsConnector):
    """Adds 10 to the reward of a step that is cut, and 100 to that of one that terminates."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        return state, replace(step, reward=step.reward + 10.0 * step.truncated + 100.0 * step.terminated)


@pytest.mark.parametrize(
    ("extension", "env", "settings"),
    [(OWN, NamingEnv, {}), (MultiAgent(), ScheduledEnv, {"num_agents": 3, "turn_based": True, "accounts": False})],
)
def test_connectors_are_told_how_an_agents_part_ended(extension, env, settings):
    config = make_config(extension, env, **settings).environment(disable_env_checking=True)
    plain, marked = (
        given.build().env_runner.sample().by_policy
        for given in (config.copy(), config.copy().env_runners(env_to_module_connector=(MarkEnds(),)))
    )
    ends = 0
    for name, rollout in plain.items():
        ended = torch.zeros_like(rollout.terminated).flatten()
        ended[rollout.final_index] = True  # not where a decision is open when the rollout ends
        ended = ended.view_as(rollout.terminated)
        cut = rollout.truncated & ended
        added = marked[name].reward - rollout.reward
        torch.testing.assert_close(added, 10.0 * (cut & ~rollout.terminated) + 100.0 * (rollout.terminated & ended))
        ends += int(ended.sum())
    assert ends


@dataclass(frozen=True)
class SumRewards(ObsConnector):
    """Everything as it is; its statistics are the sum of all rewards, and how many steps ended."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def initial_state(self, observation_space, action_space, num_slots):
        return ConnectorState(shared={"sum": np.zeros(()), "ends": np.zeros(())})

    def observe(self, state, step):
        ends = np.count_nonzero(step.terminated | step.truncated)
        return {"sum": state.shared["sum"] + step.reward.sum(), "ends": state.shared["ends"] + ends}

    def __call__(self, state, step):
        return state, step


@pytest.mark.parametrize("turn_based", [False, True])
def test_statistics_see_every_reward_the_last_one_too(turn_based):
    settings = {"num_agents": 3, "turn_based": turn_based, "accounts": False}
    config = make_config(MultiAgent(), ScheduledEnv, **settings).environment(disable_env_checking=True)
    runner = config.env_runners(env_to_module_connector=(SumRewards(),)).build().env_runner
    total, ends = 0.0, 0
    for _ in range(3):
        rollout = runner.sample().by_policy["default"]
        total += float(rollout.reward.double().sum())
        ends += len(rollout.final_index)
        (shared,) = runner.policies["default"].shared
        assert shared["sum"] == pytest.approx(total)
    assert shared["ends"] == ends > 0
    before = dict(shared)
    runner.evaluate(num_episodes=4, seed=0, explore=True)
    assert runner.policies["default"].shared == (before,)
