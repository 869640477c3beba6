"""Env slots that fail and are made anew: what an accountant of several agents says of their rollouts."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scheduled_env import ScheduledEnv, make_context

from rl_core import Callbacks, PPOConfig
from rl_core.errors import EnvError
from rl_multiagent import MultiAgent
from rl_multiagent.env.make import make_agents_env

FAILED = []
"""The env that failed last: the one made in its place goes on with its numbers and its accountant."""
NUMBERS = itertools.count()


class Crashing(ScheduledEnv):
    def __init__(self, p_crash=0.1, **settings):
        super().__init__(**settings)
        self.p_crash, self.cuts, self.lost, self.crashes = p_crash, set(), set(), 0
        self.begins, self.chance, self.in_row = {}, np.random.default_rng(next(NUMBERS)), 0
        if FAILED:
            before = FAILED.pop()
            for name in ("accountant", "rng", "count", "cuts", "lost", "crashes", "chance", "in_row"):
                setattr(self, name, getattr(before, name))

    def reset(self, *, seed=None, options=None):
        self.begins = {agent: len(self.accountant.done.get(agent, ())) for agent in self.possible_agents}
        self._crash()
        return super().reset(seed=seed, options=options)

    def step(self, actions):
        self._crash()
        self.in_row = 0
        return super().step(actions)

    def _crash(self):
        """Now and then; never five times in a row."""
        if self.in_row == 4 or self.chance.random() > self.p_crash:
            return
        self.in_row += 1
        self.crashes += 1
        done = {agent: len(self.accountant.done.get(agent, ())) for agent in self.possible_agents}
        for agent, begin in self.begins.items():
            self.lost |= {(agent, place) for place in range(begin, done[agent])}
            last = self.accountant.done[agent][-1] if done[agent] > begin else None
            if last is not None and not (last.terminated or last.truncated):
                self.cuts.add((agent, done[agent] - 1))
        self.begins = {}
        FAILED.append(self)
        raise RuntimeError("the game crashed")


def make_runner(extension, *, num_steps, callbacks=None, **env_config):
    config = (
        PPOConfig()
        .environment(lambda settings: Crashing(**settings), env_config=env_config, disable_env_checking=True)
        .env_runners(num_envs_per_env_runner=3)
        .training(train_batch_size_per_learner=num_steps * 3, minibatch_size=1)
        .rl_module(model_config={"fcnet_hiddens": (4,)})
        .fault_tolerance(restart_failed_sub_environments=True)
        .use(extension)
    )
    FAILED.clear()
    global NUMBERS
    NUMBERS = itertools.count(env_config.get("seed", 0))
    return config.components().env_runner(config, "sampling", make_context(callbacks))


def envs_of(runner):
    return [slot.env.env for slot in runner.env._slots]


def transitions_of(runner, rollouts, found):
    """Add what the rollouts hold to `found[env slot][agent]`, in order: obs, action, reward, ends, and next obs."""
    for name, rollout in rollouts.by_policy.items():
        slots = next(slots for slots in runner._slots.values() if name in slots.parts)
        part = slots.parts[name]
        num_slots = rollout.reward.shape[1]
        final = {int(position): row for row, position in enumerate(rollout.final_index)}
        assert len(final) == len(rollout.final_index)
        for slot, (env_of, agent) in enumerate(zip(slots.env_of[part], slots.agents[part], strict=True)):
            num_valid = len(rollout.reward) if rollout.valid is None else int(rollout.valid[:, slot].sum())
            for time in range(num_valid):
                place = final.get(time * num_slots + slot)
                following = rollout.obs[time + 1, slot] if place is None else rollout.final_obs[place]
                found[env_of].setdefault(agent, []).append(
                    (
                        float(rollout.obs[time, slot]),
                        int(rollout.action[time, slot]),
                        float(rollout.reward[time, slot]),
                        bool(rollout.terminated[time, slot]),
                        bool(rollout.truncated[time, slot]) and place is not None,
                        float(following),
                    )
                )


CASES = dict(
    num_agents=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    turn_based=st.booleans(),
    num_steps=st.integers(1, 9),
    own=st.booleans(),
)


def extension_of(num_agents, own):
    return MultiAgent(policies=tuple(f"a{place}" for place in range(num_agents))) if own else MultiAgent()


@settings(max_examples=40, phases=(Phase.explicit, Phase.generate))
@given(**CASES)
def test_every_transition_is_that_of_the_literal_accountant(num_agents, seed, turn_based, num_steps, own):
    runner = make_runner(
        extension_of(num_agents, own), num_steps=num_steps, num_agents=num_agents, seed=seed, turn_based=turn_based
    )
    found = [{} for _ in range(3)]
    returns, env_steps = [], 0
    for _ in range(60 // num_steps):
        rollouts = runner.sample()
        transitions_of(runner, rollouts, found)
        returns += runner.episodes.returns.tolist()
        env_steps += rollouts.env_steps
    envs = envs_of(runner)
    for env, got in zip(envs, found, strict=True):
        expected = {
            agent: [dataclasses.astuple(transition) for transition in parts]
            for agent, parts in env.accountant.done.items()
        }
        # The last transition before a failure counts as cut, if it was not handed over before.
        for agent, place in env.cuts:
            row = expected[agent][place]
            expected[agent][place] = (*row[:4], got[agent][place][4], row[5])
        assert got == expected
    np.testing.assert_allclose(sorted(returns), sorted(value for env in envs for value in env.accountant.returns))
    assert runner.num_env_restarts == sum(env.crashes for env in envs) > 0
    failed_steps = 60 // num_steps * num_steps * 3 - env_steps
    assert 0 <= failed_steps <= runner.num_env_restarts


def test_a_segment_ends_before_the_failure():
    runner = make_runner(MultiAgent(), num_steps=60, num_agents=2, seed=3, turn_based=False)
    found = [{} for _ in range(3)]
    transitions_of(runner, runner.sample(), found)
    cut = [
        found[slot][agent][place][4] for slot, env in enumerate(envs_of(runner)) for agent, place in sorted(env.cuts)
    ]
    assert len(cut) > 2
    assert all(cut)


class Keep(Callbacks):
    def __init__(self):
        self.episodes = []

    def on_episode_end(self, *, episode, metrics):
        self.episodes.append(episode)


@settings(max_examples=15, phases=(Phase.explicit, Phase.generate))
@given(**CASES)
def test_broken_episodes_are_not_told_to_callbacks(num_agents, seed, turn_based, num_steps, own):
    extension, settings_ = extension_of(num_agents, own), {"seed": seed, "turn_based": turn_based}
    keep = Keep()
    runner = make_runner(extension, num_steps=num_steps, callbacks=keep, num_agents=num_agents, **settings_)
    for _ in range(60 // num_steps):
        runner.sample()
    for slot, env in enumerate(envs_of(runner)):
        episodes = [episode for episode in keep.episodes if episode.slot == slot]
        np.testing.assert_allclose([episode.episode_return for episode in episodes], env.accountant.returns)
        for agent, parts in env.accountant.done.items():
            kept = [part.obs for place, part in enumerate(parts) if (agent, place) not in env.lost]
            told = [obs for episode in episodes if agent in episode.agents for obs in episode.agents[agent].obs[:-1, 0]]
            assert told == kept[: len(told)]
            assert len(kept) - len(told) <= 60


class Unlucky(ScheduledEnv):
    """Fails at every third step; picklable state for processes and checkpoints."""

    def __init__(self, **settings):
        super().__init__(accounts=False, **settings)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        return super().reset(seed=seed, options=options)

    def step(self, actions):
        if self.time == 2 and self.rng.random() < 0.5:
            raise RuntimeError("the game crashed")
        return super().step(actions)


class Hopeless(Unlucky):
    def step(self, actions):
        raise RuntimeError("out of memory")


def config_of(env, mode="sync"):
    return (
        PPOConfig()
        .environment(env, disable_env_checking=True)
        .env_runners(num_envs_per_env_runner=3, gym_env_vectorize_mode=mode)
        .training(train_batch_size_per_learner=60, minibatch_size=10, num_epochs=1)
        .rl_module(model_config={"fcnet_hiddens": (4,)})
        .fault_tolerance(restart_failed_sub_environments=True)
        .use(MultiAgent())
    )


def test_processes_do_what_one_process_does():
    results = []
    for mode in ("sync", "async"):
        algorithm = config_of(Unlucky, mode).build()
        results.append([algorithm.train() for _ in range(3)])
        evaluation = algorithm.evaluate(num_episodes=5)
        assert evaluation["evaluation/num_episodes"] == 5
        algorithm.stop()
    names = ("env_steps", "env_runners/num_env_restarts", "env_runners/episode_return_mean")
    one, two = ([[result[name] for name in names] for result in part] for part in results)
    assert one == two
    assert one[-1][1] > 5
    assert one[-1][0] < 180


def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(tmp_path):
    first, second = config_of(Unlucky).build(), config_of(Unlucky).build()
    first.train()
    second.restore(first.save(tmp_path / "checkpoint"))
    for _ in range(2):
        one, two = first.train(), second.train()
        for name in ("learner/default/total_loss", "env_runners/num_env_restarts", "env_steps"):
            assert one[name] == two[name]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_env_that_fails_again_and_again_raises_its_own_message(mode):
    algorithm = config_of(Hopeless, mode).build()
    with pytest.raises(EnvError, match="env slot 0.*failed 5 times in a row.*RuntimeError: out of memory"):
        algorithm.train()
    algorithm.stop()


def test_slots_of_one_vectorised_env_cannot_be_made_anew():
    with pytest.raises(EnvError, match="all slots are one env"):
        make_agents_env(config_of(Unlucky, "vector_entry_point"), "sampling")
