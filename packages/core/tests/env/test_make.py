import sys
import types

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeLimit

from rl_core.env.make import make_single_env, make_vector_env
from rl_core.errors import EnvError, UnsupportedSpaceError
from rl_core.testing.envs import CountdownEnv, NestedEnv


def length_of_first_episode(env):
    env.reset(seed=0)
    for count in range(1, 1000):
        step = env.step(np.zeros(env.num_envs, np.int64))
        if (step.terminated | step.truncated).any():
            env.close()
            return count
    raise AssertionError


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_id_class_and_function_make_the_same_env(mode):
    settings = {"num_envs": 2, "vectorize_mode": mode}
    by_class = make_vector_env(CountdownEnv, env_config={"length": 7}, **settings)
    assert by_class.autoreset_mode is AutoresetMode.SAME_STEP
    assert length_of_first_episode(by_class) == 7
    by_function = make_vector_env(lambda config: CountdownEnv(**config), env_config={"length": 7}, **settings)
    assert length_of_first_episode(by_function) == 7
    by_id = make_vector_env("CartPole-v1", env_config={"max_episode_steps": 3}, **settings)
    assert length_of_first_episode(by_id) == 3


def test_vector_entry_point_of_an_id_a_class_and_a_function():
    settings = {"num_envs": 3, "vectorize_mode": "vector_entry_point", "env_config": {"max_episode_steps": 4}}
    for env in ("CartPole-v1", CartPoleVectorEnv, lambda config: CartPoleVectorEnv(**config)):
        made = make_vector_env(env, **settings)
        assert (made.num_envs, made.autoreset_mode) == (3, AutoresetMode.NEXT_STEP)
        assert length_of_first_episode(made) == 4


def test_nothing_stands_between_the_runner_and_the_env_but_its_time_limit():
    env = make_single_env("CartPole-v1")
    assert isinstance(env, TimeLimit)
    assert env.env is env.unwrapped
    assert gymnasium.make("CartPole-v1").spec.order_enforce  # the registered spec is left as it was


def test_wrappers_are_applied_to_each_slot_first_innermost():
    env = make_vector_env(
        CountdownEnv,
        num_envs=2,
        wrappers=[lambda env: TimeLimit(env, 2), lambda env: gymnasium.wrappers.TransformReward(env, lambda r: 3 * r)],
    )
    env.reset(seed=0)
    assert env.step(np.zeros(2, np.int64)).reward.tolist() == [3, 3]
    assert env.step(np.zeros(2, np.int64)).truncated.all()


def test_an_id_may_name_the_package_that_registers_it():
    module = types.ModuleType("rl_core_test_package")
    sys.modules[module.__name__] = module
    gymnasium.register("PackageEnv-v0", entry_point=CountdownEnv)
    try:
        assert make_single_env("rl_core_test_package:PackageEnv-v0").unwrapped.length == 5
    finally:
        del sys.modules[module.__name__], gymnasium.registry["PackageEnv-v0"]


def test_a_render_mode_gives_frames():
    pytest.importorskip("pygame")
    env = make_vector_env("CartPole-v1", num_envs=2, render_mode="rgb_array")
    env.reset(seed=0)
    frames = env.render()
    assert len(frames) == 2
    assert frames[0].ndim == 3
    env.close()


def raising(config):
    raise ZeroDivisionError("no wheels")


def missing(config):
    import mujoco_that_is_not_there  # noqa: F401


class TakesOneDict(CountdownEnv):
    def __init__(self, config):
        super().__init__(**config)


class TextEnv(CountdownEnv):
    def __init__(self):
        super().__init__()
        self.observation_space = gymnasium.spaces.Text(4)


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        ("CartPole", {}, "No env with the id 'CartPole' is registered. Nearest: CartPole-v0, CartPole-v1"),
        ("cartpol-v1", {}, "Nearest: CartPole-v1"),
        ("ALEE/Pongg-v5", {}, "'package:ALEE/Pongg-v5'"),
        ("MiniGrid-Nowhere-v0", {}, r"'minigrid:MiniGrid-Nowhere-v0' \(pip install minigrid\)"),
        ("no_such_package:Env-v0", {}, "no_such_package:Env-v0 needs a package .* pip install no_such_package"),
        ("CartPole-v1", {"num_envs": 0}, "num_envs is 0"),
        ("CartPole-v1", {"vectorize_mode": "asink"}, "vectorize_mode is 'asink', expected 'sync', 'async'"),
        ("CartPole-v1", {"env_config": {"gravitas": 3}}, "CartPole-v1 could not be made: TypeError"),
        ("Pendulum-v1", {"vectorize_mode": "vector_entry_point"}, "no vectorised form.*CartPole-v1.*mode='sync'"),
        ("CartPole-v1", {"vectorize_mode": "vector_entry_point", "wrappers": [CountdownEnv]}, "wrappers of single"),
        (CountdownEnv, {"vectorize_mode": "vector_entry_point"}, "CountdownEnv is not a vectorised env"),
        (CartPoleVectorEnv, {}, "Set vectorize_mode='vector_entry_point'"),
        (lambda config: CartPoleVectorEnv(2), {}, "made a vector env"),
        (lambda config: CartPoleVectorEnv(5), {"vectorize_mode": "vector_entry_point"}, "of 5 slots, expected 2"),
        (lambda config: CountdownEnv(), {"vectorize_mode": "vector_entry_point"}, "expected a gymnasium.vector"),
        (lambda config: 3, {}, "made a builtins.int, expected a gymnasium.Env"),
        (lambda config: types.SimpleNamespace(possible_agents=[]), {}, "It is for several agents: .* with config.use"),
        (lambda: CountdownEnv(), {}, "called with one argument, the dict env_config"),
        (TakesOneDict, {"env_config": {"length": 3}}, r"`lambda config: TakesOneDict\(config\)`"),
        (CountdownEnv(), {}, r"Got an env object \(CountdownEnv\)"),
        (dict, {}, "Got <class 'dict'>, expected a registered id"),
        (7, {}, "Got 7, expected"),
        (raising, {}, "raising could not be made: ZeroDivisionError: no wheels"),
        (missing, {}, "pip install mujoco_that_is_not_there"),
    ],
)
def test_what_cannot_be_made_says_why_and_what_to_do(env, settings, message):
    with pytest.raises(EnvError, match=message):
        make_vector_env(env, **{"num_envs": 2, "vectorize_mode": "sync", **settings})


@pytest.mark.parametrize("mode", ["sync", "async_shared_memory"])
def test_unsupported_spaces_are_refused_before_anything_runs(mode):
    with pytest.raises(UnsupportedSpaceError, match="TextEnv: observation_space is a Text space"):
        make_vector_env(TextEnv, num_envs=2, vectorize_mode=mode)


def test_nested_spaces_are_accepted():
    env = make_vector_env(NestedEnv, num_envs=2, vectorize_mode="sync")
    assert env.reset(seed=0).obs["deep"]["image"].shape == (2, 2, 2, 1)
