"""Rollouts of several runners, side by side."""

import dataclasses

import numpy as np
import pytest
import torch
from runners import make_runner

from rl_core import PPOConfig
from rl_core.algorithms.ppo import prepare
from rl_core.sampling.episodes import EpisodeStats
from rl_core.sampling.join import join_rollouts
from rl_core.testing.envs import CountdownEnv, NestedEnv

SETTINGS = PPOConfig().training.settings


def rollouts_of(env=CountdownEnv, num_steps=(6, 6, 6), **settings):
    runners = [make_runner(env, num_steps=steps, seed=seed, **settings) for seed, steps in enumerate(num_steps)]
    for runner in runners:
        runner.sample()
    return runners[0].policy, [runner.sample() for runner in runners]


def columns_of(batch, order):
    return [column[order] for column in (batch.obs, batch.action, batch.advantage, batch.value_target)]


@pytest.mark.parametrize("num_steps", [(6, 6, 6), (6, 3, 5), (1, 7)])
def test_a_joined_rollout_trains_on_the_same_samples_as_its_parts(num_steps):
    policy, parts = rollouts_of(num_steps=num_steps)
    module = policy.build_module(seed=0)
    joined = join_rollouts(parts)
    assert joined.env_steps == sum(part.env_steps for part in parts)
    assert (joined.valid is None) == (len(set(num_steps)) == 1)
    whole, _ = prepare(module, joined, SETTINGS)
    single = [prepare(module, part, SETTINGS)[0] for part in parts]
    together = [torch.cat(columns) for columns in zip(*(columns_of(one, slice(None)) for one in single), strict=True)]

    def keys(columns):
        return np.lexsort([leaf.reshape(len(leaf), -1).sum(1).numpy() for leaf in columns])

    given = columns_of(whole, slice(None))
    for mine, theirs in zip(given, together, strict=True):
        torch.testing.assert_close(mine[keys(given)], theirs[keys(together)])


def test_true_last_observations_stay_with_their_slots():
    _, parts = rollouts_of(num_steps=(9, 9))
    joined = join_rollouts(parts)
    index = joined.final_index.tolist()
    assert index == sorted(index)
    assert len(index) == sum(len(part.final_index) for part in parts) > 2
    width = parts[0].reward.shape[1]
    for place, final in zip(index, joined.final_obs, strict=True):
        time, slot = divmod(place, 2 * width)
        part, own = parts[slot // width], slot % width
        where = part.final_index.tolist().index(time * width + own)
        assert torch.equal(final, part.final_obs[where])


def test_nested_observations_and_flags_stand_side_by_side():
    _, parts = rollouts_of(NestedEnv, num_steps=(4, 4))
    joined = join_rollouts(parts)
    for field in ("reward", "terminated", "truncated", "behavior_dist_inputs"):
        expected = torch.cat([getattr(part, field) for part in parts], 1)
        assert torch.equal(getattr(joined, field), expected)


def test_extras_follow_their_names():
    _, parts = rollouts_of(num_steps=(4, 2))
    width = parts[0].reward.shape[1]
    marked = [
        dataclasses.replace(
            part,
            extras={
                "seen": torch.full((len(part.reward) + 1, width), float(place)),
                "final_seen": torch.full((len(part.final_index),), float(place)),
            },
        )
        for place, part in enumerate(parts)
    ]
    joined = join_rollouts(marked)
    assert joined.extras["seen"].shape == (5, 2 * width)
    assert torch.equal(joined.extras["seen"][:3, width:], torch.ones(3, width))
    slots = joined.final_index % (2 * width)
    assert torch.equal(joined.extras["final_seen"], (slots >= width).float())


def test_episodes_are_counted_once():
    one = EpisodeStats(returns=np.array([1.0]), lengths=np.array([3]), parts={"wins": np.array([1.0, 0.0])})
    two = EpisodeStats(returns=np.array([2.0, 5.0]), lengths=np.array([4, 6]))
    both = EpisodeStats.joined([one, two])
    assert both.returns.tolist() == [1.0, 2.0, 5.0]
    assert both.lengths.tolist() == [3, 4, 6]
    assert both.parts["wins"].tolist() == [1.0, 0.0]
