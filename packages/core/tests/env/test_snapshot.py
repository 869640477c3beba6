"""A restored env goes on bit for bit: every number it returns is compared with the run that was not interrupted."""

import collections
import copy
import enum
import json
import multiprocessing
import random
import re
import sys
import threading
import types
from importlib.machinery import ExtensionFileLoader, ModuleSpec

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_core.env import snapshot
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.env.make import make_vector_env
from rl_core.errors import CheckpointError
from rl_core.testing.envs import CountdownEnv, ImageEnv

IDS = ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "FrozenLake-v1"]
IDS += ["Blackjack-v1"]
SHORT = {"max_episode_steps": 13}


def through_files(state):
    """What safetensors and strict JSON make of it: arrays apart, the rest as text."""
    arrays = []

    def strip(node):
        if isinstance(node, np.ndarray):
            assert node.dtype.kind in "biuf"
            arrays.append(np.array(node, order="C"))
            return {"array": len(arrays) - 1}
        if isinstance(node, dict):
            assert all(isinstance(key, str) for key in node)
            return {key: strip(part) for key, part in node.items()}
        return [strip(part) for part in node] if isinstance(node, list) else node

    def fill(node):
        if isinstance(node, dict):
            return arrays[node["array"]] if set(node) == {"array"} else {key: fill(part) for key, part in node.items()}
        return [fill(part) for part in node] if isinstance(node, list) else node

    return fill(json.loads(json.dumps(strip(state), allow_nan=False)))


def play(env, actions):
    trace = []
    for action in actions:
        step = env.step(action)
        arrays = (step.obs, step.reward, step.terminated, step.truncated, step.first, step.artificial, step.final_slots)
        trace.append(
            [np.copy(array) for array in arrays] + [np.copy(step.final_obs) if len(step.final_slots) else None]
        )
    return trace


def assert_same_trace(a, b):
    for step, (x, y) in enumerate(zip(a, b, strict=True)):
        for left, right in zip(x, y, strict=True):
            assert np.array_equal(left, right), f"step {step}: {left} is not {right}"


def draw_actions(env, num_steps):
    space = copy.deepcopy(env.action_space)
    space.seed(3)
    return [np.stack([space.sample() for _ in range(env.num_envs)]) for _ in range(num_steps)]


def check_continuation(make, until=(7, 26)):
    """Save in the middle of episodes, go on, and go on once more from what was saved in a fresh env."""
    original = make()
    original.reset(seed=5)
    actions = draw_actions(original, 60)
    start = 0
    for stop in until:
        play(original, actions[start:stop])
        state, reason = original.try_get_state()
        assert state is not None, reason
        start = stop
    expected = play(original, actions[start:])
    resumed = make()
    resumed.set_state(through_files(state))
    assert_same_trace(play(resumed, actions[start:]), expected)
    resumed.set_state(through_files(state))  # and on an env that is in the middle of something
    assert_same_trace(play(resumed, actions[start:]), expected)
    original.close()
    resumed.close()
    return expected


@pytest.mark.parametrize("env_id", IDS)
def test_sync_envs_continue_bit_for_bit(env_id):
    config = SHORT
    check_continuation(lambda: make_vector_env(env_id, num_envs=3, env_config=config))


@pytest.mark.parametrize(("env_id", "mode"), [("CartPole-v1", "async"), ("FrozenLake-v1", "async_shared_memory")])
def test_worker_envs_continue_bit_for_bit(env_id, mode):
    check_continuation(lambda: make_vector_env(env_id, num_envs=2, vectorize_mode=mode, env_config=SHORT))


def test_an_env_in_a_spawned_process_continues_bit_for_bit():
    """As on macOS and Windows, where the process begins without anything that this one has."""
    usual = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        env = make_vector_env("CartPole-v1", num_envs=1, vectorize_mode="async", env_config=SHORT)
    finally:
        multiprocessing.set_start_method(usual, force=True)
    env.reset(seed=5)
    actions = draw_actions(env, 30)
    play(env, actions[:7])
    state = through_files(env.get_state())
    expected = play(env, actions[7:])
    env.set_state(state)
    assert_same_trace(play(env, actions[7:]), expected)
    env.close()


def test_vector_entry_point_continues_bit_for_bit_from_every_step():
    def make():
        return make_vector_env("CartPole-v1", num_envs=3, vectorize_mode="vector_entry_point", env_config=SHORT)

    for stop in range(11, 16):  # around the time limit at 13: with and without a pending artificial step
        check_continuation(make, until=(stop,))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_gymnasium_sync_env_continues_with_its_own_flags(mode):
    def make():
        return GymVectorEnv(SyncVectorEnv([lambda: gymnasium.make("Acrobot-v1", **SHORT)] * 2, autoreset_mode=mode))

    for stop in (12, 13, 14):
        trace = check_continuation(make, until=(stop,))
        assert any(row[5].any() for row in trace) == (mode is AutoresetMode.NEXT_STEP)


def test_vector_wrappers_are_captured():
    def make():
        env = gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point")
        return GymVectorEnv(gymnasium.wrappers.vector.NormalizeObservation(env))

    check_continuation(make)


def test_random_generators_of_the_env_and_of_its_spaces_continue():
    class Sampling(ImageEnv):
        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, float(self.action_space.sample()), *rest

    def make():
        env = make_vector_env(Sampling, num_envs=2)
        for slot in env.env.envs:
            slot.action_space.seed(0)
        return env

    check_continuation(make)


# Which values ---------------------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Body:
    __slots__ = ("friend", "place")

    def __init__(self, place):
        self.place, self.friend = place, None


class Zoo(CountdownEnv):
    """Holds one of everything that can be captured."""

    def __init__(self):
        super().__init__()
        self.everything = None
        self.by_default = collections.defaultdict(list)
        self.bodies = [Body(1), Body(2)]
        self.bodies[0].friend, self.bodies[1].friend = self.bodies[1], self.bodies[0]
        self.color = Color.RED
        self.function = len
        self.a = self.b = None
        self.rngs = None
        self.lock_free = None

    def fill(self):
        self.everything = {
            "numbers": [1, 2.5, float("inf"), float("-inf"), True, None, 2**100, "text", b"\x00\xff", range(3)],
            ("tuple", 3): (np.float32(0.1), np.int8(3), np.float64("inf"), np.bool_(True), np.str_("x")),
            7: {"set": {1, 2}, "frozen": frozenset({"a"}), "deque": collections.deque([1, 2], maxlen=3)},
            "ordered": collections.OrderedDict([("z", 1), ("a", 2)]),
            "counter": collections.Counter("abba"),
            "arrays": [
                np.arange(6.0).reshape(2, 3),
                np.asfortranarray(np.arange(6).reshape(2, 3)),
                np.array(["ab", "c"]),
                np.array([1 + 2j]),
                np.zeros((0, 3), np.float16),
                np.array(5.0),
                np.array([b"x"], "S1"),
                np.array(["2020-01-01"], "datetime64[D]"),
                np.arange(3, dtype=">i4"),
            ],
        }
        self.by_default["a"].append(1)
        self.bodies[0].place = np.arange(3)
        self.color = Color.BLUE
        self.a = self.b = np.zeros(2)
        rngs = [np.random.Generator(kind(3)) for kind in (np.random.PCG64, np.random.MT19937, np.random.Philox)]
        rngs += [np.random.Generator(np.random.SFC64(3)), np.random.RandomState(3), random.Random(3)]
        self.rngs = (*rngs, rngs[0])
        for rng in self.rngs:
            rng.random()


def same(a, b):
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_all_kinds_of_values_come_back_with_their_type_and_identity():
    env, fresh = Zoo(), Zoo()
    env.reset(seed=1)
    env.fill()
    fresh.reset(seed=0)
    state, reason = snapshot.capture(env)
    assert state is not None, reason
    snapshot.restore(fresh, through_files(state))
    assert same(env.everything, fresh.everything)
    assert fresh.everything["arrays"][1].flags.f_contiguous
    assert fresh.everything[7]["deque"].maxlen == 3
    assert fresh.by_default["a"] == [1]
    assert fresh.by_default["new"] == []
    assert fresh.color is Color.BLUE
    assert fresh.a is fresh.b
    assert fresh.bodies[0].friend is fresh.bodies[1]
    assert fresh.bodies[1].friend is fresh.bodies[0]
    assert fresh.bodies[0].place.tolist() == [0, 1, 2]
    assert fresh.function is len
    assert fresh.rngs[0] is fresh.rngs[-1]
    assert [rng.random() for rng in env.rngs] == [rng.random() for rng in fresh.rngs]
    assert env.np_random.random() == fresh.np_random.random()


class Landmark:
    def __init__(self, place):
        self.place = np.array([place])


class GoalEnv(CountdownEnv):
    """Refers to one of its landmarks, another one in each episode, before it lists them all."""

    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed)
        landmarks = [Landmark(float(number)) for number in self.np_random.integers(100, size=3)]
        self.goal = landmarks[self.np_random.integers(3)]
        self.landmarks = landmarks
        return result


@pytest.mark.parametrize("other_seed", range(6))
def test_a_restored_env_refers_to_the_objects_it_referred_to(other_seed):
    first, second = GoalEnv(), GoalEnv()
    first.reset(seed=0)
    second.reset(seed=other_seed)
    snapshot.restore(second, through_files(snapshot.capture(first)[0]))
    assert [landmark.place.tolist() for landmark in second.landmarks] == [
        landmark.place.tolist() for landmark in first.landmarks
    ]
    assert [landmark is second.goal for landmark in second.landmarks] == [
        landmark is first.goal for landmark in first.landmarks
    ]
    assert len({id(landmark) for landmark in second.landmarks}) == 3


def test_what_was_captured_does_not_change_with_the_env():
    env = Zoo()
    env.fill()
    state, _ = snapshot.capture(env)
    before = repr(state)
    env.a += 1
    env.everything["arrays"][0][:] = 9
    assert repr(state) == before


class Transparent(gymnasium.Wrapper):
    pass


class Simulator(CountdownEnv):
    """Stands for a C++ simulator that can tell its state."""

    def __init__(self, can=True):
        super().__init__()
        self.handle, self.can = threading.Lock(), can

    def get_state(self):
        return {"left": self.left, "array": np.arange(2)} if self.can else None

    def set_state(self, state):
        assert state["array"].tolist() == [0, 1]
        self.left = state["left"]


def test_an_env_may_offer_its_own_state():
    env, fresh = Transparent(Simulator()), Transparent(Simulator())
    env.reset(seed=4)
    env.step(0)
    state, reason = snapshot.capture(env)
    assert state is not None, reason
    fresh.reset(seed=0)
    snapshot.restore(fresh, through_files(state))
    assert fresh.unwrapped.left == 4
    assert env.unwrapped.np_random.random() == fresh.unwrapped.np_random.random()


def generator_object():
    yield 1


class ForeignGame:
    """Has the methods of an env, but is no gymnasium env, and a handle that cannot be captured."""

    def __init__(self):
        self.handle, self.moves = iter(()), 0

    def reset(self, seed=None):
        self.moves = 0

    def step(self, action):
        self.moves += 1

    def get_state(self):
        return {"moves": self.moves}

    def set_state(self, state):
        self.moves = state["moves"]


def test_an_env_of_another_library_may_offer_its_own_state():
    env, other = ForeignGame(), ForeignGame()
    env.step(0)
    state, reason = snapshot.capture(env)
    assert reason == ""
    snapshot.restore(other, state)
    assert other.moves == 1


class HiddenDict(dict):
    pass


class Pickled:
    def __reduce__(self):
        return Pickled, ()


Point = collections.namedtuple("Point", "x y")


OVERLAPPING = np.zeros(4)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (threading.Lock(), "keeps state outside its attributes|is built on lock"),
        (generator_object(), "is built on generator"),
        (iter([1]), "is built on list_iterator"),
        (Point(1, 2), "is built on tuple"),
        (Pickled(), "own pickling"),
        (np.array([object()]), "array of type object"),
        (np.longdouble(1), "numpy scalar of type"),
        (HiddenDict(), "Zoo.lock_free .*HiddenDict. is built on dict"),
        ((OVERLAPPING[:3], OVERLAPPING[1:]), r"Zoo.lock_free\[1\] and Zoo.lock_free\[0\] are views of the same memory"),
        ({"deep": [threading.Lock()]}, r"Zoo.lock_free\['deep'\]\[0\]"),
    ],
)
def test_what_cannot_be_captured_is_named(value, reason):
    env = Zoo()
    env.lock_free = value
    state, text = snapshot.capture(env)
    assert state is None
    assert re.search(reason, text), text


class Caching(Zoo):
    not_state = ("cache",)


def test_what_an_env_names_as_no_state_is_left_out():
    env = Caching()
    env.cache, env.tally = threading.Lock(), 7
    state, reason = snapshot.capture(env)
    assert not reason
    fresh = Caching()
    fresh.cache, fresh.tally = "its own", 0
    snapshot.restore(fresh, through_files(state))
    assert (fresh.cache, fresh.tally) == ("its own", 7)


@pytest.mark.parametrize("name", ["$tensor", "$", 3])
def test_attributes_with_odd_names_are_refused(name):
    env = Zoo()
    vars(env)[name] = 1
    state, reason = snapshot.capture(env)
    assert state is None
    assert "Zoo has attributes with names that no code can have written" in reason


def test_more_values_than_a_checkpoint_should_hold_are_refused(monkeypatch):
    monkeypatch.setattr(snapshot, "_MOST_VALUES", 1000)
    for values in (list(range(1001)), dict.fromkeys(range(1001)), [[] for _ in range(900)]):
        env = Zoo()
        env.many = values
        state, reason = snapshot.capture(env)
        assert state is None
        assert "holds more than 1000 values" in reason


def test_an_env_made_with_a_c_extension_is_not_trusted(monkeypatch):
    """pybullet's client is a Python object that holds a number; the world is elsewhere."""
    simulator, client = types.ModuleType("fake_simulator"), types.ModuleType("fake_client")
    simulator.__spec__ = ModuleSpec("fake_simulator", ExtensionFileLoader("fake_simulator", "fake_simulator.so"))
    client.simulator = simulator
    monkeypatch.setitem(sys.modules, "fake_simulator", simulator)
    monkeypatch.setitem(sys.modules, "fake_client", client)
    env = Zoo()
    env.lock_free = type("Client", (), {"__module__": "fake_client"})()
    state, reason = snapshot.capture(env)
    assert state is None
    assert "is made with the extension module fake_simulator" in reason


def test_refusals_of_own_state_and_foreign_workers():
    state, reason = snapshot.capture(Transparent(Simulator(can=False)))
    assert state is None
    assert "get_state() returned None" in reason
    env = GymVectorEnv(gymnasium.vector.AsyncVectorEnv([CountdownEnv], autoreset_mode=AutoresetMode.SAME_STEP))
    try:
        env.reset(seed=0)
        assert env.get_state() is None
        assert "make_vector_env" in env.try_get_state()[1]
        env.step(np.zeros(1, np.int64))  # asking does it no harm
    finally:
        env.close()


# States that do not fit -----------------------------------------------------------------------------------------------


def captured(env):
    env.reset(seed=0)
    env.step(env.action_space.sample())
    return snapshot.capture(env)[0]


def edited(change):
    state = captured(CountdownEnv())
    change(state["root"])
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "malformed"),
        ({"version": 2, "root": {}, "arrays": []}, "malformed: expected version 1"),
        ({"version": 1, "root": {}}, "malformed: expected version 1, a root and arrays"),
        ({"version": 1, "root": {"kind": "magic", "id": 0}, "arrays": []}, "malformed near"),
        (captured(ImageEnv()), "has rl_core.testing.envs:ImageEnv at CountdownEnv, where the env has .*CountdownEnv"),
        (edited(lambda root: root["attributes"].update(backdoor=1)), "sets CountdownEnv.backdoor"),
        (edited(lambda root: root["attributes"].update(step=1)), "sets CountdownEnv.step"),
        (edited(lambda root: root["attributes"].update(__class__=1)), "sets CountdownEnv.__class__"),
        (edited(lambda root: root["attributes"].update(np_random=1)), "sets CountdownEnv.np_random"),
        *(
            (edited(lambda root, node=node: root["attributes"].update(left=node)), "malformed near")
            for node in (
                {"kind": "array", "fortran": False, "place": 99, "id": 9},
                {"kind": "array", "fortran": False, "place": "x", "id": 9},
                {"kind": "array", "fortran": False, "id": 9},
            )
        ),
        (edited(lambda root: root["attributes"].update(left={"kind": "same", "id": 99})), "malformed near"),
        (
            edited(lambda root: root["attributes"]["_np_random"]["state"].update(bit_generator="seed")),
            "'seed' is not a random generator that is saved",
        ),
        (edited(lambda root: root["attributes"]["_np_random"]["state"].update(state=[1, 2])), "malformed near"),
        (edited(lambda root: root["attributes"]["_np_random"]["state"].pop("has_uint32")), "malformed near"),
        (
            edited(lambda root: root["attributes"].update(left={"kind": "object", "class": "os:system", "id": 5})),
            "has os:system at CountdownEnv.left, where the env has builtins:int",
        ),
    ],
)
def test_states_that_do_not_fit_are_refused_and_change_nothing(state, message):
    env = CountdownEnv()
    env.reset(seed=0)
    with pytest.raises(CheckpointError, match=message):
        snapshot.restore(env, state)
    assert env.left == 5


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_states_that_do_not_fit_are_refused_and_the_env_lives_on(mode):
    env = make_vector_env(CountdownEnv, num_envs=2, vectorize_mode=mode)
    other = make_vector_env(ImageEnv, num_envs=2, vectorize_mode=mode)
    try:
        other.reset(seed=0)
        for state in (other.get_state(), {}, {"pending": np.zeros(3, bool)}, {"pending": np.zeros(2, bool), "env": {}}):
            with pytest.raises(CheckpointError):
                env.set_state(state)
        env.reset(seed=0)
        assert env.step(np.zeros(2, np.int64)).reward.tolist() == [1, 1]
    finally:
        env.close()
        other.close()
