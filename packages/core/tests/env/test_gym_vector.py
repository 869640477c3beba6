"""Every Step is compared with a slow reference that steps single envs one by one, for each way to start episodes."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector import VectorEnv as GymnasiumVectorEnv

from rl_core.env.gym_vector import GymVectorEnv, SlotLoopEnv
from rl_core.env.protocol import VectorEnv
from rl_core.env.workers import WorkerEnv
from rl_core.errors import EnvError, UnsupportedSpaceError
from rl_core.records import Step
from rl_core.testing.envs import BufferEnv, CountdownEnv, NestedEnv, ObservationIsTimeEnv, RaisingEnv
from rl_core.tree import tree_leaves, tree_map

NEXT, SAME, DISABLED = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
NUM_ENVS, NUM_STEPS = 4, 30


class SlotReference:
    """One slot, told in words: what must `Step` say of it?"""

    def __init__(self, env, mode, seed):
        self.env, self.mode, self.pending = env, mode, False
        obs, _ = env.reset(seed=seed)
        self.row = dict(
            obs=obs, reward=0.0, terminated=False, truncated=False, first=True, artificial=False, final=None
        )

    def step(self, action):
        if self.pending:
            self.pending = False
            obs, _ = self.env.reset()
            return dict(obs=obs, reward=0.0, terminated=False, truncated=False, first=True, artificial=True, final=None)
        obs, reward, terminated, truncated, _ = self.env.step(action)
        row = dict(obs=obs, reward=reward, terminated=terminated, truncated=truncated, first=False, artificial=False)
        row["final"] = None
        if terminated or truncated:
            if self.mode is NEXT:
                self.pending = True
            else:
                row["final"] = obs
                row["obs"], _ = self.env.reset()
                row["first"] = True
        return row


def check_against(step: Step, rows: list[dict]):
    for name in ("terminated", "truncated", "first", "artificial"):
        assert getattr(step, name).dtype == np.bool_
        assert getattr(step, name).tolist() == [row[name] for row in rows], name
    assert step.reward.dtype == np.float32
    assert step.reward.tolist() == [row["reward"] for row in rows]
    for slot, row in enumerate(rows):
        assert_tree_equal(tree_map(lambda leaf, slot=slot: leaf[slot], step.obs), row["obs"])
    finals = [slot for slot, row in enumerate(rows) if row["final"] is not None]
    assert step.final_slots.tolist() == finals
    if finals:
        for position, slot in enumerate(finals):
            final = tree_map(lambda leaf, position=position: leaf[position], step.final_obs)
            assert_tree_equal(final, rows[slot]["final"])
        assert all(len(leaf) == len(finals) for leaf in tree_leaves(step.final_obs))
    else:
        assert step.final_obs is None


def assert_tree_equal(a, b):
    if isinstance(b, dict):
        assert type(a) is dict
        assert list(a) == list(b)
        for key in b:
            assert_tree_equal(a[key], b[key])
    elif isinstance(b, tuple):
        assert type(a) is tuple
        for x, y in zip(a, b, strict=True):
            assert_tree_equal(x, y)
    else:
        np.testing.assert_array_equal(a, b)


class CustomVectorEnv(GymnasiumVectorEnv):
    """As users write them: outputs in buffers that it uses again, final_obs batched, rewards as integers."""

    def __init__(self, mode):
        self.metadata = {"autoreset_mode": mode}
        self.mode, self.num_envs = mode, NUM_ENVS
        self.envs = [ObservationIsTimeEnv() for _ in range(NUM_ENVS)]
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.obs = np.zeros((NUM_ENVS, 2), np.float32)
        self.reward = np.zeros(NUM_ENVS, np.int32)
        self.terminated, self.truncated = np.zeros(NUM_ENVS, bool), np.zeros(NUM_ENVS, bool)
        self.ended = np.zeros(NUM_ENVS, bool)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(NUM_ENVS, bool))
        for slot in np.flatnonzero(mask):
            self.obs[slot], _ = self.envs[slot].reset(seed=None if seed is None else seed + int(slot))
        for flags in (self.terminated, self.truncated, self.ended):
            flags[mask] = False
        return self.obs, {}

    def step(self, actions):
        final = np.zeros_like(self.obs)
        for slot, env in enumerate(self.envs):
            if self.mode is NEXT and self.ended[slot]:
                self.obs[slot], _ = env.reset()
                self.reward[slot], self.terminated[slot], self.truncated[slot] = 0, False, False
                continue
            self.obs[slot], self.reward[slot], self.terminated[slot], self.truncated[slot], _ = env.step(actions[slot])
            if self.mode is SAME and (self.terminated[slot] or self.truncated[slot]):
                final[slot] = self.obs[slot]
                self.obs[slot], _ = env.reset()
        self.ended = self.terminated | self.truncated
        infos = {"final_obs": final} if self.mode is SAME and self.ended.any() else {}
        return self.obs, self.reward, self.terminated, self.truncated, infos


def sync(mode, env_class=ObservationIsTimeEnv, **settings):
    return SyncVectorEnv([env_class] * NUM_ENVS, autoreset_mode=mode, **settings)


def workers(mode, env_class=ObservationIsTimeEnv, **settings):
    return AsyncVectorEnv([env_class] * NUM_ENVS, autoreset_mode=mode, **settings)


CASES = {
    "sync-next": lambda: sync(NEXT),
    "sync-same": lambda: sync(SAME),
    "sync-disabled": lambda: sync(DISABLED),
    "sync-next-uncopied": lambda: sync(NEXT, copy=False),
    "sync-same-uncopied": lambda: sync(SAME, copy=False),
    "sync-disabled-uncopied": lambda: sync(DISABLED, copy=False),
    "custom-next": lambda: CustomVectorEnv(NEXT),
    "custom-same": lambda: CustomVectorEnv(SAME),
    "custom-disabled": lambda: CustomVectorEnv(DISABLED),
    "loop": lambda: SlotLoopEnv([ObservationIsTimeEnv] * NUM_ENVS),
    "async-next": lambda: workers(NEXT),
    "async-disabled": lambda: workers(DISABLED),
    "async-same-unshared": lambda: workers(SAME, shared_memory=False),
    "workers": lambda: WorkerEnv([ObservationIsTimeEnv] * NUM_ENVS, shared_memory=True),
}
NESTED_CASES = {
    "sync-next": lambda: sync(NEXT, NestedEnv),
    "sync-same": lambda: sync(SAME, NestedEnv),
    "sync-disabled": lambda: sync(DISABLED, NestedEnv, copy=False),
    "loop": lambda: SlotLoopEnv([NestedEnv] * NUM_ENVS),
    "workers": lambda: WorkerEnv([NestedEnv] * NUM_ENVS, shared_memory=True),
}


def run_against_reference(env: GymVectorEnv, env_class, actions):
    slots = [SlotReference(env_class(), env.autoreset_mode, seed=10 + slot) for slot in range(NUM_ENVS)]
    check_against(env.reset(seed=10), [slot.row for slot in slots])
    num_ends = 0
    for action in actions:
        rows = [slot.step(tree_map(lambda leaf, i=i: leaf[i], action)) for i, slot in enumerate(slots)]
        step = env.step(action)
        check_against(step, rows)
        assert step.action is action
        num_ends += int((step.terminated | step.truncated).sum())
    assert num_ends > NUM_ENVS
    again = env.reset(seed=10)
    slots = [SlotReference(env_class(), env.autoreset_mode, seed=10 + slot) for slot in range(NUM_ENVS)]
    check_against(again, [slot.row for slot in slots])


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_the_reference(case):
    env = GymVectorEnv(CASES[case]())
    actions = [np.zeros(NUM_ENVS, np.int64)] * NUM_STEPS
    try:
        run_against_reference(env, ObservationIsTimeEnv, actions)
        assert not env.step(actions[0]).artificial.any()  # a reset forgets the ends before it
    finally:
        env.close()
        env.close()


@pytest.mark.parametrize("case", NESTED_CASES)
def test_nested_observations_and_actions_are_trees_in_the_order_of_the_space(case):
    env = GymVectorEnv(NESTED_CASES[case]())
    generator = np.random.default_rng(0)

    def action():
        return {
            "move": generator.uniform(-2, 2, (NUM_ENVS, 2)).astype(np.float32),
            "keys": (generator.integers(-1, 3, NUM_ENVS), generator.integers(0, 2, (NUM_ENVS, 2))),
            "flags": generator.integers(0, 2, (NUM_ENVS, 2)).astype(np.int8),
        }

    try:
        run_against_reference(env, NestedEnv, [action() for _ in range(12)])
    finally:
        env.close()


@pytest.mark.parametrize("make", [SlotLoopEnv, lambda fns: WorkerEnv(fns, shared_memory=True)], ids=["loop", "workers"])
def test_final_observation_is_true_for_envs_that_return_their_buffer(make):
    env = GymVectorEnv(make([BufferEnv] * NUM_ENVS))
    try:
        run_against_reference(env, ObservationIsTimeEnv, [np.zeros(NUM_ENVS, np.int64)] * 12)
    finally:
        env.close()


def test_final_observations_are_own_memory():
    env = GymVectorEnv(CustomVectorEnv(DISABLED))
    env.reset(seed=0)
    while True:
        step = env.step(np.zeros(NUM_ENVS, np.int64))
        if len(step.final_slots):
            break
    kept = [np.copy(part) for part in (step.final_obs, step.terminated, step.truncated, step.reward)]
    for _ in range(3):
        env.step(np.zeros(NUM_ENVS, np.int64))
    for before, after in zip(kept, (step.final_obs, step.terminated, step.truncated, step.reward), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("mode", [SAME, DISABLED])
def test_infos_after_an_end_are_those_of_the_reset(mode):
    env = GymVectorEnv(sync(mode))
    env.reset(seed=0)
    for _ in range(NUM_STEPS):
        step = env.step(np.zeros(NUM_ENVS, np.int64))
        for slot in step.final_slots:
            assert step.infos["episode"][slot] == step.obs[slot, 1]
            assert step.infos["final_info"]["time"][slot] == step.reward[slot]


def test_slot_loop_returns_what_gymnasium_returns():
    ours, theirs = (
        SlotLoopEnv([ObservationIsTimeEnv] * 3),
        SyncVectorEnv([ObservationIsTimeEnv] * 3, autoreset_mode=SAME),
    )
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for _ in range(20):
        a, b = ours.step(np.zeros(3, np.int64)), theirs.step(np.zeros(3, np.int64))
        for x, y in zip(a[:4], b[:4], strict=True):
            np.testing.assert_array_equal(x, y)
        assert a[4].keys() == b[4].keys()
        for key in a[4]:
            assert str(a[4][key]) == str(b[4][key])


class ShrinkingEnv(CountdownEnv):
    """The observation has three numbers, but after the first step one."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(0.0, 1.0, (3,), np.float32)

    def _obs(self):
        return super()._obs().repeat(3 if self.left > 3 else 1)


def test_an_observation_of_another_shape_is_not_spread_over_the_buffer():
    env = GymVectorEnv(SlotLoopEnv([ShrinkingEnv] * 2))
    env.reset(0)
    env.step(np.zeros(2, np.int64))
    with pytest.raises(EnvError, match=r"slot 0 gave an observation of shape \(1,\), expected \(3,\)"):
        env.step(np.zeros(2, np.int64))


def test_adapter_satisfies_the_protocol():
    env = GymVectorEnv(sync(SAME))
    assert isinstance(env, VectorEnv)
    assert env.render() is None
    assert "ObservationIsTimeEnv" in repr(GymVectorEnv(sync(SAME), name="ObservationIsTimeEnv"))


# Envs that break the contract -----------------------------------------------------------------------------------------


class Broken(CustomVectorEnv):
    def __init__(self, **changes):
        super().__init__(changes.pop("mode", SAME))
        vars(self).update(changes)

    def step(self, actions):
        result = list(super().step(actions))
        for position, value in getattr(self, "replace", {}).items():
            result[position] = value
        return tuple(result)


def step_often(env):
    for _ in range(NUM_STEPS):
        env.step(np.zeros(NUM_ENVS, np.int64))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"metadata": {}}, EnvError, r"autoreset_mode'\] = None, expected"),
        ({"metadata": {"autoreset_mode": "soon"}}, EnvError, "'soon'"),
        ({"single_observation_space": None}, EnvError, "has no single_observation_space"),
        ({"single_action_space": None}, EnvError, "has no single_action_space"),
        ({"num_envs": 0}, EnvError, "num_envs is 0"),
        ({"single_observation_space": spaces.Text(3)}, UnsupportedSpaceError, "is a Text space"),
    ],
)
def test_incomplete_vector_envs_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        GymVectorEnv(Broken(**changes))


def test_things_that_are_no_vector_env_are_refused():
    with pytest.raises(EnvError, match=r"Expected a gymnasium.vector.VectorEnv, got NestedEnv"):
        GymVectorEnv(NestedEnv())


def test_mode_may_be_given_as_text_or_stated_by_the_caller():
    assert GymVectorEnv(Broken(metadata={"autoreset_mode": "NextStep"})).autoreset_mode is NEXT
    assert GymVectorEnv(Broken(metadata={}), autoreset_mode=DISABLED).autoreset_mode is DISABLED


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ({0: np.zeros((NUM_ENVS, 3), np.float32)}, r"shape \(4, 3\), expected a float32 array of shape \(4, 2\)"),
        ({0: [[0.0, 0.0]] * NUM_ENVS}, "as list"),
        ({1: np.zeros((NUM_ENVS, 1))}, r"rewards as a float64 array of shape \(4, 1\)"),
        ({2: [False] * NUM_ENVS}, "terminations as list"),
        ({3: np.zeros(NUM_ENVS, np.int64)}, "truncations as a int64 array"),
    ],
)
def test_misshapen_results_are_refused(replace, message):
    env = GymVectorEnv(Broken(replace=replace))
    env.reset(seed=0)
    with pytest.raises(EnvError, match=message):
        env.step(np.zeros(NUM_ENVS, np.int64))


def test_same_step_without_final_observation_is_refused():
    env = GymVectorEnv(Broken(replace={4: {}}))
    env.reset(seed=0)
    with pytest.raises(EnvError, match="info has no 'final_obs'"):
        step_often(env)


def test_disabled_env_that_cannot_reset_some_slots_is_refused():
    class NoMask(CustomVectorEnv):
        def reset(self, *, seed=None, options=None):
            if options:
                raise ValueError("unknown options")
            return super().reset(seed=seed)

    env = GymVectorEnv(NoMask(DISABLED))
    env.reset(seed=0)
    with pytest.raises(EnvError, match="reset_mask"):
        step_often(env)


def test_an_error_in_the_env_names_it_and_keeps_the_cause():
    env = GymVectorEnv(SlotLoopEnv([RaisingEnv]), name="RaisingEnv")
    env.reset(seed=0)
    env.step(np.zeros(1, np.int64))
    env.step(np.zeros(1, np.int64))
    with pytest.raises(EnvError, match="RaisingEnv raised RuntimeError in step: the simulator crashed") as caught:
        env.step(np.zeros(1, np.int64))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_cartpole_vector_entry_point_flags_the_artificial_step():
    env = GymVectorEnv(gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="vector_entry_point"))
    assert env.autoreset_mode is NEXT
    env.reset(seed=1)
    ended = np.zeros(3, bool)
    for _ in range(60):
        step = env.step(np.ones(3, np.int64))
        np.testing.assert_array_equal(step.artificial, ended)
        np.testing.assert_array_equal(step.reward == 0, ended)
        assert (np.abs(step.obs[ended]) <= 0.05).all()
        ended = step.terminated | step.truncated
