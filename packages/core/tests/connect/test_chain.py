from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stateful_connectors import FrameStack, NegateReward, RunningMean, SwapActions

from rl_core import ActionConnector, ConnectorState, ObsConnector, Step
from rl_core.connect.chain import ActionChain, ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.connect.required import ActionToEnv, FlattenObs
from rl_core.errors import ConfigError, UnsupportedSpaceError

VECTOR, ACTION = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)


@dataclass(frozen=True)
class Affine(ObsConnector):
    factor: float = 1.0
    offset: float = 0.0

    def output_space(self, observation_space, action_space):
        return spaces.Box(-np.inf, np.inf, observation_space.shape)

    def __call__(self, state, step):
        return state, replace(step, obs=step.obs * self.factor + self.offset)


@dataclass(frozen=True)
class Append(ActionConnector):
    """Takes one more action number than what is behind it."""

    def module_space(self, action_space):
        return spaces.Box(-1, 1, (action_space.shape[0] + 1,))

    def __call__(self, state, action, first):
        return state, action[..., :-1] * 10 + action[..., -1:]


def make_step(obs, *, first=None, reward=0.0):
    obs = np.asarray(obs, np.float32)
    nothing = np.zeros(len(obs), bool)
    return Step(
        obs=obs,
        reward=np.full(len(obs), reward, np.float32),
        terminated=nothing,
        truncated=nothing,
        first=nothing if first is None else np.asarray(first),
        artificial=nothing,
        final_slots=np.zeros(0, np.int64),
        final_obs=None,
    )


def convert(chain, action, first=()):
    return chain(chain.initial_state(len(action), seed=0), action, np.array(first, bool))[1]


def test_pieces_work_in_the_order_given():
    chain = ObsChain([Affine(offset=1.0), Affine(factor=10.0)], VECTOR, ACTION)
    _, step = chain(chain.initial_state(1), make_step([[1, 2]]))
    assert step.obs.tolist() == [[20.0, 30.0]]


def test_each_piece_sees_the_space_of_the_one_before():
    chain = ObsChain([FrameStack(2), FrameStack(3)], VECTOR, ACTION)
    assert [space.shape for space in chain.spaces] == [(2,), (4,), (12,)]
    assert chain.output_space.shape == (12,)
    assert chain.initial_state(5)[1].slots.shape == (5, 3, 4)


def test_an_empty_chain_passes_everything_through():
    chain, step = ObsChain([], VECTOR, ACTION), make_step([[1, 2]])
    assert chain(chain.initial_state(1), step) == ((), step)
    assert chain.output_space is VECTOR


def test_a_piece_that_refuses_its_space_is_named_with_its_place():
    with pytest.raises(
        ConfigError, match=r"Observation connector 1 \(FrameStack\) cannot take Box\(.*FrameStack takes vectors"
    ):
        ObsChain([RunningMean(), FrameStack()], spaces.Box(0, 1, (2, 2)), ACTION)


@pytest.mark.parametrize("wrong", [FrameStack, lambda state, step: (state, step), "FrameStack", None, ActionToEnv()])
def test_what_is_no_observation_connector_is_refused_with_its_place(wrong):
    with pytest.raises(ConfigError, match="Observation connector 1: got .*, expected an ObsConnector instance"):
        ObsChain([Affine(), wrong], VECTOR, ACTION)


@pytest.mark.parametrize("wrong", [ActionToEnv, 3, FrameStack()])
def test_what_is_no_action_connector_is_refused_with_its_place(wrong):
    with pytest.raises(ConfigError, match="Action connector 0: got .*, expected an ActionConnector instance"):
        ActionChain([wrong, ActionToEnv()], ACTION)


def test_action_pieces_work_towards_the_env_and_their_spaces_away_from_it():
    chain = ActionChain([Append(), Append(), ActionToEnv(clip=False)], spaces.Box(-1, 1, (1,)))
    assert chain.module_space.shape == (3,)
    assert chain.env_space.shape == (1,)
    action = convert(chain, torch.tensor([[1.0, 2.0, 3.0]]))
    assert action.tolist() == [[(1 * 10 + 3) * 10 + (2 * 10 + 3)]]


def test_an_action_piece_that_refuses_its_space_is_named_with_its_place():
    with pytest.raises(ConfigError, match=r"Action connector 0 \(Append\) cannot feed Discrete"):
        ActionChain([Append(), ActionToEnv()], ACTION)
    with pytest.raises(ConfigError, match=r"Action connector 0 \(ActionToEnv\) cannot feed Box.*finite bounds"):
        ActionChain([ActionToEnv(rescale=True)], spaces.Box(-np.inf, np.inf, (1,)))


def test_running_mean_gathers_over_slots_and_steps():
    chain = ObsChain([RunningMean()], VECTOR, ACTION)
    state = chain.initial_state(2)
    state, first = chain(state, make_step([[0, 0], [2, 4]]), observe=True)
    assert first.obs.tolist() == [[-1, -2], [1, 2]]
    state, second = chain(state, make_step([[4, 8], [6, 12]]), observe=True)
    assert second.obs.tolist() == [[1, 2], [3, 6]]
    assert chain.shared(state)[0]["count"] == 4
    _, third = chain(state, make_step([[3, 6], [3, 6]]))
    assert third.obs.tolist() == [[0, 0], [0, 0]], "without observe the statistics stay"


def test_frame_stack_starts_anew_only_in_slots_where_an_episode_begins():
    chain = ObsChain([FrameStack(3)], spaces.Box(-9, 9, (1,), np.float32), ACTION)
    state, step = chain(chain.initial_state(2), make_step([[1], [10]], first=[True, True]))
    assert step.obs.tolist() == [[1, 1, 1], [10, 10, 10]]
    state, step = chain(state, make_step([[2], [20]]))
    assert step.obs.tolist() == [[1, 1, 2], [10, 10, 20]]
    state, step = chain(state, make_step([[3], [30]], first=[False, True]))
    assert step.obs.tolist() == [[1, 2, 3], [30, 30, 30]]


def test_statistics_can_be_exchanged_without_touching_the_memory_of_slots():
    chain = ObsChain([FrameStack(2), RunningMean()], VECTOR, ACTION)
    state, _ = chain(chain.initial_state(1), make_step([[1, 2]]), observe=True)
    other, _ = chain(chain.initial_state(1), make_step([[5, 5]], first=[True]), observe=True)
    mixed = chain.with_shared(state, chain.shared(other))
    assert np.array_equal(mixed[0].slots, state[0].slots)
    assert mixed[1].shared is other[1].shared


def test_statistics_of_another_chain_are_refused():
    chain = ObsChain([RunningMean()], VECTOR, ACTION)
    with pytest.raises(ConfigError, match="Connector state of 2 pieces does not fit a chain of 1"):
        chain.with_shared(chain.initial_state(1), ((), ()))


def test_merged_statistics_are_those_of_all_data():
    chain = ObsChain([RunningMean()], VECTOR, ACTION)
    base, _ = chain(chain.initial_state(1), make_step([[1, 1]]), observe=True)
    left, _ = chain(base, make_step([[2, 4]]), observe=True)
    right, _ = chain(base, make_step([[6, 6]]), observe=True)
    both, _ = chain(left, make_step([[6, 6]]), observe=True)
    (merged,) = chain.merge([chain.shared(left), chain.shared(right)], chain.shared(base))
    assert merged["count"] == 3
    np.testing.assert_allclose(merged["mean"], both[0].shared["mean"])


def test_a_connector_without_statistics_needs_no_merge_and_one_with_them_must_have_it():
    assert NegateReward().merge([(), ()], ()) == ()
    with pytest.raises(NotImplementedError, match=r"NegateReward has shared state and must define merge\(\)"):
        NegateReward().merge([{"a": 1}], ())


def test_connector_state_is_two_parts():
    assert ConnectorState() == ConnectorState(shared=(), slots=())


# The required pieces --------------------------------------------------------------------------------------------------


def test_discrete_actions_are_shifted_to_their_start():
    chain = ActionChain([ActionToEnv()], spaces.Discrete(3, start=-1))
    assert convert(chain, torch.tensor([0, 1, 2])).tolist() == [-1, 0, 1]
    start = spaces.MultiDiscrete([3, 4], start=[5, -2])
    assert convert(ActionChain([ActionToEnv()], start), torch.tensor([[0, 0], [2, 3]])).tolist() == [[5, -2], [7, 1]]


def test_box_actions_are_clipped_to_their_bounds_only_if_asked():
    space = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 5], np.float32))
    action = torch.tensor([[-3.0, 7.0], [0.5, 2.0]])
    assert convert(ActionChain([ActionToEnv()], space), action).tolist() == [[-1, 5], [0.5, 2]]
    assert convert(ActionChain([ActionToEnv(clip=False)], space), action).tolist() == action.tolist()
    assert action.tolist() == [[-3, 7], [0.5, 2]], "the module's action is recorded as it was"


def test_box_actions_are_rescaled_from_minus_one_to_one():
    space = spaces.Box(np.array([-1, 10], np.float32), np.array([3, 20], np.float32))
    chain = ActionChain([ActionToEnv(rescale=True)], space)
    result = convert(chain, torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [5.0, -5.0]]))
    assert result.tolist() == [[-1, 10], [1, 15], [3, 20], [3, 10]]
    assert result.dtype == np.float32


@pytest.mark.parametrize("clip", [True, False])
def test_box_actions_have_the_dtype_of_the_space(clip):
    space = spaces.Box(-1, 1, (2,), np.float64)
    assert convert(ActionChain([ActionToEnv(clip=clip)], space), torch.zeros(3, 2)).dtype == np.float64


def test_clipping_works_with_infinite_bounds():
    space = spaces.Box(np.array([-np.inf, 0], np.float32), np.array([np.inf, np.inf], np.float32))
    assert convert(ActionChain([ActionToEnv()], space), torch.tensor([[-1e9, -1.0]])).tolist() == [[-1e9, 0]]


def test_clipped_actions_lie_in_a_box_whose_bounds_single_precision_does_not_hold():
    space = spaces.Box(-0.1, 0.1, (1,), np.float64)
    for chain in (ActionChain([ActionToEnv()], space), ActionChain([ActionToEnv(rescale=True)], space)):
        for value in (-5.0, 5.0):
            assert convert(chain, torch.tensor([[value]]))[0] in space


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_integer_boxes_get_integers_within_their_bounds(dtype):
    space = spaces.Box(100, 200, (1,), dtype)
    result = convert(ActionChain([ActionToEnv()], space), torch.tensor([[103.7], [999.0], [-4.0]]))
    assert result.dtype == dtype
    assert result.ravel().tolist() == [103, 200, 100]
    result = convert(ActionChain([ActionToEnv(rescale=True)], space), torch.tensor([[-1.0], [0.0], [1.0]]))
    assert result.ravel().tolist() == [100, 150, 200]


def test_nested_actions_keep_their_structure():
    space = spaces.Dict(
        move=spaces.Box(-1, 1, (1,)), keys=spaces.Tuple([spaces.Discrete(2, start=3), spaces.MultiBinary(2)])
    )
    action = {"move": torch.tensor([[9.0]]), "keys": (torch.tensor([1]), torch.tensor([[1.0, 0.0]]))}
    result = convert(ActionChain([ActionToEnv()], space), action)
    assert result["move"].tolist() == [[1.0]]
    assert result["keys"][0].tolist() == [4]
    assert result["keys"][1].dtype == np.int8
    assert {key: one[0] for key, one in result.items() if key == "move"}["move"] in space["move"]


def test_observations_of_every_kind_become_one_vector():
    space = spaces.Dict(a=spaces.Discrete(3, start=1), b=spaces.Tuple([spaces.Box(0, 9, (2,)), spaces.MultiBinary(2)]))
    chain = ObsChain([FlattenObs()], space, ACTION)
    obs = {"a": np.array([1, 3]), "b": (np.array([[4.0, 5.0], [6.0, 7.0]]), np.array([[1, 0], [0, 1]], np.int8))}
    step = replace(make_step([[0], [0]]), obs=obs)
    _, result = chain(chain.initial_state(2), step)
    assert chain.output_space.shape == (7,)
    assert result.obs.tolist() == [[1, 0, 0, 4, 5, 1, 0], [0, 0, 1, 6, 7, 0, 1]]


def test_chosen_parts_are_flattened_and_the_others_stay():
    space = spaces.Dict([("b", spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (2,))])), ("a", spaces.Discrete(3))])
    chain = ObsChain([FlattenObs(keys=("b",))], space, ACTION)
    assert list(chain.output_space.spaces) == ["b", "a"]
    assert chain.output_space["b"].shape == (4,)
    assert chain.output_space["a"] == spaces.Discrete(3)
    obs = {"b": (np.array([1]), np.array([[0.5, -0.5]], np.float32)), "a": np.array([2])}
    _, step = chain(chain.initial_state(1), observations_only(obs, np.ones(1, bool)))
    assert step.obs["b"].tolist() == [[0.0, 1.0, 0.5, -0.5]]
    assert step.obs["a"] is obs["a"]
    with pytest.raises(ConfigError, match=r"FlattenObs: keys names 'c', and .* has only \['b', 'a'\]"):
        ObsChain([FlattenObs(keys=("c",))], space, ACTION)
    with pytest.raises(ConfigError, match="FlattenObs: keys names 'b', and Box.* is no Dict"):
        ObsChain([FlattenObs(keys=("b",))], spaces.Box(-1, 1, (2,)), ACTION)
    with pytest.raises(ConfigError, match="FlattenObs: got keys='b', expected a tuple"):
        FlattenObs(keys="b")


def test_a_space_that_no_vector_can_be_made_of_is_refused():
    with pytest.raises((ConfigError, UnsupportedSpaceError), match="Observation connector 0"):
        ObsChain([FlattenObs()], spaces.Text(3), ACTION)


def test_swapped_actions_reach_the_env():
    assert convert(ActionChain([SwapActions(), ActionToEnv()], ACTION), torch.tensor([0, 1])).tolist() == [1, 0]
