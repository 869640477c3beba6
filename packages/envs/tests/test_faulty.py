"""The env with faults put in, and what runs make of them."""

import functools
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

from rl_core import PPOConfig
from rl_core.env.make import make_single_env
from rl_core.errors import EnvError
from rl_core.testing import check_algorithm, check_env
from rl_envs import CorrelatedActionsEnv, Faulty, InjectedCrashError, SimpleCorridor

MODES = ["sync", "async", "async_shared_memory"]


def config(mode="sync", **env_config):
    return (
        PPOConfig()
        .environment(Faulty, env_config=env_config)
        .env_runners(num_envs_per_env_runner=4, gym_env_vectorize_mode=mode)
        .training(train_batch_size_per_learner=400, minibatch_size=100, num_epochs=2)
        .rl_module(model_config={"fcnet_hiddens": [16]})
        .fault_tolerance(restart_failed_sub_environments=True)
        .debugging(seed=4)
    )


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "rl_envs:rl_envs/DictCartPole-v0", SimpleCorridor])
def test_without_faults_it_is_the_env_inside(env):
    inside = gymnasium.make(env) if isinstance(env, str) else env()
    env = Faulty(env if isinstance(env, str) else env())
    assert check_env(env, num_steps=100) == []
    gymnasium_check_env(Faulty(CorrelatedActionsEnv()), skip_render_check=True)
    traces = []
    for one in (env, inside):
        action_space = one.action_space
        action_space.seed(3)
        trace = [one.reset(seed=5)[0]]
        for _ in range(15):
            obs, reward, terminated, truncated, _ = one.step(action_space.sample())
            trace += [obs, reward, terminated, truncated]
            if terminated or truncated:
                break
        traces.append(trace)
    assert repr(traces[0]) == repr(traces[1])


def failures(env, seed, count=300):
    """Numbers of the steps that fail."""
    env.reset(seed=seed)
    found = []
    for number in range(count):
        try:
            *_, terminated, truncated, _ = env.step(0)
        except InjectedCrashError:
            found.append(number)
        else:
            if terminated or truncated:
                env.reset()
    return found


def test_faults_follow_from_both_seeds_and_come_as_often_as_asked():
    env = Faulty(p_crash=0.1, seed=1)
    first = failures(env, seed=7)
    assert failures(env, seed=7) == failures(Faulty(p_crash=0.1, seed=1), seed=7) == first
    assert failures(env, seed=8) != first != failures(Faulty(p_crash=0.1, seed=2), seed=7)
    assert 10 <= len(first) <= 55
    assert failures(Faulty(), seed=7) == []


def test_crashes_and_stalls_at_a_given_step():
    assert failures(Faulty(crash_after_n_steps=4), seed=0, count=6) == [4, 5]
    env = Faulty(stall_after_n_steps=3, stall_seconds=0.05)
    for _ in range(2):
        env.reset(seed=0)
        seconds = []
        for _ in range(6):
            start = time.perf_counter()
            env.step(0)
            seconds.append(time.perf_counter() - start)
        assert int(np.argmax(seconds)) == 3
        assert seconds[3] > 0.05
    with pytest.raises(InjectedCrashError, match="in reset"):
        Faulty(p_crash_reset=1.0).reset(seed=0)


def test_it_is_found_by_its_path_in_a_stored_config():
    stored = config(p_crash=0.5, env="CartPole-v1").to_dict()
    assert stored["sections"]["environment"]["env"] == {"$import": "rl_envs.faulty:Faulty"}
    found = "resolve_import('rl_envs.faulty:Faulty', allow=['rl_envs'])"
    code = f"from rl_core.config.codec import resolve_import; print({found})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert "rl_envs.faulty.Faulty" in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p_crash": 1.5}, r"Faulty: p_crash is 1.5, expected a number in \[0, 1\]"),
        ({"p_stall": "x"}, "Faulty: p_stall is 'x', expected a finite number"),
        ({"stall_seconds": -1}, "Faulty: stall_seconds is -1, expected at least 0"),
        ({"crash_after_n_steps": -1}, "Faulty: crash_after_n_steps is -1, expected a whole number >= 0"),
        ({"seed": None}, "Faulty: seed is None, expected a whole number >= 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Faulty(**settings)


@pytest.mark.parametrize("mode", MODES)
def test_a_run_goes_on_where_envs_crash(mode):
    algorithm = config(mode, p_crash=0.02, p_crash_reset=0.1).build()
    for _ in range(3):
        result = algorithm.train()
    assert result["env_runners/num_env_restarts"] > 10
    assert result["env_steps"] < 1200
    assert algorithm.evaluate(num_episodes=5)["evaluation/num_episodes"] == 5
    algorithm.stop()


def test_slots_that_have_not_crashed_yet_do_bit_for_bit_what_they_do_without_crashes():
    crashing, calm = (config(p_crash=p_crash).build().sample() for p_crash in (0.01, 0.0))
    assert calm.valid is None
    assert not crashing.valid.all()
    for slot in range(4):
        failed = (~crashing.valid[:, slot]).nonzero().flatten().tolist()
        until = failed[0] if failed else len(calm.reward)
        assert until > 10
        assert crashing.obs[: until + 1, slot].equal(calm.obs[: until + 1, slot]) or failed
        for name in ("obs", "action", "reward", "terminated", "behavior_dist_inputs"):
            assert getattr(crashing, name)[:until, slot].equal(getattr(calm, name)[:until, slot]), name


def test_a_run_with_crashes_keeps_its_promises():
    check_algorithm(config(p_crash=0.02))


def test_the_setting_that_raises_is_the_default():
    plain = config(crash_after_n_steps=200).fault_tolerance(restart_failed_sub_environments=False)
    with pytest.raises(EnvError, match="Faulty raised InjectedCrashError in step: injected crash after 200 steps"):
        for algorithm in [plain.build()]:
            for _ in range(5):
                algorithm.train()


def test_an_env_that_never_works_ends_the_run_with_its_message():
    broken = config(crash_after_n_steps=0).environment(disable_env_checking=True)
    with pytest.raises(EnvError, match="failed 5 times in a row.*injected crash after 0 steps"):
        broken.build().train()


def test_a_function_of_the_config_may_make_it():
    env = make_single_env(functools.partial(_make), {"p": 0.5})
    assert env.p_crash == 0.5


def _make(env_config):
    return Faulty(gymnasium.make("CartPole-v1"), p_crash=env_config["p"])


@pytest.mark.learning
def test_ppo_learns_cartpole_although_one_step_in_five_hundred_crashes():
    learner = (
        PPOConfig()
        .environment(Faulty, env_config={"p_crash": 0.002, "p_crash_reset": 0.05})
        .fault_tolerance(restart_failed_sub_environments=True)
        .evaluation(evaluation_env_config={"p_crash": 0.0, "p_crash_reset": 0.0})
    )
    for seed in range(3):
        algorithm = learner.copy().debugging(seed=seed).build()
        best = 0.0
        while algorithm.env_steps < 150_000 and best < 475:
            for _ in range(5):
                result = algorithm.train()
            best = algorithm.evaluate()["evaluation/episode_return_mean"]
        print(seed, algorithm.env_steps, best, result["env_runners/num_env_restarts"])
        assert best >= 475
        assert result["env_runners/num_env_restarts"] > 50
        algorithm.stop()
