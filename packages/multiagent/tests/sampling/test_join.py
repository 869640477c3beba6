"""Rollouts of several runners as one, and shares of one for several learners."""

import dataclasses

import numpy as np
import pytest
import torch
from naming_env import NamingEnv, make_config
from scheduled_env import ScheduledEnv

from rl_core.errors import ConfigError
from rl_core.replay.buffer import ReplayBuffer
from rl_multiagent import MAPPOConfig, MultiAgent
from rl_multiagent.sampling.join import join_agent_rollouts, split_agent_rollouts


def main_plays_left(agent, episode):
    return "main" if agent == "left" else "old"


def sampled(extension=None, env=NamingEnv, *, num_envs=4, **settings):
    config = make_config(extension or MultiAgent(), env, **settings).env_runners(num_envs_per_env_runner=num_envs)
    return config.environment(disable_env_checking=True).build().env_runner.sample()


def without(rollout, name):
    return dataclasses.replace(rollout, by_policy={key: own for key, own in rollout.by_policy.items() if key != name})


def num_real(rollout):
    return rollout.reward.numel() if rollout.valid is None else int(rollout.valid.sum())


def test_a_policy_has_its_slots_of_runners_in_which_it_did_nothing_too():
    whole = sampled(MultiAgent(policies=("left", "right")), num_envs=2)
    for parts in ([whole, without(whole, "left")], [without(whole, "left"), whole]):
        joined = join_agent_rollouts(parts)
        left, right = joined.by_policy["left"], joined.by_policy["right"]
        assert joined.num_envs == (2, 2)
        assert left.reward.shape[1] == right.reward.shape[1] == 4
        assert num_real(left) == num_real(whole.by_policy["left"])
        assert num_real(right) == 2 * num_real(whole.by_policy["right"])
        place = slice(0, 2) if parts[0] is whole else slice(2, 4)
        assert left.valid[:, place].all()
        assert torch.equal(left.reward[:, place], whole.by_policy["left"].reward)
        buffer = ReplayBuffer(1000, num_slots=4, seed=0)
        for _ in range(2):
            buffer.add(left)
        assert len(buffer) == 2 * num_real(left)
    with pytest.raises(ValueError, match="a rollout of 2 env slots, the buffer was made for 4"):
        buffer.add(whole.by_policy["left"])


def test_what_all_agents_saw_is_joined_with_runners_that_saw_nothing():
    config = {"algorithm": MAPPOConfig, "num_agents": 2, "turn_based": True, "accounts": False}
    whole = sampled(env=ScheduledEnv, num_envs=3, **config)
    (name,) = whole.by_policy
    joined = join_agent_rollouts([without(whole, name), whole, whole]).by_policy[name]
    own = whole.by_policy[name]
    assert len(own.final_index) > 0
    assert len(joined.extras["final_joint"]) == len(joined.final_index) == 2 * len(own.final_index)
    assert joined.extras["joint"].shape[1] == 3 * own.reward.shape[1]


@pytest.mark.parametrize(("num_envs", "num_runners", "num_parts"), [(4, 1, 2), (1, 2, 2), (3, 2, 4)])
def test_each_learner_gets_all_agents_of_its_envs(num_envs, num_runners, num_parts):
    extension = MultiAgent(policies=("main", "old"), policy_mapping_fn=main_plays_left)
    whole = join_agent_rollouts([sampled(extension, num_envs=num_envs, alike=True)] * num_runners)
    parts = split_agent_rollouts(whole, num_parts)
    for name, own in whole.by_policy.items():
        counts = [num_real(part.by_policy[name]) for part in parts]
        assert sum(counts) == num_real(own)
        assert max(counts) - min(counts) <= own.reward.shape[0], "as evenly as envs can be shared out"
        assert min(counts) > 0
        rewards = sum(float(part.by_policy[name].reward.sum()) for part in parts)
        assert rewards == pytest.approx(float(own.reward.sum()))
        ends = [part.by_policy[name].final_obs for part in parts if part.by_policy[name].final_obs is not None]
        assert sorted(map(tuple, torch.cat(ends).tolist())) == sorted(map(tuple, own.final_obs.tolist()))
        for part in parts:
            mine = part.by_policy[name]
            ended = (mine.terminated | mine.truncated).flatten().nonzero().squeeze(-1)
            assert set(mine.final_index.tolist()) <= set(ended.tolist())
            assert (np.diff(mine.final_index) > 0).all()


def test_there_are_no_more_learners_than_env_slots():
    with pytest.raises(ConfigError, match="num_learners=3, but a rollout has 2 env slots"):
        split_agent_rollouts(sampled(num_envs=2, alike=True), 3)
