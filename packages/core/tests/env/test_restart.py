"""Env slots that fail and are made anew, in every vectorisation mode."""

import functools

import gymnasium
import numpy as np
import pytest

from rl_core import PPOConfig
from rl_core.env.make import make_vector_env
from rl_core.env.restart import MOST_FAILURES, RESTARTS, RestartingEnv
from rl_core.errors import EnvError
from rl_core.rng import stream_seed
from rl_core.testing.envs import ObservationIsTimeEnv, RaisingEnv

MODES = ["sync", "async", "async_shared_memory"]


class Fragile(ObservationIsTimeEnv):
    """Raises at the second step of slot 1."""

    def step(self, action):
        if (self.slot, self.episode, self.time) == (1, 1, 1):
            raise RuntimeError("broke in step")
        return super().step(action)

    def reset(self, *, seed=None, options=None):
        self.slot = self.slot if seed is None else seed
        return super().reset(seed=seed if seed is None or seed < 1000 else 100 + seed % 50 * 3, options=options)


class DeadAtReset(ObservationIsTimeEnv):
    def reset(self, *, seed=None, options=None):
        raise ValueError("no licence")


def vector(env, mode, num_envs=3):
    return make_vector_env(env, num_envs=num_envs, vectorize_mode=mode, restart_failed=True)


@pytest.mark.parametrize("mode", MODES)
def test_only_the_slot_that_failed_begins_anew(mode):
    env, undisturbed = vector(Fragile, mode), make_vector_env(ObservationIsTimeEnv, num_envs=3)
    env.reset(0)
    undisturbed.reset(0)
    actions = np.zeros(3, np.int64)
    for time in range(8):
        step, other = env.step(actions), undisturbed.step(actions)
        for slot in (0, 2):
            for name in ("obs", "reward", "terminated", "truncated", "first", "artificial"):
                assert np.array_equal(getattr(step, name)[slot], getattr(other, name)[slot])
        if time == 1:
            assert step.broken.tolist() == [False, True, False]
            assert step.first[1]
            assert step.artificial[1]
            assert not (step.terminated | step.truncated)[1]
            assert step.reward[1] == 0
            assert step.obs[1].tolist() == [0, 100 + stream_seed(1, "restart", 1) % 50 * 3]
        else:
            assert step.broken is None
            assert not step.artificial.any()
    assert env.num_restarts == 1
    env.close()


@pytest.mark.parametrize("mode", MODES)
def test_an_env_that_fails_again_and_again_raises_its_own_message(mode):
    env = vector(DeadAtReset, mode)
    with pytest.raises(EnvError, match="failed 5 times in a row.*ValueError: no licence"):
        env.reset(0)
    env.close()


def test_a_good_step_ends_the_row_of_failures():
    env = RestartingEnv(RaisingEnv)  # two good steps, then a failure
    env.reset(seed=0)
    restarts = [RESTARTS in env.step(0)[4] for _ in range(3 * 4 * MOST_FAILURES)]
    assert restarts == [False, False, True] * 4 * MOST_FAILURES


def test_failures_of_a_reset_are_counted_and_lose_nothing():
    class FailsEverySecondReset(ObservationIsTimeEnv):
        resets = 0

        def reset(self, *, seed=None, options=None):
            type(self).resets += 1
            if type(self).resets % 2:
                raise RuntimeError("try again")
            return super().reset(seed=seed, options=options)

    env = vector(FailsEverySecondReset, "sync", num_envs=1)
    env.reset(4)
    assert env.num_restarts == 1
    num_ended = 0
    for _ in range(20):
        step = env.step(np.zeros(1, np.int64))
        ended = bool((step.terminated | step.truncated)[0])
        num_ended += ended
        assert not step.artificial.any()
        assert step.first[0] == ended
        assert step.broken is None or not step.broken.any()
    assert env.num_restarts == 1 + num_ended > 4


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_state_of_a_slot_made_anew_can_be_saved_and_restored(mode):
    env, other = vector(Fragile, mode), vector(Fragile, mode)
    env.reset(0)
    actions = np.zeros(3, np.int64)
    for _ in range(3):
        env.step(actions)
    state, reason = env.try_get_state()
    assert reason == ""
    other.set_state(state)
    for _ in range(9):
        assert np.array_equal(env.step(actions).obs, other.step(actions).obs)
    env.close()
    other.close()


def test_new_envs_get_seeds_that_follow_from_the_slots():
    seeds = []

    class NotesSeed(RaisingEnv):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return super().reset(seed=seed, options=options)

    env = RestartingEnv(NotesSeed)
    for _ in range(2):
        env.reset(seed=7)
        for _ in range(6):
            env.step(0)
    assert seeds == [7, stream_seed(7, "restart", 1), stream_seed(7, "restart", 2)] * 2
    assert len(set(seeds)) == 3
    unseeded = RestartingEnv(functools.partial(NotesSeed))
    unseeded.reset()
    for _ in range(3):
        unseeded.step(0)
    assert seeds[-2:] == [None, None]


def test_slots_of_one_vectorised_env_cannot_be_made_anew():
    config = PPOConfig().environment("CartPole-v1").env_runners(gym_env_vectorize_mode="vector_entry_point")
    with pytest.raises(EnvError, match="all slots are one env.*restart_failed_sub_environments=False"):
        config.fault_tolerance(restart_failed_sub_environments=True).build()


def test_without_the_setting_the_failure_ends_the_run():
    config = PPOConfig().environment(RaisingEnv, disable_env_checking=True)
    with pytest.raises(EnvError, match="RaisingEnv raised RuntimeError in step: the simulator crashed"):
        config.build().train()


def test_the_env_is_checked_as_it_will_be_run():
    config = PPOConfig().environment(RaisingEnv).training(train_batch_size_per_learner=64)
    algorithm = config.fault_tolerance(restart_failed_sub_environments=True).build()
    result = algorithm.train()
    assert result["env_runners/num_env_restarts"] == 16
    assert result["env_steps"] == 48
    assert PPOConfig().environment("CartPole-v1").build().train()["env_runners/num_env_restarts"] == 0
    with pytest.raises(EnvError, match="slot 0 failed in 100 episodes in a row"):
        algorithm.evaluate()


def test_gymnasium_wrappers_around_the_env_are_made_anew_too():
    make = functools.partial(make_vector_env, restart_failed=True, num_envs=2)
    env = make(RaisingEnv, wrappers=[functools.partial(gymnasium.wrappers.TimeLimit, max_episode_steps=2)])
    env.reset(0)
    for _ in range(20):
        assert env.step(np.zeros(2, np.int64)).broken is None
