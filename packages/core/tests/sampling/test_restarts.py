"""Rollouts of env slots that fail and are made anew, against an accountant that steps single envs one by one."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runners import SEED, SPEC

from rl_core import DQNConfig, PPOConfig
from rl_core.algorithms.ppo import PPOSettings, prepare
from rl_core.connect.required import ActionToEnv
from rl_core.env.make import make_vector_env
from rl_core.policy import Policy, with_required_connector
from rl_core.rng import stream_seed
from rl_core.sampling.env_runner import EnvRunner
from rl_core.testing.envs import ObservationIsTimeEnv


class Crashing(ObservationIsTimeEnv):
    """Fails in one step out of `every`, spread over episodes and slots; the first steps of slot `calm` are fine."""

    def __init__(self, every=5, calm=None, **settings):
        super().__init__(**settings)
        self.every, self.calm = every, calm

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.slot = seed - SEED
            seed %= 1000
        return super().reset(seed=seed, options=options)

    def step(self, action):
        seldom = self.time > 0 or self.slot % 4 == 1  # five failures in a row would be too many
        if seldom and self.slot != self.calm and (self.episode * 7 + self.time * 3) % self.every == 1:
            raise RuntimeError("crashed")
        return super().step(action)


def make_runner(env, *, num_envs=3, num_steps=7, connectors=(), restart=True, **options):
    vector = make_vector_env(lambda config: env(), num_envs=num_envs, restart_failed=restart)
    spaces = (vector.observation_space, vector.action_space)
    connectors = with_required_connector(SPEC, *spaces, connectors)
    policy = Policy(SPEC, *spaces, obs_connectors=connectors, action_connectors=[ActionToEnv()])
    return EnvRunner(vector, policy, num_steps=num_steps, seed=SEED, **options)


def account(env, slot, count):
    """Tell in words what one slot does: rows, finished episodes with their last step, and envs made anew."""
    game, made, rows, episodes, open_rewards = env(), 0, [], [], []
    obs, _ = game.reset(seed=SEED + slot)
    for time in range(count):
        try:
            following, reward, terminated, truncated, _ = game.step(0)
        except RuntimeError:
            made += 1
            game = env()
            rows.append((obs.tolist(), None))
            obs, _ = game.reset(seed=stream_seed(SEED + slot, "restart", made))
            open_rewards = []
            continue
        rows.append((obs.tolist(), (reward, terminated, truncated, following.tolist())))
        open_rewards.append(reward)
        obs = following
        if terminated or truncated:
            episodes.append((time, slot, sum(open_rewards), len(open_rewards)))
            obs, _ = game.reset()
            open_rewards = []
    return rows, episodes, made


def check_row(rollout, time, slot, row, next_fails):
    """Compare one step of a rollout with the accountant's."""
    obs, outcome = row
    assert rollout.obs[time, slot].tolist() == obs
    valid = rollout.valid is None or bool(rollout.valid[time, slot])
    assert valid == (outcome is not None)
    if outcome is None:
        assert rollout.reward[time, slot] == 0
        return
    reward, terminated, truncated, following = outcome
    final = {int(index): place for place, index in enumerate(rollout.final_index)}
    place = final.get(time * rollout.reward.shape[1] + slot)
    assert rollout.reward[time, slot] == reward
    assert bool(rollout.terminated[time, slot]) == terminated
    if time + 1 < len(rollout.reward):  # the last step's value goes on anyway
        assert bool(rollout.truncated[time, slot]) == (truncated or (next_fails and not terminated))
    after = rollout.obs[time + 1, slot] if place is None else rollout.final_obs[place]
    assert after.tolist() == following


@settings(max_examples=40)
@given(
    num_envs=st.integers(1, 3),
    num_steps=st.integers(1, 9),
    length=st.integers(1, 5),
    every=st.integers(2, 9),
)
def test_rollouts_and_episodes_are_those_of_an_accountant(num_envs, num_steps, length, every):
    env = functools.partial(Crashing, every=every, length=length)
    episodes_seen = []
    runner = make_runner(env, num_envs=num_envs, num_steps=num_steps, on_episode_end=episodes_seen.append)
    rollouts, finished = [], []
    for _ in range(4):
        rollouts.append(runner.sample())
        finished += zip(runner.episodes.returns.tolist(), runner.episodes.lengths.tolist(), strict=True)
    accounts = [account(env, slot, 4 * num_steps) for slot in range(num_envs)]
    for slot, (rows, _, _) in enumerate(accounts):
        for number, row in enumerate(rows):
            next_fails = number + 1 < len(rows) and rows[number + 1][1] is None
            check_row(rollouts[number // num_steps], number % num_steps, slot, row, next_fails)
    expected = sorted(episode for _, episodes, _ in accounts for episode in episodes)
    assert finished == [(total, length) for _, _, total, length in expected]
    told = [(episode.slot, episode.episode_return, len(episode.reward)) for episode in episodes_seen]
    assert told == [(slot, total, length) for _, slot, total, length in expected]
    assert all(len(episode.obs) == len(episode.reward) + 1 for episode in episodes_seen)
    assert runner.num_env_restarts == sum(made for _, _, made in accounts)
    num_failed = sum(outcome is None for rows, _, _ in accounts for _, outcome in rows)
    assert sum(rollout.env_steps for rollout in rollouts) == 4 * num_steps * num_envs - num_failed


def test_other_slots_do_what_they_do_without_the_failure():
    failing = make_runner(functools.partial(Crashing, every=4), num_envs=3, num_steps=50)
    calm = make_runner(functools.partial(Crashing, every=10**9), num_envs=3, num_steps=50)
    for slot in range(3):
        one, other = (
            make_runner(functools.partial(Crashing, every=every, calm=slot), num_envs=3, num_steps=50).sample()
            for every in (4, 10**9)
        )
        assert not one.valid.all()
        assert one.valid[:, slot].all()
        for name in ("obs", "action", "reward", "terminated", "truncated", "behavior_dist_inputs"):
            assert torch.equal(getattr(one, name)[:, slot], getattr(other, name)[:, slot]), name
    assert failing.sample().env_steps < calm.sample().env_steps


def test_the_step_that_failed_does_not_train_and_the_one_before_is_valued_by_what_was_seen_last():
    runner = make_runner(functools.partial(Crashing, every=6, length=9), num_envs=1, num_steps=40)
    rollout = runner.sample()
    batch, _ = prepare(runner.policy.module, rollout, PPOSettings())
    assert len(batch.advantage) == rollout.env_steps < 40
    target = torch.full((40,), torch.nan)
    target[rollout.valid[:, 0]] = batch.value_target
    with torch.no_grad():
        value = runner.policy.module.forward_value(rollout.obs, ())[:, 0]
    failed = (~rollout.valid[:, 0]).nonzero().flatten().tolist()
    cut = [time - 1 for time in failed if time and time - 1 not in {*failed, *rollout.final_index.tolist()}]
    assert cut
    for time in cut:
        expected = rollout.reward[time, 0] + PPOSettings().gamma * value[time + 1]
        assert target[time] == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("config", [PPOConfig(), DQNConfig()], ids=["ppo", "dqn"])
@pytest.mark.parametrize("use_lstm", [False, True])
def test_training_goes_on(config, use_lstm):
    config = (
        config.copy()
        .environment(_crashing, disable_env_checking=True)
        .env_runners(num_envs_per_env_runner=4)
        .rl_module(model_config={"fcnet_hiddens": [8], "use_lstm": use_lstm, "lstm_cell_size": 8, "max_seq_len": 4})
        .fault_tolerance(restart_failed_sub_environments=True)
    )
    algorithm = config.build()
    for _ in range(2):
        result = algorithm.train()
    assert result["env_runners/num_env_restarts"] > 0
    assert np.isfinite(result["env_runners/episode_return_mean"])
    assert algorithm.evaluate()["evaluation/num_episodes"] == 20


def _crashing(config):
    return Crashing(every=5)
