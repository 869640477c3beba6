import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core.env.check import find_bad_values
from rl_core.errors import EnvError
from rl_core.testing.check_env import check_env
from rl_core.testing.envs import (
    BufferEnv,
    CountdownEnv,
    ImageEnv,
    LeavingSpaceEnv,
    NanRewardEnv,
    NestedEnv,
    ObservationIsTimeEnv,
    RaisingEnv,
)


@pytest.mark.parametrize("env_class", [CountdownEnv, ObservationIsTimeEnv, ImageEnv])
def test_good_envs_pass_without_a_note(env_class):
    assert check_env(env_class()) == []


def test_nested_env_passes():
    assert check_env(NestedEnv()) == []


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1", "Acrobot-v1"])
def test_envs_of_gymnasium_pass(name):
    assert check_env(gymnasium.make(name)) == []


class Changed(CountdownEnv):
    """CountdownEnv with some of what it returns replaced."""

    def __init__(self, reset=None, **changes):
        super().__init__()
        self.reset_result = reset
        self.changes = {**dict.fromkeys(("obs", "reward", "terminated", "truncated", "info"), Ellipsis), **changes}

    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed)
        return result if self.reset_result is None else self.reset_result

    def step(self, action):
        parts = zip(super().step(action), self.changes.values(), strict=True)
        return tuple(old if new is Ellipsis else new for old, new in parts)


class NoSpaces(gymnasium.Env):
    pass


class FourResults(CountdownEnv):
    def step(self, action):
        return super().step(action)[:4]


class FailsAtSecondReset(CountdownEnv):
    num_resets = 0

    def reset(self, *, seed=None, options=None):
        self.num_resets += 1
        if self.num_resets == 2:
            raise KeyError("level")
        return super().reset(seed=seed)


class NestedWrong(NestedEnv):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def step(self, action):
        obs, *rest = super().step(action)
        self.change(obs)
        return obs, *rest


ONE = np.zeros(1, np.float32)
BAD = [
    (NoSpaces(), ["no observation_space", "no action_space"]),
    (NanRewardEnv(), ["The reward is nan, expected a finite number"]),
    (LeavingSpaceEnv(), [r"step 3: observation at \(0,\) is 2.0, expected a finite number in \[0, 1\]"]),
    (RaisingEnv(), ["step 3 raised RuntimeError: the simulator crashed"]),
    (FourResults(), [r"step returned a tuple of 4: \(ndarray, float, bool, bool\), expected \(observation, reward"]),
    (FailsAtSecondReset(), [r"reset\(\) after the end of an episode raised KeyError"]),
    (Changed(reset=ONE), ["reset.* returned a float32 array of shape .1,., expected .observation, info dict"]),
    (Changed(reset=(ONE, None)), ["returned a tuple of 2"]),
    (Changed(reset=(np.zeros(2, np.float32), {})), [r"has shape \(2,\), expected \(1,\): Box\(1\) float32"]),
    (Changed(obs=np.zeros((1, 1), np.float32)), [r"has shape \(1, 1\), expected \(1,\)"]),
    (Changed(obs=np.array([np.nan], np.float32)), ["is nan"]),
    (Changed(obs=None), ["is None"]),
    (Changed(obs=["left"]), [r"observation is \['left'\] \(list\)"]),
    (Changed(reward=np.ones(1)), [r"The reward is a float64 array of shape \(1,\)"]),
    (Changed(reward=None), ["The reward is None"]),
    (Changed(reward=float("inf")), ["The reward is inf"]),
    (Changed(terminated=0), [r"terminated is 0 \(int\), expected a bool"]),
    (Changed(truncated=None, info=[], reward="x"), ["truncated is None", "info is", "reward is 'x'"]),
    (NestedWrong(lambda obs: obs.pop("mode")), ["has the keys .'position', 'parts', 'deep'., expected a dict"]),
    (NestedWrong(lambda obs: obs.update(mode=4)), [r"observation\['mode'\] is 4, expected .* in \[1, 3\]"]),
    (NestedWrong(lambda obs: obs.update(mode=1.5)), [r"observation\['mode'\] is 1.5 \(float\), expected int64"]),
    (
        NestedWrong(lambda obs: obs.update(parts=[0, 1])),
        [r"observation\['parts'\] is \[0, 1\] \(list\), expected a tuple"],
    ),
    (
        NestedWrong(lambda obs: obs.update(parts=(np.array([0, 5]), np.zeros(3, np.int8)))),
        [r"observation\['parts'\]\[0\] at \(1,\) is 5, expected .* \[0, 4\]"],
    ),
]


@pytest.mark.parametrize(("env", "messages"), BAD, ids=range(len(BAD)))
def test_bad_envs_are_told_what_is_wrong(env, messages):
    with pytest.raises(EnvError) as caught:
        check_env(env)
    for message in messages:
        assert caught.match(message)


def test_the_cause_is_kept():
    with pytest.raises(EnvError) as caught:
        check_env(RaisingEnv())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_other_objects_are_refused():
    with pytest.raises(EnvError, match=r"got a builtins.str, expected a gymnasium.Env object"):
        check_env("CartPole-v1")


class IgnoresSeed(CountdownEnv):
    def _obs(self):
        return np.random.default_rng().random(1).astype(np.float32)


@pytest.mark.parametrize(
    ("env", "note"),
    [
        (BufferEnv(), "returns its own buffer"),
        (IgnoresSeed(), "the first observation differs"),
        (Changed(obs=np.zeros(1)), "observation is float64 where its space says float32"),
        (Changed(obs=[0.5]), "is a list, expected an array"),
    ],
)
def test_what_works_but_should_not_be_is_noted(env, note):
    notes = check_env(env)
    assert len(notes) == 1
    assert note in notes[0]


def test_slow_envs_are_checked_for_two_seconds_only(monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr("rl_core.env.check.time.perf_counter", lambda: next(now))
    env = CountdownEnv(length=100)
    check_env(env)
    assert env.left > 90


# Rollouts -------------------------------------------------------------------------------------------------------------


def rollout(space, num_steps=5, num_envs=3):
    space.seed(0)

    def stack(space, samples):
        if isinstance(space, spaces.Dict):
            return {key: stack(child, [sample[key] for sample in samples]) for key, child in space.spaces.items()}
        if isinstance(space, spaces.Tuple):
            return tuple(stack(child, [sample[i] for sample in samples]) for i, child in enumerate(space.spaces))
        return np.array(samples).reshape(num_steps, num_envs, *space.shape)

    return stack(space, [space.sample() for _ in range(num_steps * num_envs)])


def test_rollouts_inside_the_space_are_fine():
    for space in (NestedEnv().observation_space, NestedEnv().action_space, ImageEnv().observation_space):
        assert find_bad_values(space, rollout(space)) is None
    unbounded = spaces.Box(-np.inf, np.inf, (3,))
    assert find_bad_values(unbounded, torch.zeros(5, 3, 3)) is None
    assert find_bad_values(unbounded, np.zeros((0, 3, 3))) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 7.0])
def test_the_first_bad_value_is_named(bad):
    space = spaces.Dict({"pos": spaces.Box(np.array([-1.0, -5.0], np.float32), np.array([1.0, 5.0], np.float32))})
    obs = rollout(space)
    obs["pos"][3, 1, 1] = obs["pos"][4, 0, 0] = bad
    text = find_bad_values(space, obs)
    assert text == (
        f"observation['pos'] at (1,), step 3, slot 1 is {bad}, expected a finite number in [-5, 5] of "
        "Box(2) float32 in [-5, 5]"
    )


@pytest.mark.parametrize(
    ("path", "bad", "name"),
    [
        (("mode",), 0, "observation['mode'], step 2, slot 0 is 0"),
        (("parts", 0), 9, "observation['parts'][0] at (0,), step 2, slot 0 is 9"),
        (("parts", 1), 2, "observation['parts'][1] at (0,), step 2, slot 0 is 2"),
    ],
)
def test_discrete_leaves_are_looked_at(path, bad, name):
    space = NestedEnv().observation_space
    obs = rollout(space)
    leaf = obs
    for key in path:
        leaf = leaf[key]
    leaf[2, 0, ...] = bad
    assert find_bad_values(space, obs).startswith(name)


def test_unbounded_spaces_still_need_finite_values():
    obs = np.zeros((4, 2, 3), np.float32)
    obs[1, 1, 2] = np.nan
    assert "step 1, slot 1 is nan" in find_bad_values(spaces.Box(-np.inf, np.inf, (3,)), obs)


def test_images_of_full_range_are_not_read():
    class Untouchable(np.ndarray):
        def min(self, *args, **kwargs):
            raise AssertionError

    assert (
        find_bad_values(ImageEnv().observation_space, np.zeros((2, 2, 12, 12, 3), np.uint8).view(Untouchable)) is None
    )
    narrow = spaces.Box(0, 200, (2,), np.uint8)
    assert "is 255" in find_bad_values(narrow, np.full((1, 2, 2), 255, np.uint8))


def test_rounding_to_single_precision_is_no_error():
    space = spaces.Box(0.0, 0.1, (1,), np.float64)  # float32(0.1) > 0.1
    assert find_bad_values(space, np.full((1, 2, 1), 0.1, np.float32)) is None


def test_a_wrong_shape_is_told():
    assert find_bad_values(spaces.Box(0, 1, (2,)), np.zeros((3, 2, 4))) == "observation has shape (4,), expected (2,)"
