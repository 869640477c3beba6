import numpy as np
import pytest
import torch
from gymnasium import spaces
from stateful_connectors import FrameStack, RunningMean, SwapActions

from rl_core import ModelSettings, Policy, RLModule
from rl_core.checkpoint import save_checkpoint
from rl_core.connect.required import ActionToEnv
from rl_core.errors import CheckpointError, ConfigError
from rl_core.module.spec import ModuleSpec
from rl_core.policy import batch_of_one, with_required_connector
from rl_core.testing.envs import NestedEnv
from rl_core.tree import tree_map

VECTOR, ACTION = spaces.Box(-9, 9, (2,), np.float32), spaces.Discrete(3, start=5)
SPEC = ModuleSpec(model_config=ModelSettings(fcnet_hiddens=(4,), policy_head_gain=1.0))
OBS = np.array([0.5, -1.0], np.float32)


class Own(RLModule):
    def __init__(self, observation_space, action_space, *, size=3):
        super().__init__(observation_space, action_space)
        self.body = torch.nn.Linear(observation_space.shape[0], size)
        self.head = torch.nn.Linear(size, self.distribution.num_inputs)

    def forward_policy(self, obs, state=()):
        return self.head(self.body(obs)), state

    def forward_value(self, obs, state=()):
        return self.body(obs).sum(-1)


class WithCritic(Own):
    learner_only = ("critic",)

    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space)
        self.critic = torch.nn.Linear(2, 1)

    def forward_value(self, obs, state=()):
        return self.critic(obs).squeeze(-1)


class Counting(Own):
    def initial_state(self, batch_size):
        return torch.zeros(batch_size, 1)

    def forward_policy(self, obs, state=()):
        logits = 10.0 * torch.nn.functional.one_hot(state[..., 0].long() % 3, 3).float()
        return logits, state + 1


def make_policy(spec=SPEC, *, connectors=(), seed=0, space=VECTOR, action=ACTION):
    return Policy(
        spec,
        space,
        action,
        obs_connectors=with_required_connector(spec, space, action, connectors),
        action_connectors=[ActionToEnv()],
        seed=seed,
    )


def saved(policy, folder):
    return save_checkpoint(folder / "checkpoint", {"policies/default": policy.get_state()})


def test_act_gives_a_plain_action_of_the_space():
    action, _ = make_policy().act(OBS)
    assert type(action) is int
    assert action in ACTION


def test_act_takes_lists_and_other_precisions():
    policy = make_policy()
    assert policy.act(OBS)[0] == policy.act(OBS.tolist())[0] == policy.act(OBS.astype(np.float64))[0]
    assert policy.act([1, 0])[0] == policy.act([1.0, 0.0])[0]


def test_act_refuses_what_is_no_state():
    policy = make_policy()
    for wrong in (3, (), policy.act(OBS)):
        with pytest.raises(ValueError, match="act: state is .*, expected what act of this policy returned before"):
            policy.act(OBS, wrong)


class Fickle(Own):
    always_explores = True


def test_a_module_that_always_explores_draws_its_actions():
    spec = ModuleSpec(module_class=Fickle, model_config={})
    policy = Policy(spec, VECTOR, ACTION, action_connectors=[ActionToEnv()])
    assert {policy.act(OBS)[0] for _ in range(60)} == {5, 6, 7}


def test_without_exploring_the_mode_is_taken_and_with_it_actions_vary():
    policy = make_policy()
    assert len({policy.act(OBS)[0] for _ in range(20)}) == 1
    assert len({policy.act(OBS, explore=True)[0] for _ in range(60)}) > 1
    drawn = [[twin.act(OBS, explore=True)[0] for _ in range(10)] for twin in (make_policy(), make_policy())]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("obs", [np.zeros((1, 2)), np.zeros(3), 0.0])
def test_an_observation_of_another_shape_is_refused(obs):
    with pytest.raises(ValueError, match=r"act: obs has shape .*, expected \(2,\).*without a batch axis"):
        make_policy().act(obs)


PIXELS = spaces.Box(0, 255, (2, 2, 1), np.uint8)
SQUARE = np.array([[[0], [255]], [[7], [8]]], np.uint8)
NESTED = spaces.Dict({"b": spaces.Box(-1, 1, (3,)), "a": spaces.Tuple((spaces.Discrete(3, start=1), VECTOR))})


@pytest.mark.parametrize(
    ("space", "obs", "wrong", "message"),
    [
        (PIXELS, SQUARE, SQUARE / 255, "numbers of float64 that .* cannot hold. Give it uint8"),
        (PIXELS, SQUARE, SQUARE.astype(int) + 256, "numbers of int64 that .* cannot hold"),
        (PIXELS, SQUARE, np.full((2, 2, 1), np.nan), "numbers of float64"),
        (spaces.Discrete(3, start=1), 3, 0, r"obs is 0, which is not in Discrete\(3, start=1\)"),
        (spaces.Discrete(3), 2, 1.5, "numbers of float64"),
        (spaces.Discrete(3), 0, 3, "obs is 3, which is not in"),
        (spaces.MultiDiscrete([2, 3]), [1, 2], [2, 0], r"obs is \[2 0\], which is not in"),
        (spaces.MultiBinary(2), [0, 1], [0, 2], r"obs is \[0 2\], which is not in"),
        (NESTED, {"a": (1, OBS), "b": [0, 0, 0]}, {"a": (1, OBS)}, r"\['b'\] of .* are missing"),
        (NESTED, {"a": (1, OBS), "b": [0, 0, 0]}, {"a": (1, OBS), "b": [0, 0]}, r"obs\['b'\] has shape \(2,\)"),
        (NESTED, {"a": (1, OBS), "b": [0, 0, 0]}, {"a": (4, OBS), "b": [0, 0, 0]}, r"obs\['a'\]\[0\] is 4"),
        (NESTED, {"a": (1, OBS), "b": [0, 0, 0]}, {"a": (1,), "b": [0, 0, 0]}, r"obs\['a'\] has 1 parts, expected 2"),
    ],
)
def test_numbers_that_a_space_cannot_hold_are_refused(space, obs, wrong, message):
    found = batch_of_one(space, obs)
    assert space.contains(tree_map(lambda leaf: leaf[0], found))
    assert tree_map(lambda leaf: leaf.dtype, found) == tree_map(
        lambda leaf: leaf.dtype, batch_of_one(space, found_in(space))
    )
    with pytest.raises(ValueError, match=message):
        batch_of_one(space, wrong)


def found_in(space):
    space.seed(0)
    return space.sample()


def test_pixels_in_other_numbers_are_the_same_pixels():
    assert batch_of_one(PIXELS, SQUARE.tolist()).dtype == np.uint8
    for other in (int, np.float32, np.float64):
        np.testing.assert_array_equal(batch_of_one(PIXELS, SQUARE.astype(other))[0], SQUARE)


def test_nested_observations_and_actions_work():
    env = NestedEnv()
    policy = make_policy(space=env.observation_space, action=env.action_space)
    action, _ = policy.act(NestedEnv.observation_at(0))
    assert env.action_space.contains(action)
    assert isinstance(action["keys"][0], int)


def test_memory_goes_from_call_to_call_in_the_state_only():
    policy = make_policy(ModuleSpec(module_class=Counting, model_config={}), connectors=[FrameStack(2)])
    actions, state = [], None
    for _ in range(4):
        action, state = policy.act(OBS, state)
        actions.append(action)
    assert actions == [5, 6, 7, 5]
    assert policy.act(OBS)[0] == 5, "a call without state begins an episode"
    assert state.connectors[0].slots.tolist() == [[OBS.tolist()] * 2]


def test_an_initial_state_begins_an_episode_as_none_does():
    policy = make_policy(connectors=[FrameStack(2)])
    (action, one), (same_action, other) = policy.act(OBS), policy.act(OBS, policy.initial_state(seed=7))
    assert action == same_action
    np.testing.assert_array_equal(one.connectors[0].slots, other.connectors[0].slots)
    assert policy.initial_state().begins
    assert not one.begins


def test_acting_leaves_the_statistics_frozen():
    policy = make_policy(connectors=[RunningMean()])
    policy.shared = ({"count": np.array(1.0), "mean": np.zeros(2)},)
    state = None
    for _ in range(3):
        _, state = policy.act(OBS, state)
        assert state.connectors[0].shared["count"] == 1
    assert policy.shared[0]["count"] == 1


@pytest.mark.parametrize(
    "spec",
    [SPEC, ModuleSpec(module_class=Own, model_config={"size": 5}), ModuleSpec(module_class=Counting, model_config={})],
)
def test_a_policy_comes_back_from_a_file_as_it_was(tmp_path, spec):
    policy = make_policy(spec, connectors=[RunningMean(bound=1e3), FrameStack(2)], seed=3)
    policy.shared = ({"count": np.array(7.0), "mean": np.array([1.0, -1.0])}, ())
    policy.version = 12
    back = Policy.from_checkpoint(saved(policy, tmp_path))
    assert back.version == 12
    assert back.obs_chain.pieces == policy.obs_chain.pieces
    assert back.observation_space == VECTOR
    assert back.action_space == ACTION
    np.testing.assert_array_equal(back.shared[0]["mean"], [1.0, -1.0])
    state = twin_state = None
    for _ in range(5):
        obs = VECTOR.sample()
        action, state = policy.act(obs, state)
        other, twin_state = back.act(obs, twin_state)
        assert action == other
    for mine, its in zip(policy.module.state_dict().values(), back.module.state_dict().values(), strict=True):
        assert torch.equal(mine, its)


def test_an_own_action_connector_is_part_of_the_bundle(tmp_path):
    action_space = spaces.Discrete(2)
    policy = Policy(SPEC, VECTOR, action_space, action_connectors=[SwapActions(), ActionToEnv()], obs_connectors=[])
    plain = Policy(SPEC, VECTOR, action_space, action_connectors=[ActionToEnv()])
    back = Policy.from_checkpoint(saved(policy, tmp_path))
    assert back.act(OBS)[0] == 1 - plain.act(OBS)[0]


def test_a_module_given_as_an_instance_has_to_be_given_again(tmp_path):
    module = Own(VECTOR, ACTION)
    policy = make_policy(ModuleSpec(module_class=module, model_config={}))
    path = saved(policy, tmp_path)
    with pytest.raises(CheckpointError, match=r"The module was an instance of .*:Own.*pass it as `module=`"):
        Policy.from_checkpoint(path)
    other = Own(VECTOR, ACTION)
    back = Policy.from_checkpoint(path, module=other)
    assert torch.equal(back.module.head.weight, module.head.weight)
    with pytest.raises(CheckpointError, match=r"body.weight has shape \(3, 2\), expected \(4, 2\)"):
        Policy.from_checkpoint(path, module=Own(VECTOR, ACTION, size=4))


def test_a_policy_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    path = saved(make_policy(), tmp_path)
    with pytest.raises(CheckpointError, match=r"no component 'policies/left', only policies/default"):
        Policy.from_checkpoint(path, "left")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"module": {"class": "os:system", "model_config": {}}}, ConfigError),
        ({"module": {"class": "rl_core.records:Step", "model_config": {}}}, ConfigError),
        ({"module": {"class": "not_imported_anywhere:Module", "model_config": {}}}, ConfigError),
        ({"module": {"class": None, "model_config": {"fcnet_hidden": [3]}}}, ConfigError),
        ({"module": {}}, CheckpointError),
        ({"module": 3}, CheckpointError),
        ({"observation_space": {"kind": "nonsense"}}, CheckpointError),
        ({"observation_space": None}, CheckpointError),
        ({"action_space": {"$import": "os:system"}}, CheckpointError),
        ({"obs_connectors": [{"$object": "rl_core.records:Step", "fields": {}}]}, ConfigError),
        ({"obs_connectors": [{"$import": "subprocess:Popen"}]}, ConfigError),
        ({"obs_connectors": 3}, CheckpointError),
        ({"connector_state": 3}, CheckpointError),
        ({"connector_state": [1, 2, 3]}, (CheckpointError, ConfigError)),
        ({"version": "x"}, CheckpointError),
        ({"tensors": {}}, CheckpointError),
        ({"tensors": None}, CheckpointError),
        ({"tensors": {"policy.weight_0": torch.zeros(1)}}, CheckpointError),
    ],
)
def test_a_damaged_policy_is_refused_with_our_errors_only(change, error):
    with pytest.raises(error):
        Policy.from_state({**make_policy().get_state(), **change})


def test_a_missing_part_is_refused():
    for key in make_policy().get_state():
        state = make_policy().get_state()
        del state[key]
        with pytest.raises(CheckpointError):
            Policy.from_state(state)


def test_the_required_connector_is_added_only_where_the_module_needs_it():
    class TakesAnything(Own):
        flatten_observations = False

    nested = NestedEnv().observation_space
    assert len(with_required_connector(SPEC, nested, ACTION, [])) == 1
    assert with_required_connector(SPEC, VECTOR, ACTION, []) == []
    assert with_required_connector(ModuleSpec(module_class=TakesAnything, model_config={}), nested, ACTION, []) == []


def test_weights_of_another_module_are_refused_and_change_nothing():
    policy, other = make_policy(), make_policy(ModuleSpec(model_config=ModelSettings(fcnet_hiddens=(5,))))
    before = {name: tensor.clone() for name, tensor in policy.module.state_dict().items()}
    from rl_core import Weights

    with pytest.raises(CheckpointError, match="do not fit ActorCritic: .* has shape"):
        policy.set_weights(Weights(version=9, tensors=dict(other.module.state_dict())))
    assert policy.version == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.module.state_dict().items())


def test_a_policy_goes_without_the_parts_that_only_a_learner_needs():
    policy = make_policy(ModuleSpec(module_class=WithCritic, model_config={}), seed=4)
    assert not hasattr(policy.module, "critic")
    assert not any(parameter.requires_grad for parameter in policy.module.parameters())
    assert all(not name.startswith("critic") for name in policy.get_state()["tensors"])
    whole = policy.build_module(seed=4)
    assert whole.critic.weight.requires_grad
    for name, tensor in policy.module.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), "the same seed gives the same weights"
    back = Policy.from_state(policy.get_state())
    assert back.act(OBS)[0] == policy.act(OBS)[0]


def test_an_instance_given_as_module_keeps_the_parts_that_only_a_learner_needs():
    module = WithCritic(VECTOR, ACTION)
    policy = make_policy(ModuleSpec(module_class=module, model_config={}))
    assert hasattr(module, "critic")
    assert torch.equal(policy.build_module(seed=0).critic.weight, module.critic.weight)


def test_an_observation_that_makes_numbers_nan_is_refused():
    policy = make_policy()
    with pytest.raises(ValueError, match="act: the module gave NaN for this observation. Look for NaN in it"):
        policy.act(np.array([np.nan, 0.0], np.float32))
    action, _ = policy.act(OBS)
    assert action in range(5, 8)
