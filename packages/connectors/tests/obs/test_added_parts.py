import dataclasses

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_connectors.obs.previous import PrevActionsPrevRewards
from rl_connectors.obs.time_awareness import TimeAwareness
from rl_core import ConnectorState
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.env.spaces import flatten_batch
from rl_core.errors import ConfigError
from rl_core.testing import check_connector
from rl_core.testing.envs import ObservationIsTimeEnv

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
DICT = spaces.Dict([("z", VECTOR), ("a", spaces.Discrete(3))])
ACTIONS = [
    spaces.Discrete(3, start=-1),
    spaces.Discrete(1500),
    spaces.MultiDiscrete([2, 3], start=[0, 4]),
    spaces.Box(-2, 2, (2, 2), np.float32),
    spaces.Box(1, 2, (2,), np.float64),
    spaces.MultiBinary(3),
    spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.Box(-1, 1, (1,)), spaces.MultiBinary(2)])),
]


@pytest.mark.parametrize("action_space", ACTIONS, ids=repr)
@pytest.mark.parametrize(
    "piece", [PrevActionsPrevRewards(), PrevActionsPrevRewards(3, 0), PrevActionsPrevRewards(0, 2)]
)
def test_previous_actions_and_rewards_conform_on_every_action_space(piece, action_space):
    check_connector(piece, VECTOR, action_space)
    check_connector(piece, DICT, action_space)


@pytest.mark.parametrize("space", [VECTOR, DICT, spaces.Discrete(3)], ids=repr)
def test_time_awareness_conforms(space):
    check_connector(TimeAwareness(2), space, spaces.Discrete(2))


# Previous actions and rewards -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_the_most_recent_comes_last_and_an_episode_begins_with_zeros(mode):
    env = GymVectorEnv(SyncVectorEnv([ObservationIsTimeEnv], autoreset_mode=mode))
    chain = ObsChain([PrevActionsPrevRewards(2, 2)], env.observation_space, env.action_space)
    state, step = chain(chain.initial_state(1), env.reset(1))
    seen, begins = [step.obs], [True]
    for action in (1, 0, 1, 1, 0, 1):
        raw = env.step(np.array([action]))
        state, step = chain(state, raw)
        seen.append(step.obs)
        begins.append(bool(raw.first[0]))
    assert [row["prev_rewards"][0].tolist() for row in seen[:4]] == [[0, 0], [0, 1], [1, 2], [2, 3]]
    assert [row["prev_actions"][0].tolist() for row in seen[:4]] == [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 1, 1, 0],
        [1, 0, 0, 1],
    ]
    assert sum(begins) == 2
    place = begins.index(True, 1)
    assert not seen[place]["prev_actions"].any()
    assert not seen[place]["prev_rewards"].any()


def test_a_look_at_the_last_observation_sees_the_last_action_and_reward():
    chain = ObsChain([PrevActionsPrevRewards()], VECTOR, spaces.Discrete(2))
    obs = np.zeros((1, 3), np.float32)
    state, _ = chain(chain.initial_state(1), observations_only(obs, np.ones(1, bool)))
    look = dataclasses.replace(
        observations_only(obs, np.zeros(1, bool)),
        action=np.array([1]),
        reward=np.array([4.0], np.float32),
        terminated=np.ones(1, bool),
    )
    _, step = chain(state, look)
    assert step.obs["prev_actions"].tolist() == [[0, 1]]
    assert step.obs["prev_rewards"].tolist() == [[4]]


@pytest.mark.parametrize("action_space", ACTIONS, ids=repr)
def test_actions_are_flattened_as_everywhere_else(action_space):
    action_space.seed(0)
    chain = ObsChain([PrevActionsPrevRewards()], VECTOR, action_space)
    one = action_space.sample()

    def batch(part):
        if isinstance(part, dict):
            return {key: batch(value) for key, value in part.items()}
        return tuple(map(batch, part)) if isinstance(part, tuple) else np.stack([part, part])

    step = observations_only(np.zeros((2, 3), np.float32), np.zeros(2, bool))
    _, step = chain(chain.initial_state(2), dataclasses.replace(step, action=batch(one)))
    assert np.array_equal(step.obs["prev_actions"], flatten_batch(action_space, batch(one)))


def test_no_action_counts_as_none():
    chain = ObsChain([PrevActionsPrevRewards(2, 0)], VECTOR, spaces.Discrete(2))
    obs = np.zeros((1, 3), np.float32)
    step = observations_only(obs, np.zeros(1, bool))
    state, _ = chain(chain.initial_state(1), dataclasses.replace(step, action=np.array([1])))
    _, step = chain(state, step)
    assert step.obs["prev_actions"].tolist() == [[0, 1, 0, 0]]


def test_a_number_of_0_leaves_the_part_out():
    for piece, keys in (
        (PrevActionsPrevRewards(2, 0), ["prev_actions"]),
        (PrevActionsPrevRewards(0, 1), ["prev_rewards"]),
    ):
        chain = ObsChain([piece], VECTOR, spaces.Discrete(2))
        assert list(chain.output_space) == ["obs", *keys]
        assert list(chain.initial_state(1)[0].slots) == [keys[0].removeprefix("prev_")]
    with pytest.raises(ConfigError, match="both numbers are 0"):
        PrevActionsPrevRewards(0, 0)
    with pytest.raises(ConfigError, match="num_rewards is -1, expected a whole number"):
        PrevActionsPrevRewards(1, -1)


# Both -----------------------------------------------------------------------------------------------------------------


def test_a_dict_gets_the_parts_beside_its_own():
    chain = ObsChain([PrevActionsPrevRewards(), TimeAwareness(5)], DICT, spaces.Discrete(2))
    assert list(chain.output_space) == ["z", "a", "prev_actions", "prev_rewards", "time"]
    chain = ObsChain([TimeAwareness(5), PrevActionsPrevRewards()], VECTOR, spaces.Discrete(2))
    assert list(chain.output_space) == ["obs", "time", "prev_actions", "prev_rewards"]


@pytest.mark.parametrize(("piece", "key"), [(TimeAwareness(3), "time"), (PrevActionsPrevRewards(), "prev_rewards")])
def test_a_key_that_is_taken_is_refused(piece, key):
    with pytest.raises(ConfigError, match=f"adds '{key}', but .* has '{key}' already.*RenameKeys"):
        ObsChain([piece], spaces.Dict({key: VECTOR}), spaces.Discrete(2))


# Time -----------------------------------------------------------------------------------------------------------------


def test_time_is_the_share_of_steps_that_has_passed():
    chain = ObsChain([TimeAwareness(4)], VECTOR, spaces.Discrete(2))
    state, shares = chain.initial_state(2), []
    for begins in ([1, 1], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0], [1, 0]):
        state, step = chain(state, observations_only(np.zeros((2, 3), np.float32), np.array(begins, bool)))
        shares.append(step.obs["time"][:, 0].tolist())
    assert shares == [[0, 0], [0.25, 0.25], [0.5, 0], [0.75, 0.25], [1, 0.5], [1, 0.75], [0, 1]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.floats(0, 1))
def test_rebuilt_times_are_those_of_stepping(seed, max_steps, share):
    random = np.random.default_rng(seed)
    first = random.random((12, 3)) < share
    first[0] = True
    chain = ObsChain([TimeAwareness(max_steps)], VECTOR, spaces.Discrete(2))
    obs = random.normal(size=(12, 3, 3)).astype(np.float32)
    state, states, times = chain.initial_state(3), [], []
    for row, begins in zip(obs, first, strict=True):
        state, step = chain(state, observations_only(row, begins))
        states.append(state)
        times.append(step.obs["time"])
    piece, start = chain.pieces[0], int(random.integers(0, 12))
    rebuilt = piece.rebuild(ConnectorState(slots=states[start][0].slots), obs[start:], first[start:])
    assert np.array_equal(rebuilt["time"], np.stack(times[start:]))
    assert rebuilt["obs"] is not None
    _, look = chain(states[-1], observations_only(obs[0], np.zeros(3, bool)))
    final = piece.rebuild_final(ConnectorState(), {"obs": obs[-1], "time": times[-1]}, obs[0])
    assert np.array_equal(final["time"], look.obs["time"])


def test_a_last_observation_is_one_step_on_however_long_the_episode():
    most = 2**22
    piece = TimeAwareness(most)
    elapsed = np.array([0, 1, 3_333_333, most - 2, most - 1, most])
    before = {"time": (elapsed / most).astype(np.float32)[:, np.newaxis]}
    final = piece.rebuild_final(ConnectorState(), before, np.zeros((6, 3), np.float32))
    assert np.array_equal(final["time"][:, 0], np.minimum((elapsed + 1) / most, 1).astype(np.float32))


@pytest.mark.parametrize("max_steps", [0, True, 2.0, 2**22 + 1])
def test_a_number_of_steps_out_of_range_is_refused(max_steps):
    with pytest.raises(ConfigError, match="TimeAwareness: max_steps is .*, expected a whole number from 1 to 4194304"):
        TimeAwareness(max_steps)
