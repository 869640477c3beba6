"""What holds for every env of the package."""

import copy
import importlib.util
import json
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.vector.utils import batch_space

from rl_core import PPOConfig
from rl_core.env.make import make_single_env, make_vector_env
from rl_core.errors import EnvError
from rl_core.testing import check_algorithm, check_env
from rl_envs import (
    ActionMaskEnv,
    CorrelatedActionsEnv,
    DictCartPole,
    HeavyCartPole,
    HeavyCartPoleVector,
    LopsidedPendulum,
    RepeatAfterMe,
    SimpleCorridor,
    StatelessCartPole,
    StatelessCartPoleVector,
    TruncatedCartPole,
    TruncatedCartPoleVector,
)

LENIENT = {"forbidden_reward": -1.0}  # a check acts at random
CASES = [
    (StatelessCartPole, "StatelessCartPole", {}),
    (HeavyCartPole, "HeavyCartPole", {}),
    (TruncatedCartPole, "TruncatedCartPole", {}),
    (DictCartPole, "DictCartPole", {}),
    (LopsidedPendulum, "LopsidedPendulum", {}),
    (CorrelatedActionsEnv, "CorrelatedActions", {}),
    (RepeatAfterMe, "RepeatAfterMe", {}),
    (ActionMaskEnv, "ActionMask", LENIENT),
    (SimpleCorridor, "SimpleCorridor", {}),
]
every_env = pytest.mark.parametrize(("env_class", "name", "env_config"), CASES, ids=[name for _, name, _ in CASES])


def small(env, env_config=None):
    return (
        PPOConfig()
        .environment(env, env_config=env_config or {})
        .env_runners(num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=32, minibatch_size=16, num_epochs=1)
        .rl_module(model_config={"fcnet_hiddens": [8]})
        .debugging(seed=3)
    )


@every_env
def test_env_passes_our_check_without_a_note(env_class, name, env_config):
    assert check_env(env_class(**env_config), num_steps=300) == []


@every_env
def test_env_passes_the_check_of_gymnasium(env_class, name, env_config):
    env = gymnasium.make(f"rl_envs/{name}-v0", **env_config)
    cannot_draw = issubclass(env_class, CartPoleEnv | PendulumEnv) and importlib.util.find_spec("pygame") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # What CartPole itself is told: its velocities have no bounds.
        warnings.filterwarnings("ignore", message=".*(infinity|symmetric and normalized).*")
        gymnasium_check_env(env.unwrapped, skip_render_check=cannot_draw)


def leaves(tree):
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, list | tuple) else [np.asarray(tree)]


def same(one, other):
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def play(env, seed, num_steps=120):
    actions = copy.deepcopy(env.action_space)
    actions.seed(5)
    trace = [env.reset(seed=seed)[0]]
    for _ in range(num_steps):
        obs, reward, terminated, truncated, _ = env.step(actions.sample())
        trace += [obs, reward, terminated, truncated]
        if terminated or truncated:
            trace.append(env.reset()[0])
    return leaves(trace)


@every_env
def test_the_seed_settles_everything(env_class, name, env_config):
    first = play(env_class(**env_config), seed=7)
    used = env_class(**env_config)
    play(used, seed=1)
    used.observation_space.sample()  # the user's own draws do not count
    assert same(first, play(used, seed=7))
    if env_class is not SimpleCorridor:
        assert not same(first, play(used, seed=8))


@every_env
def test_the_id_makes_the_same_env_as_the_class(env_class, name, env_config):
    env = make_single_env(f"rl_envs:rl_envs/{name}-v0", env_config)
    assert type(env.unwrapped) is env_class
    assert same(play(env, seed=2), play(env_class(**env_config), seed=2))


def test_ids_are_found_in_a_fresh_process():
    code = "import gymnasium; print(gymnasium.make('rl_envs:rl_envs/SimpleCorridor-v0', length=3).unwrapped.length)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout == "3\n"


def test_importing_the_package_imports_neither_torch_nor_pygame():
    code = "import json, sys, rl_envs; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert {"torch", "pygame", "matplotlib", "scipy"} & set(json.loads(done.stdout)) == set()


@every_env
def test_the_state_of_an_env_can_be_captured_and_restored(env_class, name, env_config):
    def make():
        return make_vector_env(env_class, num_envs=2, env_config=env_config)

    env, other = make(), make()
    batch = batch_space(env.action_space, 2)
    batch.seed(0)
    actions = [copy.deepcopy(batch.sample()) for _ in range(60)]
    env.reset(seed=4)
    for action in actions[:30]:
        env.step(action)
    state, reason = env.try_get_state()
    assert reason == ""
    other.set_state(state)
    for action in actions[30:]:
        one, two = (leaves([s.obs, s.reward, s.terminated]) for s in (env.step(action), other.step(action)))
        assert same(one, two)


@pytest.mark.parametrize(
    ("env", "env_config", "mode"),
    [
        (StatelessCartPole, {"max_steps": 9}, "sync"),
        ("rl_envs:rl_envs/StatelessCartPole-v0", {"max_steps": 9}, "vector_entry_point"),
        (RepeatAfterMe, {"episode_length": 9}, "sync"),
        (ActionMaskEnv, {"episode_length": 9, **LENIENT}, "sync"),
    ],
    ids=["class", "vectorised", "nested", "mask"],
)
def test_ppo_keeps_its_promises_on(env, env_config, mode):
    check_algorithm(small(env, env_config).env_runners(gym_env_vectorize_mode=mode))


@pytest.mark.parametrize("env", [HeavyCartPole, TruncatedCartPole, CorrelatedActionsEnv, SimpleCorridor])
def test_ppo_trains_on(env):
    algorithm = small(env).build()
    assert algorithm.train()["env_steps"] == 32
    algorithm.stop()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StatelessCartPole(max_steps=0), r"StatelessCartPole: max_steps is 0, expected a whole number >= 1"),
        (lambda: TruncatedCartPole(max_steps=1.5), r"TruncatedCartPole: max_steps is 1.5, expected a whole number"),
        (lambda: HeavyCartPoleVector(2, max_steps=True), r"HeavyCartPoleVector: max_steps is True, expected a whole"),
        (lambda: StatelessCartPoleVector(0), r"StatelessCartPoleVector: num_envs is 0, expected a whole number >= 1"),
        (lambda: TruncatedCartPoleVector(1, "9"), r"TruncatedCartPoleVector: max_steps is '9', expected a whole"),
        (lambda: SimpleCorridor(length=0), r"SimpleCorridor: length is 0, expected a whole number >= 1"),
        (lambda: SimpleCorridor(max_steps=None), r"SimpleCorridor: max_steps is None, expected a whole number >= 1"),
        (lambda: SimpleCorridor(render_mode="human"), r"render_mode is 'human', expected 'ansi', 'rgb_array' or None"),
        (lambda: ActionMaskEnv(num_actions=1), r"ActionMaskEnv: num_actions is 1, expected a whole number >= 2"),
        (
            lambda: ActionMaskEnv(allowed_share=1.1),
            r"ActionMaskEnv: allowed_share is 1.1, expected a number in \[0, 1\]",
        ),
        (lambda: ActionMaskEnv(allowed_share="x"), r"ActionMaskEnv: allowed_share is 'x', expected a finite number"),
        (lambda: ActionMaskEnv(forbidden_reward=np.inf), r"forbidden_reward is inf, expected a finite number"),
        (
            lambda: ActionMaskEnv(episode_length=-1),
            r"ActionMaskEnv: episode_length is -1, expected a whole number >= 1",
        ),
        (lambda: RepeatAfterMe(episode_length=0), r"RepeatAfterMe: episode_length is 0, expected a whole number >= 1"),
        (lambda: RepeatAfterMe({"type": "Bix"}), r"RepeatAfterMe: space.type is 'Bix', expected one of Box"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_bad_setting_in_a_config_names_the_env():
    with pytest.raises(EnvError, match="SimpleCorridor could not be made: ValueError: SimpleCorridor: length is -2"):
        small(SimpleCorridor, {"length": -2}).build()
